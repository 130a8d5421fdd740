"""The answer for users nobody knows: what is popular."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from tf_hqgnn.retrieval.filters import Blocked
from tf_hqgnn.retrieval.top_k import best


class PopularItems(tf.Module):
    """Items in the order of their popularity, ties by the lower item row.

    Args:
      popularity: float32 [N], how many users each item has.
      available: bool [N], whether an item may come back; None if all may.

    Example:
      >>> from tf_hqgnn.retrieval.filters import block_listed
      >>> popular = PopularItems(np.array([5.0, 9.0, 5.0], np.float32))
      >>> scores, item_index = popular.call(tf.constant(2), block_listed(tf.constant([[1, -1]], tf.int64), 3))
      >>> scores.numpy().tolist(), item_index.numpy().tolist()
      ([[5.0, 5.0]], [[0, 2]])
    """

    def __init__(self, popularity: np.ndarray, available: np.ndarray | None = None) -> None:
        super().__init__(name="popular")
        popularity = np.asarray(popularity, np.float32)
        order = np.argsort(-popularity, kind="stable").astype(np.int32)
        order = order if available is None else order[available[order]]
        self.order = tf.Variable(order, trainable=False, name="order")
        self.popularity = tf.Variable(popularity[order], trainable=False, name="popularity")

    def call(self, k: tf.Tensor, blocked: Blocked) -> tuple[tf.Tensor, tf.Tensor]:
        """`(scores, item_index)` as of `TopK`, for each of the B queries of `blocked`; the score is the popularity."""
        deepest = tf.reduce_max(tf.concat([[tf.constant(0, tf.int64)], blocked.counts], axis=0))
        depth = tf.minimum(tf.cast(k, tf.int64) + deepest, tf.size(self.order, tf.int64))
        # How many of the most popular items are of another category isn't known beforehand.
        depth = tf.where(blocked.asks_for_a_category(), tf.size(self.order, tf.int64), depth)
        shape = tf.stack([tf.size(blocked.counts, out_type=tf.int64), depth])
        item_index = tf.broadcast_to(self.order[:depth], shape)
        scores = tf.broadcast_to(self.popularity[:depth], shape)
        return best(tf.where(blocked.contains(item_index), -np.inf, scores), item_index, k)
