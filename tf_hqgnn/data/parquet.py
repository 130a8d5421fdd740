"""Parquet files of interactions."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa

from tf_hqgnn.data.chunks import (
    ID_COLUMNS,
    LARGEST,
    NUMBER_COLUMNS,
    UNDECODABLE,
    Chunk,
    Chunks,
    check_columns,
    dictionary,
    missing,
    not_finite,
)
from tf_hqgnn.data.parquet_file import open_parquet
from tf_hqgnn.data.report import BadRowLog
from tf_hqgnn.types import InputError

_BATCH_ROWS = 1 << 19


def read_parquet(path: Path, log: BadRowLog) -> Chunks:
    """Yields the good rows of a Parquet file, and notes the others in `log`; "line" is the row's number from 1.

    Ids are strings, binary (UTF-8), integers or dictionaries of these; numbers are of any numeric type, and `timestamp`
    also of Parquet's timestamp and date types (then seconds since 1970). A null or empty id is missing, a null number
    is bad.

    Args:
      path: the file.
      log: collects bad rows.

    Raises:
      InputError: The file isn't Parquet, or lacks a column, or a column has a type that can't be read.
    """
    file = open_parquet(path, str(path), "expected one, or set data.format")
    names = file.schema_arrow.names
    check_columns(path, names)
    numbers = [name for name in NUMBER_COLUMNS if name in names]
    for name in (*ID_COLUMNS, *numbers):
        _check_type(path, name, file.schema_arrow.field(name).type)
    line = 1
    for batch in file.iter_batches(_BATCH_ROWS, columns=[*ID_COLUMNS, *numbers]):
        yield _chunk(path, batch, numbers, line, log)
        line += len(batch)


def _check_type(path: Path, name: str, kind: pa.DataType) -> None:
    value = kind.value_type if pa.types.is_dictionary(kind) else kind
    types = pa.types
    if name in ID_COLUMNS:
        known = [types.is_string, types.is_large_string, types.is_binary, types.is_large_binary, types.is_integer]
        expected = "strings or integers"
    else:
        known = [types.is_integer, types.is_floating, types.is_decimal]
        known += [types.is_timestamp, types.is_date] if name == "timestamp" else []
        expected = "numbers, or a timestamp" if name == "timestamp" else "numbers"
    if not any(is_type(value) for is_type in known):
        raise InputError(f"{path}: column {name} is of type {kind}; expected {expected}, cast the column")


def _chunk(path: Path, batch: pa.RecordBatch, numbers: list[str], line: int, log: BadRowLog) -> Chunk:
    """The good rows of a batch that starts at row `line`."""
    columns = dict(zip(batch.schema.names, batch.columns))
    # The first fault found in a row is the one that counts.
    fault = np.full(len(batch), -1, np.int8)
    kinds = [UNDECODABLE]
    ids = {}
    for name in ID_COLUMNS:
        ids[name], undecodable = _strings(columns[name])
        fault[undecodable] = 0
    for name in ID_COLUMNS:
        kinds.append(missing(name))
        absent = np.asarray(pa.compute.equal(ids[name], "").fill_null(True))
        fault[absent & (fault < 0)] = len(kinds) - 1
    values = {}
    for name in numbers:
        kinds.append(not_finite(name))
        values[name] = _floats(columns[name])
        fault[~(np.abs(values[name]) <= LARGEST[name]) & (fault < 0)] = len(kinds) - 1
    bad = np.flatnonzero(fault >= 0)
    for row in bad.tolist():
        content = {name: _value(column[row]) for name, column in columns.items()}
        text = json.dumps(content, default=str, ensure_ascii=False).encode("utf-8", "surrogateescape")
        log.add(str(path), kinds[fault[row]], line + row, text)
    good = pa.array(fault < 0)
    mask = np.asarray(fault < 0)
    return Chunk(
        *(dictionary(ids[name].filter(good)) for name in ID_COLUMNS),
        *(values[name][mask] if name in values else None for name in NUMBER_COLUMNS),
    )


def _value(scalar: pa.Scalar) -> object:
    """A cell for the quarantine file."""
    if isinstance(scalar, pa.DictionaryScalar):
        scalar = scalar.value
    try:
        return scalar.as_py()
    except UnicodeDecodeError:
        return scalar.as_buffer().to_pybytes()


def _strings(column: pa.Array) -> tuple[pa.Array, np.ndarray]:
    """Ids as string [n] with nulls, and a boolean mask [n] of those that aren't UTF-8 (null, too)."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    undecodable = np.zeros(len(column), bool)
    try:
        strings = column.cast(pa.utf8())
        strings.validate(full=True)
    except pa.ArrowInvalid:
        values = []
        for row, value in enumerate(column.cast(pa.binary()).to_pylist()):
            try:
                values.append(None if value is None else value.decode())
            except UnicodeDecodeError:
                undecodable[row] = True
                values.append(None)
        strings = pa.array(values, pa.utf8())
    return strings, undecodable


def _floats(column: pa.Array) -> np.ndarray:
    """Numbers or times as float64 [n], nulls as NaN."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    scale = 1.0
    if pa.types.is_timestamp(column.type) or pa.types.is_date(column.type):
        unit = column.type.unit if pa.types.is_timestamp(column.type) else "ms"
        scale = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}[unit]
        column = column.cast(pa.timestamp(unit)).cast(pa.int64())
    return column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False) / scale
