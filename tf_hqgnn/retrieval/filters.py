"""Which (query, item) pairs must not come back: items a user has seen, and items excluded by the request.

A blocked pair is one int64 key, `query * num_items + item`, with `query` a row of the batch. Such a key is at once
the position of the pair in a flattened [B, N] score matrix (the exact index scatters -inf there) and something that a
binary search finds (an approximate index looks its few candidates up), and no [B, N] mask is ever made.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import tensorflow as tf


@dataclass(frozen=True)
class Blocked:
    """Blocked pairs of a batch of B queries over N items.

    Args:
      keys: vectors of ascending int64 keys; a pair is blocked if its key is in any of them.
      counts: int64 [B], at least as many as a query's blocked items: how much deeper to search for it.
      num_items: N.
    """

    keys: tuple[tf.Tensor, ...]
    counts: tf.Tensor
    num_items: int

    def mask_all(self, scores: tf.Tensor) -> tf.Tensor:
        """`scores` float32 [B, N] with -inf at the blocked pairs."""
        flat = tf.reshape(scores, [tf.size(scores)])
        for keys in self.keys:
            flat = tf.tensor_scatter_nd_update(flat, keys[:, tf.newaxis], tf.fill(tf.shape(keys), -np.inf))
        return tf.reshape(flat, tf.shape(scores))

    def contains(self, items: tf.Tensor) -> tf.Tensor:
        """Which of the candidates `items` (int32 or int64 [B, F], rows of items) are blocked, bool [B, F]."""
        queries = tf.range(tf.shape(items, out_type=tf.int64)[0])[:, tf.newaxis]
        wanted = tf.reshape(queries * self.num_items + tf.cast(items, tf.int64), [1, tf.size(items)])
        blocked = tf.zeros_like(wanted, tf.bool)
        for keys in self.keys:
            # The closing key matches no pair; with it there is always a key to compare with.
            ends = tf.concat([keys, [tf.int64.max]], axis=0)
            place = tf.raw_ops.LowerBound(sorted_inputs=ends[tf.newaxis], values=wanted)
            blocked |= tf.equal(tf.gather(ends, place), wanted)
        return tf.reshape(blocked, tf.shape(items))


class SeenItems(tf.Module):
    """The items that each user has already interacted with.

    Args:
      indptr: int64 [U + 1].
      indices: int32 [nnz], ascending within a user.
      num_items: N.
    """

    def __init__(self, indptr: np.ndarray, indices: np.ndarray, num_items: int) -> None:
        super().__init__(name="seen")
        self._indptr = tf.Variable(np.asarray(indptr, np.int64), trainable=False, name="indptr")
        self._indices = tf.Variable(np.asarray(indices, np.int32), trainable=False, name="indices")
        self._num_items = num_items

    def blocked(self, user_index: tf.Tensor) -> Blocked:
        """Blocks the seen items of the users `user_index` (int64 [B], -1: unknown, has seen nothing)."""
        known = tf.maximum(user_index, 0)
        start = tf.gather(self._indptr, known)
        length = tf.where(user_index >= 0, tf.gather(self._indptr, known + 1) - start, 0)
        end = tf.cumsum(length)
        # A ragged gather of operations that all have GPU kernels, which RaggedRange and its like don't.
        position = tf.range(tf.reduce_sum(length))
        row = tf.raw_ops.UpperBound(sorted_inputs=end[tf.newaxis], values=position[tf.newaxis], out_type=tf.int64)[0]
        source = tf.gather(start + length - end, row) + position
        # Read, then gathered: ResourceGather has no GPU kernel for int32, GatherV2 has.
        items = tf.gather(self._indices.read_value(), source)
        keys = row * self._num_items + tf.cast(items, tf.int64)
        return Blocked((keys,), length, self._num_items)


def block_listed(item_index: tf.Tensor, num_items: int) -> Blocked:
    """Blocks the items named by a request.

    Args:
      item_index: int64 [B, E], rows of items; -1 (padding, an unknown item) blocks nothing; repeats are fine.
      num_items: N.
    """
    listed = item_index >= 0
    queries = tf.range(tf.shape(item_index, out_type=tf.int64)[0])[:, tf.newaxis]
    keys = tf.boolean_mask(queries * num_items + item_index, listed)
    return Blocked((tf.sort(keys),), tf.reduce_sum(tf.cast(listed, tf.int64), axis=1), num_items)


def block_any(*parts: Blocked) -> Blocked:
    """Blocks what any of `parts` blocks; they must be of one batch and one catalogue."""
    keys = tuple(keys for part in parts for keys in part.keys)
    return Blocked(keys, tf.add_n([part.counts for part in parts]), parts[0].num_items)
