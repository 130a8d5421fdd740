"""The users of a batch: ids from text, tables or Parquet, or from the SavedModel itself, in batches."""

from __future__ import annotations

import io
import itertools
import posixpath
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import apache_beam as beam
import pyarrow as pa
import pyarrow.compute as pc
from apache_beam.io.filesystem import BeamIOError, CompressionTypes
from apache_beam.io.filesystems import FileSystems

from tf_hqgnn.beam.mistakes import noted
from tf_hqgnn.beam.places import find
from tf_hqgnn.data.arrow_text import read_columns
from tf_hqgnn.data.chunks import BROKEN_QUOTING, REPEATED_HEADER
from tf_hqgnn.data.compression import SUFFIXES
from tf_hqgnn.data.id_lines import check_id_lines
from tf_hqgnn.data.input_file import check_regular, input_parts, readable, text_of
from tf_hqgnn.data.lines import line_blocks
from tf_hqgnn.data.parquet_columns import check_type, to_bytes
from tf_hqgnn.data.parquet_file import open_parquet, read_row_group
from tf_hqgnn.data.records import records
from tf_hqgnn.data.text_table import TABLE_SUFFIXES, TextTable, names_column
from tf_hqgnn.export.layout import USER_IDS
from tf_hqgnn.types import InputError

if TYPE_CHECKING:
    from tf_hqgnn.export.stored import StoredModel

ALL = "all"
COLUMN = "user_id"
WRONG_COLUMN_COUNT = "wrong number of columns"
# The header once more, in the middle of joined files.
_HEADERS = (COLUMN.encode(), f"\ufeff{COLUMN}".encode(), f"{COLUMN}:token".encode())

# One row read: its number in the file from 1, its id as it was found, and what is wrong with it, if that is known.
ROWS = pa.schema([("file", pa.int32()), ("row", pa.int64()), (COLUMN, pa.binary()), ("fault", pa.string())])

_BATCH_ROWS = 1 << 16
_BATCH_BYTES = 1 << 21
_ID_TYPES = ("strings", "integers", "nulls")
_HEAD_BYTES = 1 << 16
_PARQUET = (".parquet", ".pq")
_OTHERS = (".tfrecord", ".tfrecords", ".json", ".jsonl", ".xlsx", ".npz", ".pb")
_EXPECTED = "expected a text file of one id a line, .csv or .parquet (or .tsv, .inter) with a column user_id"


@dataclass(frozen=True)
class Source:
    """What one worker reads at a time.

    Args:
      kind: "model", "text" (an id a line), "table" (with a header) or "parquet".
      file: its number in the list of files.
      path: of the file, or of the SavedModel.
      row_group: of a Parquet file.
      first_row: the number of its first row, from 1.
    """

    kind: str
    file: int
    path: str
    row_group: int = 0
    first_row: int = 1


def find_files(users: str) -> list[Any]:
    """What Beam's file systems know of the files that `users` names; none for "all".

    Args:
      users: a path, which comes first; a folder with part files (`_*` and `.*` are passed over); or a pattern.

    Raises:
      InputError: There are none, or one isn't a regular file.
    """
    if users == ALL:
        return []
    try:
        is_local = FileSystems.get_scheme(users) is None
        if is_local and Path(users).is_dir():
            found = [_metadata(str(part)) for part in input_parts(Path(users), "users", "--users")]
        elif FileSystems.exists(users):
            found = [_metadata(users)]
        else:
            found = find(users) or [
                file for file in find(f"{users.rstrip('/')}/*") if not _name(file.path).startswith(("_", "."))
            ]
    except (OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"--users {users}: {' '.join(str(error).split())}") from error
    if not found:
        raise InputError(f"--users {users}: no such file; expected ids one a line, CSV or Parquet, or the word {ALL}")
    if is_local:
        for file in found:
            check_regular(Path(file.path))
    return sorted(found, key=lambda metadata: metadata.path)


def _metadata(path: str) -> Any:
    """Of a path that isn't a pattern, whatever characters it has."""
    return FileSystems.get_filesystem(path).metadata(path)


def _name(path: str) -> str:
    return path.rpartition("/")[2]


def find_sources(users: str, paths: list[str], model: str) -> tuple[list[Source], int]:
    """How to read the users, and about how many there are.

    Raises:
      InputError: A file can't be read, or has no column `user_id`; or "all" was asked of a model that doesn't say who
        they are.
    """
    if users == ALL:
        return [Source("model", 0, model)], _stored_users(model).size(USER_IDS)
    sources: list[Source] = []
    num_users = 0
    for number, path in enumerate(paths):
        suffix = _suffix(path)
        with _open(path) as handle:
            is_parquet = suffix in _PARQUET or handle.read(4) == b"PAR1"
            handle.seek(0)
            if is_parquet:
                rows = _row_groups(path, handle)
                sources += [Source("parquet", number, path, group, first) for group, first in rows[:-1]]
                num_users += rows[-1][1] - 1
                continue
        if suffix in _OTHERS:
            raise InputError(f"--users {path}: {_EXPECTED}")
        with _open_text(path) as stream:
            head = stream.read(_HEAD_BYTES)
        kind = _kind(path, suffix, head)
        # Of a compressed file, this is an underestimate.
        per_user = max(1.0, len(head) / max(1, head.count(b"\n")))
        num_users += int(_metadata(path).size_in_bytes / per_user) + 1
        sources.append(Source(kind, number, path))
    return sources, num_users


