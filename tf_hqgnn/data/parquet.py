"""Parquet files of interactions."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa

from tf_hqgnn.data.chunks import (
    EVENT_COLUMN,
    ID_COLUMNS,
    LARGEST,
    MISSING_EVENT,
    NEGATIVE_WEIGHT,
    NUMBER_COLUMNS,
    UNDECODABLE,
    Chunk,
    Chunks,
    bad_id,
    check_columns,
    dictionary,
    not_finite,
)
from tf_hqgnn.data.column_names import STANDARD_NAMES, ColumnNames
from tf_hqgnn.data.ids import MISSING, id_faults
from tf_hqgnn.data.parquet_columns import check_type, is_text, to_strings, value_type
from tf_hqgnn.data.parquet_file import open_parquet, read_batches
from tf_hqgnn.data.report import BadRowLog
from tf_hqgnn.data.timestamps import column_to_seconds
from tf_hqgnn.types import Float64Array, FloatArray

_BATCH_ROWS = 1 << 19


def read_parquet(path: Path, log: BadRowLog, columns: ColumnNames = STANDARD_NAMES) -> Chunks:
    """Yields the good rows of a Parquet file, and notes the others in `log`; "line" is the row's number from 1.

    Ids are strings, binary (UTF-8), integers or dictionaries of these; numbers are of any numeric type, and `timestamp`
    also of Parquet's timestamp and date types (then seconds since 1970), or text as in CSV. A null or blank id
    is missing, a null number is bad.

    Args:
      path: the file.
      log: collects bad rows, and the names of columns that aren't read.
      columns: what columns are called in the file.

    Raises:
      InputError: The file isn't Parquet, or lacks a column, or a column has a type that can't be read.
    """
    file = open_parquet(path, str(path), "expected one, or set data.format")
    names = file.schema_arrow.names
    check_columns(path, names, columns)
    log.note_unused(columns.unused(names))
    wanted = [*ID_COLUMNS, *columns.present(names)]
    for column in wanted:
        check_type(file, str(path), columns[column], expected_types(column))
    line = 1
    # A column may be two things at once, such as a rating that is also the weight.
    for batch in read_batches(file, str(path), list(dict.fromkeys(columns[column] for column in wanted)), _BATCH_ROWS):
        named = pa.RecordBatch.from_arrays([batch.column(columns[column]) for column in wanted], wanted)
        yield good_rows(str(path), named, line, log)
        line += len(batch)


def expected_types(column: str) -> tuple[str, ...]:
    """The types that a column may be of, as of `check_type`."""
    if column in ID_COLUMNS:
        return "strings", "integers"
    if column == EVENT_COLUMN:
        return "strings", "integers"
    return ("numbers", "times", "strings") if column == "timestamp" else ("numbers",)


def good_rows(name: str, batch: pa.RecordBatch, line: int, log: BadRowLog) -> Chunk:
    """The good rows of a batch; the others are noted.

    Args:
      name: of the file, for the log of bad rows.
      batch: with the columns of ids, and those of numbers and events that the file has.
      line: the number of the first row.
      log: collects bad rows.
    """
    columns = dict(zip(batch.schema.names, batch.columns))
    numbers = [column for column in NUMBER_COLUMNS if column in columns]
    texts = [column for column in (*ID_COLUMNS, EVENT_COLUMN) if column in columns]
    # The first fault found in a row is the one that counts.
    fault = np.full(len(batch), -1, np.int8)
    kinds = [UNDECODABLE]
    ids, distinct = {}, {}
    for column in texts:
        ids[column], undecodable = to_strings(columns[column])
        fault[undecodable] = 0
    for column in ID_COLUMNS:
        # Distinct ids are fewer.
        distinct[column] = dictionary(ids[column])
        is_good = not distinct[column].null_count and not any(
            mask.any() for mask in id_faults(distinct[column].dictionary).values()
        )
        for what, mask in () if is_good else id_faults(ids[column]).items():
            kinds.append(bad_id(column, what))
            fault[mask & (fault < 0)] = len(kinds) - 1
    values = {}
    for column in numbers:
        kinds.append(not_finite(column))
        values[column] = _floats(columns[column])
        fault[~(np.abs(values[column]) <= LARGEST[column]) & (fault < 0)] = len(kinds) - 1
        if column == "weight":
            kinds.append(NEGATIVE_WEIGHT)
            fault[(values[column] < 0) & (fault < 0)] = len(kinds) - 1
    if EVENT_COLUMN in ids:
        kinds.append(MISSING_EVENT)
        fault[id_faults(ids[EVENT_COLUMN])[MISSING] & (fault < 0)] = len(kinds) - 1
        distinct[EVENT_COLUMN] = dictionary(ids[EVENT_COLUMN])
    bad = np.flatnonzero(fault >= 0)
    for row in bad.tolist():
        content = {column: _value(cells[row]) for column, cells in columns.items()}
        text = json.dumps(content, default=str, ensure_ascii=False).encode("utf-8", "surrogateescape")
        kind = kinds[fault[row]]
        value = next((str(content[column]).encode() for column in numbers if kind == not_finite(column)), None)
        log.add(name, kind, line + row, text, value)
    mask = np.asarray(fault < 0)
    good = pa.array(mask)
    kept = {column: dictionary(ids[column].filter(good)) if len(bad) else distinct[column] for column in texts}
    timestamp, rating, weight = (values[column][mask] if column in values else None for column in NUMBER_COLUMNS)
    return Chunk(kept["user_id"], kept["item_id"], timestamp, rating, weight, kept.get(EVENT_COLUMN))


def _value(scalar: pa.Scalar) -> object:
    """A cell for the quarantine file."""
    if isinstance(scalar, pa.DictionaryScalar):
        scalar = scalar.value
    try:
        return scalar.as_py()
    except UnicodeDecodeError:
        return scalar.as_buffer().to_pybytes()


def _floats(column: pa.Array) -> Float64Array:
    """Numbers or times as float64 [n], nulls as NaN."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    kind = value_type(column.type)
    if is_text(kind):
        return column_to_seconds(to_strings(column)[0])
    if pa.types.is_float16(kind):
        # Arrow can't cast it.
        halves: FloatArray = column.to_numpy(zero_copy_only=False)
        return halves.astype(np.float64)
    scale = 1.0
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        unit = kind.unit if pa.types.is_timestamp(kind) else "ms"
        scale = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}[unit]
        column = column.cast(pa.timestamp(unit)).cast(pa.int64())
    numbers: Float64Array = column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    return numbers / scale
