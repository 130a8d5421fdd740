"""The distinct rows of a batch, in a tensor whose shape doesn't depend on how many they are."""

from __future__ import annotations

import tensorflow as tf


def unique_rows(index: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """The distinct numbers of `index`, and where each of its numbers is among them.

    As `tf.unique`, but in shapes that XLA can know: by sorting, where XLA would compile `tf.unique` to a loop over the
    numbers and shapes that a GPU has to wait for.

    Args:
      index: int32 or int64 [B].

    Returns:
      The distinct numbers, ascending, [B]: what is left over repeats the first; the place of each number among them,
      int32 [B]; and how many they are, int32 [].

    Example:
      >>> [values.numpy().tolist() for values in unique_rows(tf.constant([7, 2, 7]))]
      [[2, 7, 2], [1, 0, 1], 2]
    """
    order = tf.argsort(index, stable=True)
    ascending = tf.gather(index, order)
    starts = tf.concat(
        [tf.ones([tf.minimum(tf.size(index), 1)], tf.int32), tf.cast(ascending[1:] != ascending[:-1], tf.int32)], axis=0
    )
    number = tf.cumsum(starts) - 1
    place = tf.scatter_nd(order[:, tf.newaxis], number, tf.shape(index))
    rows = tf.tensor_scatter_nd_update(
        tf.broadcast_to(ascending[:1], tf.shape(index)), number[:, tf.newaxis], ascending
    )
    return rows, place, tf.reduce_sum(starts)
