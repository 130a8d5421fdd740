"""Lists of neighbours, as the authors of LightGCN publish their logs."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from pathlib import Path

from tf_hqgnn.data.adjacency import read_adjacency
from tf_hqgnn.data.chunks import Chunks
from tf_hqgnn.data.formats.input_format import INPUT_FORMATS, InputFormat
from tf_hqgnn.data.report import BadRowLog

# Published lists hold numbers from 0 on, separated by one blank. Nine digits are a time rather than an item.
_LINE = re.compile(rb"[0-9]{1,8}( [0-9]{1,8})*[ \t]*")
# A single line of so many numbers is no row of a table.
_WIDE = 16
# Rows of so many columns are a table's if they are this share of all.
_TABLE_COLUMNS = range(3, 9)
_TABLE_SHARE = 0.6


@INPUT_FORMATS.register("adjacency")
class Adjacency(InputFormat):
    """Lines of a user and the items that it took, separated by blanks, without a header.

    Example:
      >>> Adjacency().recognizes([b"0 11 12 13", b"1 12", b"2"])
      True
    """

    def read(self, path: Path, log: BadRowLog) -> Chunks:
        """See `InputFormat`."""
        return read_adjacency(path, log)

    def recognizes(self, lines: list[bytes]) -> bool:
        """See `InputFormat`.

        A table whose columns are separated by blanks looks much like lists, so in doubt it isn't taken for lists:
        these must consist of small numbers, their users count up, and their lines differ in length.
        """
        if not all(_LINE.fullmatch(line) for line in lines):
            return False
        rows = [line.split() for line in lines]
        if len(rows) == 1:
            return len(rows[0]) >= _WIDE
        widths = Counter(map(len, rows))
        width, count = widths.most_common(1)[0]
        # A line of a user alone is seen in lists, and hardly in tables.
        if set(widths) == {1} or (1 not in widths and width in _TABLE_COLUMNS and count >= _TABLE_SHARE * len(rows)):
            return False
        users = [int(row[0]) for row in rows]
        steps = [after - before for before, after in itertools.pairwise(users)]
        # Users without items may be left out.
        return min(steps) > 0 and 2 * steps.count(1) >= len(steps)
