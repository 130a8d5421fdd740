"""The blocks of a large table that hold the best rows, found by products of 8-bit integers; for CPUs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from tf_hqgnn.retrieval.int8_products import called_late, is_available, is_exact, products_of_few, weights_of
from tf_hqgnn.retrieval.queries import QueryCodes
from tf_hqgnn.retrieval.sizes import size_of
from tf_hqgnn.retrieval.stripes import Stripes

# Scores, and bytes of codes, that are worked on at once: few enough for a cache, many enough for a product's overhead.
_SCORES_AT_ONCE = 2**21
_BYTES_AT_ONCE = 2**25
# Of up to so many queries, products of up to so many rows, and numbers, are joined.
_FEW_QUERIES = 4
_MOST_JOINED = 4
_MOST_NUMBERS = 256
# Blocks that are chosen besides those that are wanted: with them, it is seldom unsure that all are there.
_SPARE_BLOCKS = 16
# Queries that are smaller are left alone: their scores may vanish in float32, and tie.
_LEAST_SCALE = 1e-20

Part = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


@dataclass(frozen=True, eq=False)
class Int8Rows:
    """Rows of codes as `Stripes` store them: each takes `(start, size)` and returns these stored rows.

    Args:
      stripes: the order.
      dim: d, at most `int8_products.MOST_DIMENSIONS`.
      codes_from: uint8 [size, d], codes whose highest level is 255.
      sums_from: float32 [1, size], the sum of the levels `2 c - 255` of each row.
      scale_from: float16 [1, size] or [1, 1].
      largest_scale: of all rows.
    """

    stripes: Stripes
    dim: int
    codes_from: Part
    sums_from: Part
    scale_from: Part
    largest_scale: float

    def likely_blocks(
        self, asked: QueryCodes, allowed: tf.Tensor | None, depth: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Choose the blocks with the highest bests, by scores in float32 that are nearly exact.

        A row of scale s scores `s (sum c w + z + S / 4)`, with the integers w and z of `weights_of`, which is the
        exact score of a query up to one factor for all rows, but for the rounding: less than s from z and the sum,
        and 2^-23 of itself from the product. A block that isn't chosen is lower than the best `depth` by more than
        twice that, or it isn't sure.

        Args:
          asked: B queries without offsets.
          allowed: bool [B or 1, N] of the stored rows, as of `Stripes.best`.
          depth: int32 scalar, of the best blocks to find.

        Returns:
          `(blocks, is_sure)`: int32 [B, at least depth], and bool [], whether no other block's best reaches theirs.
        """
        batch = size_of(asked.codes, 0)
        weights, added = weights_of(asked)
        adds_sums = asked.num_bits == 8

        @called_late
        def choose() -> tuple[tf.Tensor, tf.Tensor]:
            highest = tf.transpose(self._best_of_blocks(weights, added, adds_sums, allowed))
            width = tf.minimum(depth + _SPARE_BLOCKS, self.stripes.count)
            best, blocks = tf.math.top_k(highest, width)
            last, wanted = best[:, -1], best[:, tf.minimum(depth, width) - 1]
            error = 2.0 * self.largest_scale
            error += 2.0**-20 * (tf.abs(wanted) + error)
            # Blocks without an allowed row needn't be among them.
            is_sure = (last < wanted - error) | tf.equal(last, -np.inf) | tf.equal(width, self.stripes.count)
            return blocks, tf.reduce_all(is_sure & (asked.scale > _LEAST_SCALE)) & is_exact(self.dim, batch)

        def skip() -> tuple[tf.Tensor, tf.Tensor]:
            return tf.zeros([batch, 0], tf.int32), tf.constant(False)

        blocks, is_sure = tf.cond(is_available(batch) & (batch > 0) & (depth > 0), choose, skip)
        return tf.ensure_shape(blocks, [None, None]), tf.ensure_shape(is_sure, [])

    def _best_of_blocks(
        self, weights: tf.Tensor, added: tf.Tensor, adds_sums: bool, allowed: tf.Tensor | None
    ) -> tf.Tensor:
        """The highest score of each block, float32 [N // 64, B]: products come a row after the other."""
        count, batch = self.stripes.count, tf.size(added)
        at_once = tf.minimum(_SCORES_AT_ONCE // batch, _BYTES_AT_ONCE // self.dim) // count
        joined = max(1, min(_MOST_JOINED, _MOST_NUMBERS // self.dim))
        joined = tf.where(batch <= _FEW_QUERIES, 1 << joined.bit_length() - 1, 1)
        at_once = tf.clip_by_value(at_once // joined * joined, joined, self.stripes.size)

        def step(stripe: tf.Tensor, highest: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            # The last step overlaps the one before, which changes no maximum.
            start, size = tf.minimum(stripe, self.stripes.size - at_once) * count, at_once * count
            scores = products_of_few(self.codes_from(start, size), weights, added, joined)
            if adds_sums:
                scores += tf.reshape(self.sums_from(start, size) / 4.0, [-1, 1])
            scores *= tf.reshape(tf.cast(self.scale_from(start, size), tf.float32), [-1, 1])
            if allowed is not None:
                counts = tf.slice(allowed, [0, start], [size_of(allowed, 0), size])
                scores = tf.where(tf.transpose(counts), scores, -np.inf)
            best = tf.reduce_max(tf.reshape(scores, [at_once, count, batch]), axis=0)
            return stripe + at_once, tf.ensure_shape(tf.maximum(highest, best), highest.shape)

        first = (tf.constant(0), tf.fill([count, batch], np.float32(-np.inf)))
        return tf.while_loop(lambda stripe, _: stripe < self.stripes.size, step, first, parallel_iterations=1)[1]
