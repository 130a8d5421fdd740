"""How every Parquet file is opened and read, whoever wrote it; what can't be is refused in one line."""

from __future__ import annotations

import inspect
import io
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tf_hqgnn.data.compression import compression_of
from tf_hqgnn.data.input_file import check_regular
from tf_hqgnn.data.parquet_footer import readable_footer
from tf_hqgnn.types import InputError

# Spark's old times in 96 bits reach beyond what nanoseconds can say. Newer releases can check pages by their checksums.
_OPTIONS: dict[str, Any] = {"coerce_int96_timestamp_unit": "us"}
if "page_checksum_verification" in inspect.signature(pq.ParquetFile.__init__).parameters:
    _OPTIONS["page_checksum_verification"] = True
# Damage shows in many ways: wrong lengths, unknown encodings, text that isn't, too much memory asked for.
_DAMAGE = (pa.ArrowException, OSError, ValueError, MemoryError, OverflowError)
_MAGIC, _ENCRYPTED = b"PAR1", b"PARE"


class ParquetFile(pq.ParquetFile):
    """pyarrow's, with the columns that the installed release can't read, and their types."""

    def __init__(self, *arguments: Any, unreadable: dict[str, str] | None = None, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.unreadable = unreadable or {}


def open_parquet(source: Path | Any, name: str, cure: str = "expected one") -> ParquetFile:
    """Opens a Parquet file and reads its schema.

    A type that this pyarrow doesn't know doesn't matter unless its column is read.

    Args:
      source: a path, or a binary file.
      name: what messages call it.
      cure: what to do about a file of another kind.

    Raises:
      InputError: It isn't Parquet, or holds a type that only its author's Python code can read.
    """
    try:
        if isinstance(source, Path):
            check_regular(source)
        kind = compression_of(_head(source))
        if kind is not None:
            raise InputError(
                f"{name}: the file is compressed with {kind}, and Parquet can't be read through that; decompress it "
                "(Parquet compresses within)"
            )
        file = ParquetFile(source, **_OPTIONS)
        # A name that isn't UTF-8 shows only when it is asked for.
        _ = file.schema_arrow.names
    except RuntimeError as error:
        # The hotfix's refusal is a page of disassembled pickle.
        if "py_extension_type" not in str(error):
            raise
        raise InputError(
            f"{name}: a column is of a pickled Python type, which can run any code of the file's author when it is "
            "read; write that column as plain numbers or strings, or leave it out"
        ) from error
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        if isinstance(error, InputError):
            raise
        if _tail(source) == _ENCRYPTED or "encrypt" in str(error) or "decrypt" in str(error):
            raise InputError(f"{name}: the Parquet file is encrypted; write it anew without encryption") from error
        newer = _open_newer(source)
        if newer is None:
            raise InputError(f"{name}: not a Parquet file ({_reason(error)}); {cure}") from error
        return newer
    return file


def read_batches(file: ParquetFile, name: str, columns: Sequence[str], batch_rows: int) -> Iterator[pa.RecordBatch]:
    """Yields batches of some columns, dictionaries decoded.

    Args:
      file: of `open_parquet`.
      name: what messages call it.
      columns: to read.
      batch_rows: of a batch, at most.

    Raises:
      InputError: A row group is damaged, or a column is of a type that the installed pyarrow can't read.
    """
    _check_readable(file, name, columns)
    for group in range(file.num_row_groups):
        rows = 0
        batches = _aligned_batches(file, group, columns, batch_rows)
        while (batch := _guarded(file, name, group, partial(next, batches, None))) is not None:
            rows += len(batch)
            yield batch
        _check_rows(file, name, group, rows)


def read_row_group(file: ParquetFile, name: str, group: int, columns: Sequence[str] | None = None) -> pa.Table:
    """One row group, of all columns if `columns` is None; raises as `read_batches` does."""
    _check_readable(file, name, columns)
    table = _guarded(file, name, group, lambda: _checked(file.read_row_group(group, columns)))
    _check_rows(file, name, group, len(table))
    return table


def read_parquet_table(path: Path) -> pa.Table:
    """Reads a whole file.

    Raises:
      InputError: See `open_parquet` and `read_batches`.
    """
    file = open_parquet(path, str(path))
    groups = [read_row_group(file, str(path), group) for group in range(file.num_row_groups)]
    return pa.concat_tables(groups) if groups else file.schema_arrow.empty_table()


def _head(source: Path | Any) -> bytes:
    if isinstance(source, Path):
        with source.open("rb") as file:
            return file.read(16)
    head = bytes(source.read(16))
    source.seek(0)
    return head


def _tail(source: Path | Any) -> bytes:
    """The last four bytes."""
    try:
        with source.open("rb") if isinstance(source, Path) else _Borrowed(source) as file:
            file.seek(-4, io.SEEK_END)
            tail = bytes(file.read(4))
            file.seek(0)
    except (OSError, ValueError):
        return b""
    return tail


def _open_newer(source: Path | Any) -> ParquetFile | None:
    """A file that names types newer than this pyarrow, without these; None if that isn't what is wrong with it."""
    try:
        with source.open("rb") if isinstance(source, Path) else _Borrowed(source) as file:
            size = file.seek(-8, io.SEEK_END)
            length = int.from_bytes(file.read(4), "little")
            if file.read(4) != _MAGIC or length > size:
                return None
            file.seek(size - length)
            footer = readable_footer(file.read(length))
            file.seek(0)
        if footer is None:
            return None
        end = length.to_bytes(4, "little") + _MAGIC
        metadata = pq.read_metadata(pa.BufferReader(_MAGIC + footer.metadata + end))
        opened = ParquetFile(source, metadata=metadata, unreadable=footer.hidden, **_OPTIONS)
        _ = opened.schema_arrow.names
    except (pa.ArrowException, OSError, ValueError):
        return None
    return opened


class _Borrowed:
    """Lends an open file to a `with` block, which leaves it open."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def __enter__(self) -> Any:
        return self._file

    def __exit__(self, *_: object) -> None:
        pass


def _check_readable(file: ParquetFile, name: str, columns: Sequence[str] | None) -> None:
    for column, kind in file.unreadable.items():
        if columns is None or column in columns:
            raise InputError(
                f"{name}: column {column} is of type {kind}, which pyarrow {pa.__version__} can't read; write it as "
                "float or string, or install a newer pyarrow"
            )


def _aligned_batches(
    file: ParquetFile, group: int, columns: Sequence[str], batch_rows: int
) -> Iterator[pa.RecordBatch]:
    """Batches of a row group, dictionaries decoded; raises ValueError where a column ends before another.

    Every column is read by itself: pyarrow 10 crashes where damage makes them differ in length.
    """
    readers = [file.iter_batches(batch_rows, row_groups=[group], columns=[name]) for name in columns]
    rest = [pa.nulls(0)] * len(columns)
    while True:
        for place, reader in enumerate(readers):
            while not len(rest[place]) and (batch := next(reader, None)) is not None:
                # An index beyond its dictionary is damage, too, and shows here.
                values = batch.column(0)
                rest[place] = values.dictionary_decode() if pa.types.is_dictionary(values.type) else values
        size = min(map(len, rest))
        if size == 0:
            if any(map(len, rest)):
                raise ValueError("its columns have different numbers of rows")
            return
        yield pa.record_batch([values.slice(0, size) for values in rest], names=list(columns))
        rest = [values.slice(size) for values in rest]


def _checked(table: pa.Table) -> pa.Table:
    """The table, unless an index is beyond its dictionary."""
    for column in table.columns:
        if pa.types.is_dictionary(column.type):
            for chunk in column.chunks:
                chunk.dictionary_decode()
    return table


def _check_rows(file: ParquetFile, name: str, group: int, rows: int) -> None:
    expected = file.metadata.row_group(group).num_rows
    if rows != expected:
        raise InputError(_damaged(file, name, group, f"{rows:,} rows instead of {expected:,}"))


def _guarded(file: ParquetFile, name: str, group: int, read: Any) -> Any:
    try:
        return read()
    except pa.ArrowNotImplementedError as error:
        raise InputError(
            f"{name}: row group {group + 1} of {file.num_row_groups} can't be read by pyarrow {pa.__version__} "
            f"({_reason(error)}); write the file with other settings, or install a newer pyarrow"
        ) from error
    except _DAMAGE as error:
        raise InputError(_damaged(file, name, group, _reason(error))) from error


def _damaged(file: ParquetFile, name: str, group: int, reason: str) -> str:
    return (
        f"{name}: row group {group + 1} of {file.num_row_groups} is damaged ({reason}); copy the file again, or write "
        "it anew"
    )


def _reason(error: BaseException) -> str:
    return " ".join(str(error).split())[:100] or type(error).__name__
