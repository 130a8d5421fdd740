"""Answers as serialized tf.Examples, written as bytes: an object for each user would cost three times that."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import pyarrow as pa


def serialize_examples(answers: pa.RecordBatch) -> Iterator[bytes]:
    """A tf.Example of each row, with a feature for each column, of the column's name.

    A list of lists becomes one list, and the lengths of the inner ones a feature `NAME_lengths`, as
    `tf.io.RaggedFeature` takes them for a partition.

    Args:
      answers: of a schema in `answers.py`: `user_id`, `known_user` (0 or 1), and lists of strings or float32.

    Example:
      >>> scores = pa.array([[0.5, 0.25]], pa.list_(pa.float32()))
      >>> columns = [pa.array(["ann"]), pa.array([True]), pa.array([["i1", "i2"]]), scores]
      >>> (example,) = serialize_examples(pa.record_batch(columns, ["user_id", "known_user", "item_ids", "scores"]))
      >>> import tensorflow as tf
      >>> list(tf.train.Example.FromString(example).features.feature["scores"].float_list.value)
      [0.5, 0.25]
    """
    users = answers.column("user_id").cast(pa.binary()).to_pylist()
    known_user = answers.column("known_user").to_pylist()
    known = [_feature(b"known_user", _field(3, _field(1, bytes([value])))) for value in (0, 1)]
    columns = [
        feature
        for name in answers.schema.names
        if name not in ("user_id", "known_user")
        for feature in _list_features(name, answers.column(name))
    ]
    for user, is_known, *features in zip(users, known_user, *columns):
        yield _field(1, b"".join([_feature(b"user_id", _field(1, _field(1, user))), known[is_known], *features]))


def _list_features(name: str, lists: pa.ListArray) -> list[Iterator[bytes]]:
    """The features of a column, each for all rows."""
    ends = (np.asarray(lists.offsets) - lists.offsets[0].as_py()).tolist()
    values = lists.flatten()
    if not pa.types.is_list(values.type):
        return [_features(name, ends, values)]
    inner = np.asarray(values.offsets) - values.offsets[0].as_py()
    lengths = _features(f"{name}_lengths", ends, pa.array(np.diff(inner), pa.int64()))
    return [_features(name, inner[ends].tolist(), values.flatten()), lengths]


def _features(name: str, ends: list[int], values: pa.Array) -> Iterator[bytes]:
    """A feature of each row: its values of all of them, which are strings, float32 or small numbers."""
    parts = itertools.pairwise(ends)
    if pa.types.is_floating(values.type):
        floats = np.asarray(values, "<f4").tobytes()
        return (_feature(name.encode(), _field(2, _field(1, floats[4 * start : 4 * end]))) for start, end in parts)
    if pa.types.is_integer(values.type):
        numbers = [_varint(number) for number in values.to_pylist()]
        return (_feature(name.encode(), _field(3, _field(1, b"".join(numbers[start:end])))) for start, end in parts)
    # A BytesList is its values one after the other, and few ids are in many answers.
    coded = values.cast(pa.binary()).dictionary_encode()
    of_code = [_field(1, value) for value in coded.dictionary.to_pylist()]
    texts = [of_code[code] for code in coded.indices.to_pylist()]
    return (_feature(name.encode(), _field(1, b"".join(texts[start:end]))) for start, end in parts)


def _feature(name: bytes, value: bytes) -> bytes:
    """An entry of the map from names to features."""
    return _field(1, _field(1, name) + _field(2, value))


def _field(number: int, content: bytes) -> bytes:
    """A field of bytes, with its number and length before it."""
    return bytes((number << 3 | 2,)) + _varint(len(content)) + content


def _varint(number: int) -> bytes:
    """A number in as many bytes as it needs, seven bits each."""
    found = b""
    while number > 127:
        found += bytes((number & 127 | 128,))
        number >>= 7
    return found + bytes((number,))
