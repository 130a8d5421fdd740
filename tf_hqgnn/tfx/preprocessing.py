"""What Transform does to every interaction: ids become rows of a vocabulary."""

from __future__ import annotations

import tensorflow as tf
import tensorflow_transform as tft

USER_VOCABULARY = "user_ids"
ITEM_VOCABULARY = "item_ids"


def preprocessing_fn(inputs: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """Adds nothing to ids but their rows: `user_index`, `item_index` int64 [B]; `timestamp` and `weight` pass through.

    Args:
      inputs: `user_id` and `item_id` string [B, 1] or [B], and perhaps `timestamp` and `weight`.
    """
    outputs = {
        "user_index": _rows(inputs["user_id"], USER_VOCABULARY),
        "item_index": _rows(inputs["item_id"], ITEM_VOCABULARY),
    }
    for name in ("timestamp", "weight"):
        if name in inputs:
            outputs[name] = _dense(inputs[name])
    return outputs


def _rows(ids: tf.Tensor, vocabulary: str) -> tf.Tensor:
    # Records and not lines: an id may hold any character, a line break too.
    return tft.compute_and_apply_vocabulary(_dense(ids), vocab_filename=vocabulary, file_format="tfrecord_gzip")


def _dense(values: tf.Tensor) -> tf.Tensor:
    if isinstance(values, tf.SparseTensor):
        values = values.values
    return tf.reshape(values, [-1])
