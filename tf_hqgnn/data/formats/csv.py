"""Delimited text with a header: CSV and its dialects."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from tf_hqgnn.data.chunks import ID_COLUMNS, Chunks
from tf_hqgnn.data.delimited import read_delimited
from tf_hqgnn.data.formats.input_format import INPUT_FORMATS, InputFormat
from tf_hqgnn.data.formats.inter import Inter
from tf_hqgnn.data.report import BadRowLog
from tf_hqgnn.data.text_table import hint_of, names_column


@INPUT_FORMATS.register("csv")
class Csv(InputFormat):
    """Text whose first line names the columns, separated by commas, tabs, semicolons or bars.

    Example:
      >>> Csv().recognizes([b"user_id;item_id;rating"])
      True
    """

    suffixes: ClassVar[tuple[str, ...]] = (".csv", ".tsv", ".tab", ".psv")

    def read(self, path: Path, log: BadRowLog) -> Chunks:
        """See `InputFormat`."""
        return read_delimited(path, log, self.columns)

    def recognizes(self, lines: list[bytes]) -> bool:
        """See `InputFormat`."""
        header = lines[1] if hint_of(lines[0]) is not None and len(lines) > 1 else lines[0]
        names = any(names_column(header, self.columns[name]) for name in ID_COLUMNS)
        return names and b"::" not in header and not Inter(self.columns).recognizes(lines)
