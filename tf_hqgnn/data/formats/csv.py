"""Delimited text with a header: CSV and its dialects."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from tf_hqgnn.data.chunks import Chunks
from tf_hqgnn.data.delimited import read_delimited
from tf_hqgnn.data.formats.input_format import INPUT_FORMATS, InputFormat
from tf_hqgnn.data.formats.inter import Inter
from tf_hqgnn.data.report import BadRowLog


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
        return read_delimited(path, log)

    def recognizes(self, lines: list[bytes]) -> bool:
        """See `InputFormat`."""
        return any(name in lines[0] for name in (b"user_id", b"item_id")) and not Inter().recognizes(lines)
