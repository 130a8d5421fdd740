"""The order in which a large table stores its rows, so that the best of many blocks are found at once."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from tf_hqgnn.retrieval.sizes import size_of
from tf_hqgnn.types import Array


class Stripes:
    """N rows, in blocks of `size` consecutive ones; stored are the first rows of all blocks, then the second, ...

    The best of every block is then the highest of `size` vectors, each one run of memory: a vector unit takes as many
    blocks at a time as it has lanes, where neighbours would have to be reduced to one number each. The N % size rows
    that are left belong to no block and stay at the end.

    Args:
      num_rows: N.
      size: of a block, which is the number of stripes: a power of two; 1 leaves the rows in their order.

    Attributes:
      count: of blocks, which is the length of a stripe.

    Example:
      >>> stripes = Stripes(128 + 2, size=64)
      >>> stored = stripes.store(np.arange(130))
      >>> stored[:4].tolist(), stored[-2:].tolist()
      ([0, 64, 1, 65], [128, 129])
      >>> stripes.place(tf.constant([64, 129])).numpy().tolist()
      [1, 129]
    """

    def __init__(self, num_rows: int, size: int) -> None:
        self.size = size
        self.count = num_rows // self.size
        self._end = self.size * self.count

    def store(self, values: Array) -> Array:
        """`values` [N, ...] in the order in which they are stored."""
        blocks = values[: self._end].reshape(self.count, self.size, *values.shape[1:]).swapaxes(0, 1)
        return np.concatenate([blocks.reshape(-1, *values.shape[1:]), values[self._end :]])

    def restore(self, stored: Array) -> Array:
        """What `store` was given."""
        stripes = stored[: self._end].reshape(self.size, self.count, *stored.shape[1:]).swapaxes(0, 1)
        return np.concatenate([stripes.reshape(-1, *stored.shape[1:]), stored[self._end :]])

    def place(self, index: tf.Tensor) -> tf.Tensor:
        """Where the rows at `index` (integers of any shape) are stored."""
        if self.size == 1:
            return index
        shift = self.size.bit_length() - 1
        within, block = tf.bitwise.bitwise_and(index, self.size - 1), tf.bitwise.right_shift(index, shift)
        return tf.where(index < self._end, within * self.count + block, index)

    def best(
        self,
        score: Callable[[tf.Tensor, tf.Tensor], tf.Tensor],
        batch: tf.Tensor,
        allowed: tf.Tensor | None,
        at_once: tf.Tensor | int,
    ) -> tf.Tensor:
        """The highest score of each block, float32 [B, N // size].

        Args:
          score: `(start, size)`, int32 scalars, to the float32 scores [B, size] of stored rows.
          batch: B, int32 scalar.
          allowed: bool [B or 1, N] of the stored rows, False for those that don't count; None if all do.
          at_once: stripes of a step, in range or not: of a tensor one call of `score` for all of them; of a Python
            integer a call for each, written out for XLA to fuse.
        """
        count = self.count

        def scored(start: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
            if allowed is None:
                return score(start, size)
            # Not a slice from `start` to an end: XLA has to know its size.
            counts = tf.slice(allowed, [0, start], [size_of(allowed, 0), size])
            return tf.where(counts, score(start, size), -np.inf)

        def step(stripe: tf.Tensor, highest: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            # The last step overlaps the one before, which changes no maximum.
            start = tf.minimum(stripe, self.size - at_once) * count
            if isinstance(at_once, int):
                scores = [scored(start + number * count, count) for number in range(at_once)]
            else:
                parts = tf.reshape(scored(start, at_once * count), [batch, at_once, count])
                scores = [tf.reduce_max(parts, axis=1)]
            for one in scores:
                # Of a batch whose size is known, even if it is 1, which might have been broadcast.
                highest = tf.ensure_shape(tf.maximum(highest, one), highest.shape)
            return stripe + at_once, highest

        at_once = tf.clip_by_value(at_once, 1, self.size) if tf.is_tensor(at_once) else max(1, min(at_once, self.size))
        first = (tf.constant(0), tf.fill([batch, count], np.float32(-np.inf)))
        highest = tf.while_loop(lambda stripe, _: stripe < self.size, step, first, parallel_iterations=1)[1]
        return tf.ensure_shape(highest, [None, count])

    def restore_columns(self, stored: tf.Tensor) -> tf.Tensor:
        """[B, N] numbers of the rows as they are stored, in the order of the rows."""
        return self._swap(stored, self.size, self.count)

    def store_columns(self, values: tf.Tensor) -> tf.Tensor:
        """[B, N] of the rows in their order, as they are stored."""
        return self._swap(values, self.count, self.size)

    def _swap(self, values: tf.Tensor, outer: int, inner: int) -> tf.Tensor:
        if self.size == 1:
            return values
        batch = size_of(values, 0)
        parts = tf.reshape(values[:, : self._end], [batch, outer, inner])
        head = tf.reshape(tf.transpose(parts, [0, 2, 1]), [batch, self._end])
        return tf.concat([head, values[:, self._end :]], axis=1)
