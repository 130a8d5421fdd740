"""Sizes of tensors in few operations: each costs a model time to load, and a request time to be answered."""

from __future__ import annotations

import tensorflow as tf


def size_of(tensor: tf.Tensor, axis: int, dtype: tf.DType = tf.int32) -> tf.Tensor:
    """`tf.shape(tensor)[axis]`, a scalar of `dtype`, by two operations where a slice of the shape takes five.

    Args:
      tensor: Of known rank.
      axis: From 0 on, or from the end if negative.
      dtype: int32 or int64.

    Example:
      >>> int(size_of(tf.zeros([2, 3]), -1))
      3
    """
    return tf.unstack(tf.shape(tensor, dtype))[axis]
