"""TFRecord files of tf.Example."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from tf_hqgnn.data.chunks import (
    ID_COLUMNS,
    LARGEST,
    NUMBER_COLUMNS,
    UNDECODABLE,
    WRONG_COLUMN_COUNT,
    Chunks,
    bad_id,
    check_columns,
    chunk_from_lists,
    not_finite,
)
from tf_hqgnn.data.ids import id_fault
from tf_hqgnn.data.input_file import open_input
from tf_hqgnn.data.report import BadRowLog
from tf_hqgnn.data.tfrecord_file import record_batches
from tf_hqgnn.data.timestamps import to_seconds
from tf_hqgnn.types import InputError


def read_tfrecord(path: Path, log: BadRowLog) -> Chunks:
    """Yields the good rows of a TFRecord file, plain or compressed, one tf.Example a row; "line" is its number from 1.

    `user_id` and `item_id` are bytes or int64 features with one value, `timestamp`, `rating` and `weight` float or
    int64 ones; `timestamp` may also be text, as in CSV.
    The first record says which of these the file has.

    Args:
      path: the file.
      log: collects bad rows.

    Raises:
      InputError: The file isn't TFRecord, is damaged or cut off, or its first record lacks an id.
    """
    numbers: list[str] | None = None
    line = 1
    with open_input(path) as stream:
        for batch in record_batches(stream, str(path)):
            users: list[str] = []
            items: list[str] = []
            values: dict[str, list[float]] = {name: [] for name in NUMBER_COLUMNS}
            for record in batch:
                features = _features(path, record, line)
                if numbers is None:
                    check_columns(path, list(features))
                    _check_ids(path, features)
                    numbers = [name for name in NUMBER_COLUMNS if name in features]
                row = _row(features, numbers)
                if isinstance(row, str):
                    log.add(str(path), row, line, record)
                else:
                    users.append(row[0])
                    items.append(row[1])
                    for name, value in zip(numbers, row[2]):
                        values[name].append(value)
                line += 1
            yield chunk_from_lists(users, items, values, numbers or ())


def _features(path: Path, record: bytes, line: int) -> Any:
    import tensorflow as tf
    from google.protobuf.message import DecodeError

    try:
        return tf.train.Example.FromString(record).features.feature
    except DecodeError as error:
        raise InputError(f"{path}: record {line} isn't a tf.Example; expected one with user_id and item_id") from error


def _check_ids(path: Path, features: Any) -> None:
    """Refuses ids of numbers with a fraction, which the first record tells."""
    for name in ID_COLUMNS:
        if features[name].WhichOneof("kind") == "float_list":
            raise InputError(f"{path}: {name} is of type float; expected bytes or int64, write the ids as text")


def _id(feature: Any) -> list[str]:
    """The values of an id's feature as text; integers as they are in CSV.

    Raises:
      UnicodeDecodeError: One isn't UTF-8.
    """
    return [value.decode() for value in feature.bytes_list.value] + [str(value) for value in feature.int64_list.value]


def _row(features: Any, numbers: list[str]) -> str | tuple[str, str, list[float]]:
    """The values of a good row, or what is wrong with it."""
    try:
        ids = [_id(features[name]) if name in features else [] for name in ID_COLUMNS]
    except UnicodeDecodeError:
        return UNDECODABLE
    if any(len(value) > 1 for value in ids):
        return WRONG_COLUMN_COUNT
    user, item = ("".join(value) for value in ids)
    for name, value in zip(ID_COLUMNS, (user, item)):
        if fault := id_fault(value):
            return bad_id(name, fault)
    values = []
    for name in numbers:
        given = _numbers(name, features[name]) if name in features else []
        number = float(given[0]) if len(given) == 1 else math.nan
        if not abs(number) <= LARGEST[name]:
            return not_finite(name)
        values.append(number)
    return user, item, values


def _numbers(name: str, feature: Any) -> list[float]:
    """The numbers of a feature; a timestamp may also be text."""
    given = [*feature.float_list.value, *feature.int64_list.value]
    if name == "timestamp":
        given += [to_seconds(text.decode("utf-8", "replace")) for text in feature.bytes_list.value]
    return given
