"""Whom to recommend to: ids from a text, CSV or Parquet file, or from the SavedModel itself, in batches."""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
import pyarrow as pa
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems

from tf_hqgnn.data.parquet_file import open_parquet
from tf_hqgnn.types import InputError

ALL = "all"
COLUMN = "user_id"
WRONG_COLUMN_COUNT = "wrong number of columns"

# One row read: its number in the file from 1, its id as it was found, and what is wrong with it, if that is known.
ROWS = pa.schema([("file", pa.int32()), ("row", pa.int64()), (COLUMN, pa.binary()), ("fault", pa.string())])

_BATCH_ROWS = 1 << 16
_BATCH_BYTES = 1 << 21
_VARIABLE = "_user_ids/_ids/.ATTRIBUTES/VARIABLE_VALUE"
_ID_TYPES = (
    pa.types.is_string,
    pa.types.is_large_string,
    pa.types.is_binary,
    pa.types.is_large_binary,
    pa.types.is_integer,
    pa.types.is_null,
)


@dataclass(frozen=True)
class Source:
    """What one worker reads at a time.

    Args:
      kind: "model", "text", "csv" or "parquet".
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
    """What Beam's file systems know of the files that `users` names, a path or a pattern; none for "all".

    Raises:
      InputError: There are none.
    """
    if users == ALL:
        return []
    try:
        found = FileSystems.match([users])[0].metadata_list
    except (beam.io.filesystem.BeamIOError, ValueError) as error:
        raise InputError(f"--users {users}: {' '.join(str(error).split())}") from error
    if not found:
        raise InputError(f"--users {users}: no such file; expected ids one a line, CSV or Parquet, or the word {ALL}")
    return sorted(found, key=lambda metadata: metadata.path)


def find_sources(users: str, paths: list[str], model: str) -> tuple[list[Source], int]:
    """How to read the users, and about how many there are.

    Raises:
      InputError: A file can't be read, or has no column `user_id`; or "all" was asked of a model that doesn't say who
        they are.
    """
    if users == ALL:
        return [Source("model", 0, model)], _reader(model).get_variable_to_shape_map()[_VARIABLE][0]
    sources: list[Source] = []
    num_users = 0
    for number, path in enumerate(paths):
        name = path.lower().removesuffix(".gz").removesuffix(".bz2")
        if name.endswith(".parquet"):
            with FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED) as handle:
                rows = _row_groups(path, handle)
            sources += [Source("parquet", number, path, group, first) for group, first in rows[:-1]]
            num_users += rows[-1][1] - 1
        elif name.endswith((".tfrecord", ".tfrecords", ".json", ".jsonl", ".xlsx", ".npz", ".pb")):
            raise InputError(f"--users {path}: expected a text file of one id a line, .csv or .parquet")
        else:
            kind = "csv" if name.endswith(".csv") else "text"
            with FileSystems.open(path) as handle:
                head = handle.read(1 << 16)
            if kind == "csv":
                _column(path, next(iter(_csv_rows(path, io.BytesIO(head))), []))
            # Of a compressed file, this is an underestimate.
            per_user = max(1.0, len(head) / max(1, head.count(b"\n")))
            num_users += int(FileSystems.match([path])[0].metadata_list[0].size_in_bytes / per_user) + 1
            sources.append(Source(kind, number, path))
    return sources, num_users


class ReadUsers(beam.DoFn):
    """Sources to record batches of the schema `ROWS`."""

    def process(self, source: Source) -> Iterator[pa.RecordBatch]:
        """Batches of 65,536 rows or 2 MB, whichever is less."""
        if source.kind == "text":
            yield from _read_text(source)
        elif source.kind == "csv":
            yield from _read_csv(source)
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
    with FileSystems.open(source.path) as file:
        start = file.read(3)
        rest = b"" if start == b"\xef\xbb\xbf" else start
        while block := file.read(_BATCH_BYTES):
            text = rest + block
            *lines, rest = text.split(b"\n")
            yield _batch(source, row, [line.removesuffix(b"\r") for line in lines] if b"\r" in text else lines)
            row += len(lines)
    if rest:
        yield _batch(source, row, [rest.removesuffix(b"\r")])


def _read_csv(source: Source) -> Iterator[pa.RecordBatch]:
    with FileSystems.open(source.path) as file:
        rows = _csv_rows(source.path, file)
        header = next(rows, [])
        column, width = _column(source.path, header), len(header)
        first = source.first_row
        while chunk := list(itertools.islice(rows, _BATCH_ROWS)):
            good = [len(row) == width for row in chunk]
            ids = [row[column] if right else ",".join(row) for row, right in zip(chunk, good)]
            faults = None if all(good) else [None if right else WRONG_COLUMN_COUNT for right in good]
            yield _batch(source, first, [text.encode("utf-8", "surrogateescape") for text in ids], faults)
            first += len(chunk)


def _csv_rows(path: str, file: Any) -> Iterator[list[str]]:
    """The rows of a CSV file, blank lines left out as every reader does it; what isn't UTF-8 is escaped."""
    text = io.TextIOWrapper(io.BufferedReader(_Raw(file)), "utf-8-sig", "surrogateescape", newline="")
    reader = csv.reader(text)
    try:
        yield from (row for row in reader if row)
    except csv.Error as error:
        raise InputError(f"{path}, line {reader.line_num}: not CSV: {error}") from error


