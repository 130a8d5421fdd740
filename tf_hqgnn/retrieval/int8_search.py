"""The parts of a large table that hold the best rows, found by products of 8-bit integers; for CPUs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from tf_hqgnn.retrieval.blocks import PART_SIZE
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
# Blocks and parts that are chosen besides those that are wanted: with them, it is seldom unsure that all are there.
_SPARE = 16
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
      is_compiled: whether XLA makes the codes, anew for each number of rows: there are few of them then.
    """

    stripes: Stripes
    dim: int
    codes_from: Part
    sums_from: Part
    scale_from: Part
    largest_scale: float
    is_compiled: bool = False

    def likely_parts(
        self, asked: QueryCodes, allowed: tf.Tensor | None, depth: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Choose the parts with the highest bests, by scores in float32 that are nearly exact.

        A row of scale s scores `s (sum c w + z + S / 4)`, with the integers w and z of `weights_of`, which is the
        exact score of a query up to one factor for all rows, but for the rounding: less than s from z and the sum,
        and 2^-23 of itself from the product. A part that isn't chosen is lower than the best `depth` by more than
        twice that, or it isn't sure.

        Args:
          asked: B queries without offsets.
          allowed: bool [B or 1, N] of the stored rows, as of `Stripes.best`.
          depth: int32 scalar, of the best parts to find.

        Returns:
          `(parts, is_sure)`: int32 [B, at least depth], and bool [], whether no other part's best reaches theirs.
        """
        batch = size_of(asked.codes, 0)
        weights, added = weights_of(asked)
        adds_sums = asked.num_bits == 8

        @called_late
        def choose() -> tuple[tf.Tensor, tf.Tensor]:
            highest = self._best_of_parts(weights, added, adds_sums, allowed)
            parts, is_sure = self._choose(highest, depth)
            return parts, is_sure & tf.reduce_all(asked.scale > _LEAST_SCALE) & is_exact(self.dim, batch)

        def skip() -> tuple[tf.Tensor, tf.Tensor]:
            return tf.zeros([batch, 0], tf.int32), tf.constant(False)

        parts, is_sure = tf.cond(is_available(batch) & (batch > 0) & (depth > 0), choose, skip)
        return tf.ensure_shape(parts, [None, None]), tf.ensure_shape(is_sure, [])

    def _choose(self, highest: tf.Tensor, depth: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """The best parts of the best blocks, and whether they are sure to be the best of all.

        Args:
          highest: float32 [G, N // 64, B], the highest score of each of the G parts of each block.
          depth: int32 scalar.
        """
        split, count, batch = highest.shape[0], self.stripes.count, size_of(highest, 2)
        width = tf.minimum(depth + _SPARE, count)
        best, blocks = tf.math.top_k(tf.transpose(tf.reduce_max(highest, axis=0)), width)
        # The parts of the chosen blocks alone: to choose among those of all blocks takes longer than all else.
        part = tf.range(split)
        first = blocks * batch + tf.range(batch)[:, tf.newaxis]
        place = tf.reshape(first[..., tf.newaxis] + part * (count * batch), [batch, width * split])
        parts = tf.reshape(blocks[..., tf.newaxis] * split + part, [batch, width * split])
        num_parts = tf.minimum(depth + _SPARE, width * split)
        best_parts, chosen = tf.math.top_k(tf.gather(tf.reshape(highest, [-1]), place), num_parts)
        wanted = best_parts[:, tf.minimum(depth, num_parts) - 1]
        error = 2.0 * self.largest_scale
        error += 2.0**-20 * (tf.abs(wanted) + error)

        def others_are_lower(last: tf.Tensor, are_all: tf.Tensor) -> tf.Tensor:
            # Parts without an allowed row needn't be among them.
            return tf.reduce_all((last < wanted - error) | tf.equal(last, -np.inf) | are_all)

        is_sure = others_are_lower(best[:, -1], tf.equal(width, count))
        is_sure &= others_are_lower(best_parts[:, -1], tf.equal(num_parts, width * split))
        return tf.gather(parts, chosen, batch_dims=1), is_sure

    @property
    def _part_size(self) -> int:
        return min(PART_SIZE, self.stripes.size)

    def _best_of_parts(
        self, weights: tf.Tensor, added: tf.Tensor, adds_sums: bool, allowed: tf.Tensor | None
    ) -> tf.Tensor:
        """The highest scores of the first parts of all blocks, of their second parts, ...: float32 [G, N // 64, B]."""
        count, batch, size = self.stripes.count, tf.size(added), self._part_size
        joined = max(1, min(_MOST_JOINED, _MOST_NUMBERS // self.dim))
        joined = tf.where(batch <= _FEW_QUERIES, 1 << joined.bit_length() - 1, 1)
        most = tf.minimum(_SCORES_AT_ONCE // batch, _BYTES_AT_ONCE // self.dim) // count
        # A power of two of stripes: some of a part's, or those of some parts.
        powers = range(0, self.stripes.size.bit_length(), 2 if self.is_compiled else 1)
        sizes = np.array([1 << power for power in powers], np.int32)
        at_once = tf.maximum(tf.reduce_max(tf.where(sizes <= most, sizes, 1)), joined)
        together = tf.minimum(at_once, size)

        def best(start: tf.Tensor) -> tf.Tensor:
            start, rows = start * count, at_once * count
            scores = products_of_few(self.codes_from(start, rows), weights, added, joined)
            if adds_sums:
                scores += tf.reshape(self.sums_from(start, rows) / 4.0, [-1, 1])
            scores *= tf.reshape(tf.cast(self.scale_from(start, rows), tf.float32), [-1, 1])
            if allowed is not None:
                counts = tf.slice(allowed, [0, start], [size_of(allowed, 0), rows])
                scores = tf.where(tf.transpose(counts), scores, -np.inf)
            return tf.reduce_max(tf.reshape(scores, [-1, together, count, batch]), axis=1)

        def of_parts(first: tf.Tensor) -> tf.Tensor:
            """The bests of the parts that start at the stripe `first`, as many as are worked on at once."""

            def step(stripe: tf.Tensor, highest: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
                return stripe + at_once, tf.ensure_shape(tf.maximum(highest, best(stripe)), highest.shape)

            began = (first + at_once, best(first))
            return tf.while_loop(lambda stripe, _: stripe < first + size, step, began, parallel_iterations=1)[1]

        length = tf.maximum(at_once, size)
        firsts = tf.range(0, self.stripes.size, length)
        shape = tf.TensorSpec([None, count, None], tf.float32)
        found = tf.map_fn(of_parts, firsts, fn_output_signature=shape, parallel_iterations=1)
        return tf.reshape(found, [self.stripes.size // size, count, batch])
