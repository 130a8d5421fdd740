"""Answers as serialized tf.Examples, written as bytes: an object for each user would cost three times that."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa


def serialize_examples(answers: pa.RecordBatch) -> Iterator[bytes]:
    """A tf.Example of each row: `user_id`, `known_user` (0 or 1), `item_ids` and `scores`.

    Args:
      answers: of the schema `model_handler.ANSWERS`.

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
    items, scores = answers.column("item_ids"), answers.column("scores")
    ends = (np.asarray(items.offsets) - items.offsets[0].as_py()).tolist()
    item_ids = items.flatten().cast(pa.binary()).dictionary_encode()
    # A BytesList is its values one after the other, and few ids are in many answers.
    encoded = [_field(1, item) for item in item_ids.dictionary.to_pylist()]
    values = [encoded[code] for code in item_ids.indices.to_pylist()]
    floats = np.asarray(scores.flatten(), "<f4").tobytes()
    known = [_feature(b"known_user", _field(3, _field(1, bytes([value])))) for value in (0, 1)]
    for row, user in enumerate(users):
        start, end = ends[row], ends[row + 1]
        yield _field(
            1,
            _feature(b"user_id", _field(1, _field(1, user)))
            + known[known_user[row]]
            + _feature(b"item_ids", _field(1, b"".join(values[start:end])))
            + _feature(b"scores", _field(2, _field(1, floats[4 * start : 4 * end]))),
        )


def _feature(name: bytes, value: bytes) -> bytes:
    """An entry of the map from names to features."""
    return _field(1, _field(1, name) + _field(2, value))


def _field(number: int, content: bytes) -> bytes:
    """A field of bytes, with its number and length before it."""
    size = len(content)
    length = b""
    while size > 127:
        length += bytes((size & 127 | 128,))
        size >>= 7
    return bytes((number << 3 | 2,)) + length + bytes((size,)) + content
