"""TFRecord files of tf.Example."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from tf_hqgnn.data.chunks import (
    EVENT_COLUMN,
    ID_COLUMNS,
    MISSING_EVENT,
    NUMBER_COLUMNS,
    UNDECODABLE,
    WRONG_COLUMN_COUNT,
    Chunks,
    bad_id,
    bad_number,
    check_columns,
    chunk_from_lists,
)
from tf_hqgnn.data.column_names import STANDARD_NAMES, ColumnNames
from tf_hqgnn.data.ids import MISSING, id_fault
from tf_hqgnn.data.input_file import open_input
from tf_hqgnn.data.report import BadRowLog
from tf_hqgnn.data.tfrecord_file import record_batches
from tf_hqgnn.data.timestamps import to_seconds
from tf_hqgnn.types import InputError


def read_tfrecord(path: Path, log: BadRowLog, columns: ColumnNames = STANDARD_NAMES) -> Chunks:
    """Yields the good rows of a TFRecord file, plain or compressed, one tf.Example a row; "line" is its number from 1.

    `user_id` and `item_id` are bytes or int64 features with one value, `timestamp`, `rating` and `weight` float or
    int64 ones; `timestamp` may also be text, as in CSV.
    The first record says which of these the file has.

    Args:
      path: the file.
      log: collects bad rows, and the names of features that aren't read.
      columns: what columns are called in the file.

    Raises:
      InputError: The file isn't TFRecord, is damaged or cut off, or its first record lacks an id.
    """
    present: list[str] | None = None
    line = 1
    with open_input(path) as stream:
        for batch in record_batches(stream, str(path)):
            users: list[str] = []
            items: list[str] = []
            events: list[str] = []
            values: dict[str, list[float]] = {name: [] for name in NUMBER_COLUMNS}
            for record in batch:
                features = _features(path, record, line)
                if present is None:
                    found = sorted(features)
                    check_columns(path, found, columns)
                    _check_ids(path, features, columns)
                    log.note_unused(columns.unused(found))
                    present = columns.present(found)
                row = _row(features, present, columns)
                if isinstance(row, str):
                    log.add(str(path), row, line, record)
                else:
                    users.append(row[0])
                    items.append(row[1])
                    events.append(row[3])
                    for name, value in row[2].items():
                        values[name].append(value)
                line += 1
            there = present or []
            yield chunk_from_lists(users, items, values, there, events if EVENT_COLUMN in there else None)


def _features(path: Path, record: bytes, line: int) -> Any:
    import tensorflow as tf
    from google.protobuf.message import DecodeError

    try:
        return tf.train.Example.FromString(record).features.feature
    except DecodeError as error:
        raise InputError(f"{path}: record {line} isn't a tf.Example; expected one with user_id and item_id") from error


def _check_ids(path: Path, features: Any, columns: ColumnNames) -> None:
    """Refuses ids of numbers with a fraction, which the first record tells."""
    for name in (columns[column] for column in ID_COLUMNS):
        if features[name].WhichOneof("kind") == "float_list":
            raise InputError(f"{path}: {name} is of type float; expected bytes or int64, write the ids as text")


def _id(feature: Any) -> list[str]:
    """The values of an id's feature as text; integers as they are in CSV.

    Raises:
      UnicodeDecodeError: One isn't UTF-8.
    """
    return [value.decode() for value in feature.bytes_list.value] + [str(value) for value in feature.int64_list.value]


def _row(features: Any, present: list[str], columns: ColumnNames) -> str | tuple[str, str, dict[str, float], str]:
    """The values of a good row, or what is wrong with it."""
    texts = (*ID_COLUMNS, EVENT_COLUMN) if EVENT_COLUMN in present else ID_COLUMNS
    try:
        found = [_id(features[columns[name]]) if columns[name] in features else [] for name in texts]
    except UnicodeDecodeError:
        return UNDECODABLE
    if any(len(value) > 1 for value in found):
        return WRONG_COLUMN_COUNT
    user, item, *events = ("".join(value) for value in found)
    for name, value in zip(ID_COLUMNS, (user, item)):
        if fault := id_fault(value):
            return bad_id(name, fault)
    values = {}
    for name in (name for name in NUMBER_COLUMNS if name in present):
        given = _numbers(name, features[columns[name]]) if columns[name] in features else []
        values[name] = float(given[0]) if len(given) == 1 else math.nan
        if kind := bad_number(name, values[name]):
            return kind
    if any(id_fault(event) == MISSING for event in events):
        return MISSING_EVENT
    return user, item, values, "".join(events)


def _numbers(name: str, feature: Any) -> list[float]:
    """The numbers of a feature; a timestamp may also be text."""
    given = [*feature.float_list.value, *feature.int64_list.value]
    if name == "timestamp":
        given += [to_seconds(text.decode("utf-8", "replace")) for text in feature.bytes_list.value]
    return given
