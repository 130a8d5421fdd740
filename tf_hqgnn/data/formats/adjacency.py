"""Lists of neighbours, as the authors of LightGCN publish their logs."""

from __future__ import annotations

import re
from pathlib import Path

from tf_hqgnn.data.adjacency import read_adjacency
from tf_hqgnn.data.chunks import Chunks
from tf_hqgnn.data.formats.input_format import INPUT_FORMATS, InputFormat
from tf_hqgnn.data.report import BadRowLog

# What separates columns, and doesn't occur in lists.
_SEPARATORS = re.compile(rb"[\t,;|]|::")


@INPUT_FORMATS.register("adjacency")
class Adjacency(InputFormat):
    """Lines of a user and the items that it took, separated by blanks, without a header.

    Example:
      >>> Adjacency().recognizes([b"0 11 12 13", b"1 12"])
      True
    """

    def read(self, path: Path, log: BadRowLog) -> Chunks:
        """See `InputFormat`."""
        return read_adjacency(path, log)

    def recognizes(self, lines: list[bytes]) -> bool:
        """See `InputFormat`.

        Lines of a table have the same number of columns, lists as a rule don't. Lines of two words are pairs either
        way, unless the first is a header.
        """
        if any(_SEPARATORS.search(line) or b"\0" in line for line in lines):
            return False
        rows = [line.split() for line in lines]
        widths = {len(row) for row in rows}
        if widths == {2}:
            first_is_words = not any(word.isdigit() for word in rows[0])
            return not (first_is_words and len(rows) > 1 and all(word.isdigit() for row in rows[1:] for word in row))
        return max(widths, default=0) > 1 and (len(rows) == 1 or len(widths) > 1)
