"""TFRecord files of tf.Example."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tf_hqgnn.data.chunks import (
    ID_COLUMNS,
    LARGEST,
    NUMBER_COLUMNS,
    UNDECODABLE,
    WRONG_COLUMN_COUNT,
    Chunks,
    check_columns,
    chunk_from_lists,
    missing,
    not_finite,
)
from tf_hqgnn.data.compression import compression_of
from tf_hqgnn.data.input_file import open_input
from tf_hqgnn.data.report import BadRowLog
from tf_hqgnn.data.timestamps import to_seconds
from tf_hqgnn.types import InputError, ObjectArray

_BATCH_ROWS = 4096
_CHECKED_BYTES = 1 << 20


def read_tfrecord(path: Path, log: BadRowLog) -> Chunks:
    """Yields the good rows of a TFRecord file (plain or GZIP), one tf.Example a row; "line" is its number from 1.

    `user_id` and `item_id` are bytes features with one value, `timestamp`, `rating` and `weight` float or int64 ones;
    `timestamp` may also be text, as in CSV.
    The first record says which of these the file has.

    Args:
      path: the file.
      log: collects bad rows.

    Raises:
      InputError: The file isn't TFRecord, or its first record lacks an id.
    """
    numbers: list[str] | None = None
    line = 1
    for batch in _batches(path):
        users: list[str] = []
        items: list[str] = []
        values: dict[str, list[float]] = {name: [] for name in NUMBER_COLUMNS}
        for record in batch:
            features = _features(path, record, line)
            if numbers is None:
                check_columns(path, list(features))
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


def _batches(path: Path) -> Iterator[ObjectArray]:
    """The serialized records, as arrays of bytes."""
    # TensorFlow takes seconds to import, and no other reader needs it.
    import tensorflow as tf

    compression = _check_complete(path)
    try:
        yield from tf.data.TFRecordDataset(str(path), compression).batch(_BATCH_ROWS).as_numpy_iterator()
    except tf.errors.DataLossError as error:
        raise InputError(f"{path}: not a TFRecord file, or damaged; expected records of tf.Example") from error


def _check_complete(path: Path) -> str:
    """TensorFlow's word for the compression. It takes a gzip file that is cut off between two records for whole."""
    with path.open("rb") as file:
        kind = compression_of(file.read(16))
    if kind not in (None, "gzip"):
        raise InputError(f"{path}: TFRecord compressed with {kind}; expected gzip or none, compress it anew")
    with open_input(path) as stream:
        while kind is not None and stream.read(_CHECKED_BYTES):
            pass
    return "" if kind is None else "GZIP"


def _features(path: Path, record: bytes, line: int) -> Any:
    import tensorflow as tf
    from google.protobuf.message import DecodeError

    try:
        return tf.train.Example.FromString(record).features.feature
    except DecodeError as error:
        raise InputError(f"{path}: record {line} isn't a tf.Example; expected one with user_id and item_id") from error


def _row(features: Any, numbers: list[str]) -> str | tuple[str, str, list[float]]:
    """The values of a good row, or what is wrong with it."""
    ids = [list(features[name].bytes_list.value) if name in features else [] for name in ID_COLUMNS]
    if any(len(value) > 1 for value in ids):
        return WRONG_COLUMN_COUNT
    try:
        user, item = ("".join(part.decode() for part in value) for value in ids)
    except UnicodeDecodeError:
        return UNDECODABLE
    for name, value in zip(ID_COLUMNS, (user, item)):
        if not value:
            return missing(name)
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