def _kind(path: str, suffix: str, head: bytes) -> str:
    """Whether a text is a table with a header, or a list of ids."""
    if suffix in TABLE_SUFFIXES or names_column(head, COLUMN):
        table = TextTable(io.BufferedReader(io.BytesIO(head)), f"--users {path}", COLUMN)
        _column(path, table.names)
        return "table"
    check_id_lines(head, f"--users {path}", COLUMN)
    return "text"


def _suffix(path: str) -> str:
    """The extension, that of compression left out."""
    base, suffix = posixpath.splitext(path.lower())
    return posixpath.splitext(base)[1] if suffix in SUFFIXES else suffix


def _open(path: str) -> Any:
    try:
        return FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED)
    except (BeamIOError, OSError) as error:
        raise InputError(f"--users {path}: {' '.join(str(error).split())}; {_EXPECTED}") from error


def _open_text(path: str) -> io.BufferedReader:
    name = f"--users {path}"
    return text_of(readable(_open(path), name), name)


class ReadUsers(beam.DoFn):
    """Sources to record batches of the schema `ROWS`."""

    @noted
    def process(self, source: Source) -> Iterator[pa.RecordBatch]:
        """Batches of 65,536 rows or 2 MB, whichever is less."""
        if source.kind == "text":
            yield from _read_text(source)
        elif source.kind == "table":
            yield from _read_table(source)
        else:
            ids = _model_ids(source.path) if source.kind == "model" else _parquet_ids(source)
            for start in range(0, len(ids), _BATCH_ROWS):
                yield _batch(source, source.first_row + start, ids[start : start + _BATCH_ROWS])


def _batch(source: Source, first_row: int, ids: Any, faults: list[str | None] | None = None) -> pa.RecordBatch:
    size = len(ids)
    rows = pa.array(range(first_row, first_row + size), pa.int64())
    wrong = pa.nulls(size, pa.string()) if faults is None else pa.array(faults, pa.string())
    ids = ids.cast(pa.binary()) if isinstance(ids, pa.Array) else pa.array(ids, pa.binary())
    return pa.record_batch([pa.array([source.file] * size, pa.int32()), rows, ids, wrong], schema=ROWS)


def _read_text(source: Source) -> Iterator[pa.RecordBatch]:
    row = source.first_row
    with _open_text(source.path) as file:
        for lines in line_blocks(file, f"--users {source.path}", _BATCH_BYTES):
            yield _batch(source, row, lines)
            row += len(lines)


def _read_table(source: Source) -> Iterator[pa.RecordBatch]:
    row = source.first_row
    with _open_text(source.path) as stream:
        table = TextTable(stream, f"--users {source.path}", COLUMN, block_bytes=_BATCH_BYTES)
        column, width = _column(source.path, table.names), len(table.names)
        for block, line in table.blocks():
            ids, faults = _column_of(block, line, table.delimiter, column, width)
            for start in range(0, len(ids), _BATCH_ROWS):
                some = slice(start, start + _BATCH_ROWS)
                yield _batch(source, row + start, ids[some], None if faults is None else faults[some])
            row += len(ids)


def _column_of(
    block: bytes, line: int, delimiter: bytes, column: int, width: int
) -> tuple[Any, list[str | None] | None]:
    """The ids of whole rows, and what is wrong with each row, None if nothing is; a bad row is its own id."""
    if not block.strip(b"\r\n"):
        return [], None
    regular = read_columns(block, delimiter, width, {column: pa.binary()})
    if regular is not None:
        found = pa.concat_arrays(regular.column(0).chunks)
        if not any(pc.any(pc.equal(found, name)).as_py() for name in _HEADERS):
            return found, None
    ids: list[bytes] = []
    faults: list[str | None] = []
    for record in records(block, delimiter, line):
        if record.fields is None or len(record.fields) != width:
            ids.append(record.text)
            faults.append(BROKEN_QUOTING if record.fields is None else WRONG_COLUMN_COUNT)
        else:
            ids.append(record.fields[column])
            faults.append(REPEATED_HEADER if ids[-1] in _HEADERS else None)
    return ids, faults


def _column(path: str, header: list[str]) -> int:
    if header.count(COLUMN) != 1:
        found = ", ".join(header[:10]) or "nothing"
        raise InputError(f"--users {path}: expected one column {COLUMN} in the header, found {found}")
    return header.index(COLUMN)


def _row_groups(path: str, handle: Any) -> list[tuple[int, int]]:
    """`(row group, its first row)`, and after the last one where it would begin."""
    file = open_parquet(handle, f"--users {path}")
    _column(path, file.schema_arrow.names)
    check_type(file, f"--users {path}", COLUMN, _ID_TYPES)
    sizes = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
    return list(enumerate(itertools.accumulate(sizes, initial=1)))


def _parquet_ids(source: Source) -> pa.Array:
    name = f"--users {source.path}"
    with _open(source.path) as handle:
        column = read_row_group(open_parquet(handle, name), name, source.row_group, [COLUMN]).column(0)
    return pa.concat_arrays([to_bytes(chunk) for chunk in column.chunks] or [pa.array([], pa.binary())])


def _model_ids(model: str) -> Any:
    """Bytes [U]."""
    return _stored_users(model).read(USER_IDS)


def _stored_users(model: str) -> StoredModel:
    """The variables of a SavedModel.

    Raises:
      InputError: They can't be read, or hold no ids of users.
    """
    import tf_hqgnn  # noqa: F401  Chooses Keras 2 before TensorFlow is imported.

    from tf_hqgnn.export.stored import StoredModel  # isort: skip

    try:
        stored = StoredModel(model)
    except InputError as error:
        raise InputError(f"--model {error}") from error
    if USER_IDS not in stored:
        raise InputError(f"--users {ALL}: {model} doesn't say who its users are; name a file of ids instead")
    return stored
