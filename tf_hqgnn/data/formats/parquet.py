"""Apache Parquet."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import pyarrow as pa

from tf_hqgnn.data.chunks import ID_COLUMNS, Chunks
from tf_hqgnn.data.formats.input_format import INPUT_FORMATS, InputFormat
from tf_hqgnn.data.parquet import read_parquet
from tf_hqgnn.data.parquet_file import open_parquet
from tf_hqgnn.data.report import BadRowLog


@INPUT_FORMATS.register("parquet")
class Parquet(InputFormat):
    r"""Columns with types, in row groups.

    Example:
      >>> Parquet().recognizes([b"PAR1\x15\x04"])
      True
    """

    suffixes: ClassVar[tuple[str, ...]] = (".parquet", ".pq")
    is_text: ClassVar[bool] = False

    def read(self, path: Path, log: BadRowLog) -> Chunks:
        """See `InputFormat`."""
        return read_parquet(path, log, self.columns)

    def recognizes(self, lines: list[bytes]) -> bool:
        """See `InputFormat`."""
        return lines[0].startswith(b"PAR1")

    def integer_ids(self, path: Path) -> frozenset[str]:
        """See `InputFormat`."""
        schema = open_parquet(path, str(path)).schema_arrow
        types = {name: schema.field(self.columns[name]).type for name in ID_COLUMNS}
        values = {name: kind.value_type if pa.types.is_dictionary(kind) else kind for name, kind in types.items()}
        return frozenset(name for name, kind in values.items() if pa.types.is_integer(kind))