class _Raw(io.RawIOBase):
    """What TextIOWrapper needs, over a file of Beam's."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._file.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


def _column(path: str, header: list[str]) -> int:
    if header.count(COLUMN) != 1:
        found = ", ".join(header[:10]) or "nothing"
        raise InputError(f"--users {path}: expected one column {COLUMN} in the header, found {found}")
    return header.index(COLUMN)


def _row_groups(path: str, handle: Any) -> list[tuple[int, int]]:
    """`(row group, its first row)`, and after the last one where it would begin."""
    file = open_parquet(handle, f"--users {path}")
    _column(path, file.schema_arrow.names)
    kind = file.schema_arrow.field(COLUMN).type
    value = kind.value_type if pa.types.is_dictionary(kind) else kind
    if not any(is_type(value) for is_type in _ID_TYPES):
        raise InputError(f"--users {path}: column {COLUMN} is of type {kind}; expected strings or integers, cast it")
    sizes = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
    return list(enumerate(itertools.accumulate(sizes, initial=1)))


def _parquet_ids(source: Source) -> pa.Array:
    with FileSystems.open(source.path, compression_type=CompressionTypes.UNCOMPRESSED) as handle:
        file = open_parquet(handle, f"--users {source.path}")
        column = file.read_row_group(source.row_group, columns=[COLUMN]).column(0)
    ids = (
        pa.concat_arrays([_plain(chunk) for chunk in column.chunks]) if column.num_chunks else pa.array([], pa.binary())
    )
    return ids


def _plain(ids: pa.Array) -> pa.Array:
    """Ids as binary, whatever they were."""
    if pa.types.is_dictionary(ids.type):
        ids = ids.dictionary_decode()
    if pa.types.is_integer(ids.type):
        ids = ids.cast(pa.string())
    return ids.cast(pa.binary())


def _model_ids(model: str) -> Any:
    """Bytes [U]."""
    return _reader(model).get_tensor(_VARIABLE)


def _reader(model: str) -> Any:
    """The variables of a SavedModel.

    Raises:
      InputError: It holds no ids of users.
    """
    import tf_hqgnn  # noqa: F401  Chooses Keras 2 before TensorFlow is imported.

    import tensorflow as tf  # isort: skip

    try:
        reader = tf.train.load_checkpoint(f"{model}/variables/variables")
    except (tf.errors.OpError, ValueError) as error:
        raise InputError(f"--model {model}: its variables can't be read: {' '.join(str(error).split())}") from error
    if not reader.has_tensor(_VARIABLE):
        raise InputError(f"--users {ALL}: {model} doesn't say who its users are; name a file of ids instead")
    return reader
