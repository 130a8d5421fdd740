"""RecBole's atomic files."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from tf_hqgnn.data.chunks import ID_COLUMNS, Chunks
from tf_hqgnn.data.delimited import read_delimited
from tf_hqgnn.data.formats.input_format import INPUT_FORMATS, InputFormat
from tf_hqgnn.data.report import BadRowLog


@INPUT_FORMATS.register("inter")
class Inter(InputFormat):
    r"""Tab-separated text whose first line names columns and their types, such as `user_id:token`.

    Example:
      >>> Inter().recognizes([b"user_id:token\titem_id:token"])
      True
    """

    suffixes: ClassVar[tuple[str, ...]] = (".inter",)

    def read(self, path: Path, log: BadRowLog) -> Chunks:
        """See `InputFormat`."""
        return read_delimited(path, log, self.columns, inter=True)

    def recognizes(self, lines: list[bytes]) -> bool:
        """See `InputFormat`."""
        return any(f"{self.columns[name]}:".encode() in lines[0] for name in ID_COLUMNS) and b"::" not in lines[0]
