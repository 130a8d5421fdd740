"""How every Parquet file is opened, whoever wrote it; what can't be opened is refused in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tf_hqgnn.types import InputError


def open_parquet(source: Path | Any, name: str, cure: str = "expected one") -> pq.ParquetFile:
    """Opens a Parquet file and reads its schema.

    Args:
      source: a path, or a binary file.
      name: what messages call it.
      cure: what to do about a file of another kind.

    Raises:
      InputError: It isn't Parquet, or holds a type that only its author's Python code can read.
    """
    try:
        file = pq.ParquetFile(source)
        _ = file.schema_arrow
    except RuntimeError as error:
        # The hotfix's refusal is a page of disassembled pickle.
        if "py_extension_type" not in str(error):
            raise
        raise InputError(
            f"{name}: a column is of a pickled Python type, which can run any code of the file's author when it is "
            "read; write that column as plain numbers or strings, or leave it out"
        ) from error
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(f"{name}: not a Parquet file ({' '.join(str(error).split())[:100]}); {cure}") from error
    return file


def read_parquet_table(path: Path) -> pa.Table:
    """Reads a whole file.

    Raises:
      InputError: See `open_parquet`.
    """
    return open_parquet(path, str(path)).read()
