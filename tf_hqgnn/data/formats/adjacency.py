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
from tf_hqgnn.types import InputError

# Published lists hold numbers from 0 on, maybe behind the same letters, separated by one blank. Nine digits are a time
# rather than an item.
_ID = re.compile(rb"((?:[A-Za-z][A-Za-z_-]*)?)([0-9]{1,8})")
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
        if self.columns.names:
            raise InputError(f"{path}: lists of neighbours have no columns to rename; leave out data.columns")
        return read_adjacency(path, log)

    def recognizes(self, lines: list[bytes]) -> bool:
        """See `InputFormat`.

        A table whose columns are separated by blanks looks much like lists, so in doubt it isn't taken for lists:
        these must consist of small numbers, their users count up, and their lines differ in length. Letters may be
        before the numbers, the same before all users and the same before all items.
        """
        words = [line.rstrip(b" \t").split(b" ") for line in lines]
        rows = [[match for word in row if (match := _ID.fullmatch(word))] for row in words]
        letters = {row[0][1] for row in rows if row}, {match[1] for row in rows for match in row[1:]}
        if [*map(len, rows)] != [*map(len, words)] or max(map(len, letters)) > 1:
            return False
        if len(rows) == 1:
            return len(rows[0]) >= _WIDE
        widths = Counter(map(len, rows))
        width, count = widths.most_common(1)[0]
        # A line of a user alone is seen in lists, and hardly in tables.
        if set(widths) == {1} or (1 not in widths and width in _TABLE_COLUMNS and count >= _TABLE_SHARE * len(rows)):
            return False
        users = [int(row[0][2]) for row in rows]
        steps = [after - before for before, after in itertools.pairwise(users)]
        # Users without items may be left out.
        return min(steps) > 0 and 2 * steps.count(1) >= len(steps)
