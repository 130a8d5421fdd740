"""How products of levels, which are integers, become scores of rows of codes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import tensorflow as tf

from tf_hqgnn.retrieval.queries import Queries, QueryCodes

# Integers are exact in float32 below this.
_EXACT = 2**24


@dataclass(frozen=True, eq=False)
class QueryTerms:
    """A batch of queries `offset + scale m / M`: levels m, highest level M.

    Floats that never were codes are levels themselves, with scale and M 1 and no offset.

    Args:
      levels: float32 [B, d].
      highest: M.
      scale: [B, 1] of `dtype`; None if it is 1.
      offset: [B, 1] of `dtype`; None if it is 0.
      codes: the codes of the levels, if there are any.
      dtype: what scores are computed in: float64 from codes, whose products are exact, else float32.
    """

    levels: tf.Tensor
    highest: int
    scale: tf.Tensor | None
    offset: tf.Tensor | None
    codes: QueryCodes | None
    dtype: tf.DType

    @staticmethod
    def of(queries: Queries) -> QueryTerms:
        """By codes where there are any."""
        codes = queries.codes
        if codes is None:
            return QueryTerms(queries.rows, 1, None, None, None, tf.float32)
        scale = tf.cast(codes.scale, tf.float64)[:, tf.newaxis]
        offset = None if codes.offset is None else tf.cast(codes.offset, tf.float64)[:, tf.newaxis]
        return QueryTerms(codes.levels, codes.highest, scale, offset, codes, tf.float64)

    @property
    def sums(self) -> tf.Tensor:
        """The sum of each query's levels, [B, 1] of `dtype`."""
        return tf.reduce_sum(tf.cast(self.levels, self.dtype), axis=1, keepdims=True)


class Block(Protocol):
    """Some rows, the integers l of which are their levels. What it returns is of the given `dtype`."""

    def inner(self, query: QueryTerms) -> tf.Tensor:
        """`sum_j l_j m_j` of each query and row, [B, n]."""

    def sums(self, dtype: tf.DType) -> tf.Tensor:
        """`sum_j l_j`, [1, n] or [B, n]."""

    def squares(self, dtype: tf.DType) -> tf.Tensor:
        """`sum_j l_j^2`, [1, n] or [B, n]."""


@dataclass(frozen=True, eq=False)
class CodeBlock:
    """Rows as a byte for each code.

    Args:
      codes: uint8 [n, d], the same rows for each query; or [B, n, d], its own for each.
      highest: L, the highest level.
    """

    codes: tf.Tensor
    highest: int

    def inner(self, query: QueryTerms) -> tf.Tensor:
        """See `Block`; exact for levels that are integers, whatever the order in which they are added."""
        largest = self.codes.shape[-1] * self.highest * query.highest
        dtype = tf.float64 if query.codes is not None and largest >= _EXACT else tf.float32
        codes, levels = tf.cast(self.codes, dtype), tf.cast(query.levels, dtype)
        if self.codes.shape.rank == 2:
            products = tf.matmul(levels, codes, transpose_b=True)
        elif query.codes is not None:
            # Integers: the order doesn't matter.
            products = tf.matmul(levels[:, tf.newaxis], codes, transpose_b=True)[:, 0]
        else:
            # Not a matrix product: those sum the columns at the edge of a block in another order, and ties of queries
            # that aren't integers would break at random.
            products = tf.reduce_sum(codes * levels[:, tf.newaxis], axis=-1)
        return 2.0 * tf.cast(products, query.dtype) - float(self.highest) * query.sums

    def sums(self, dtype: tf.DType) -> tf.Tensor:
        """See `Block`."""
        total = self._over_columns(tf.cast(self.codes, self._exact_dtype))
        return 2.0 * tf.cast(total, dtype) - float(self.codes.shape[-1] * self.highest)

    def squares(self, dtype: tf.DType) -> tf.Tensor:
        """See `Block`; l^2 is 4 (c - L / 2)^2, which is one pass over all codes."""
        middle = tf.constant(self.highest / 2, self._exact_dtype)
        quarters = tf.math.squared_difference(tf.cast(self.codes, self._exact_dtype), middle)
        return 4.0 * tf.cast(self._over_columns(quarters), dtype)

    @property
    def _exact_dtype(self) -> tf.DType:
        """The smallest type in which the sum of the squares of all levels is exact: float64 takes twice as long."""
        return tf.float32 if self.codes.shape[-1] * self.highest**2 < _EXACT else tf.float64

    def _over_columns(self, values: tf.Tensor) -> tf.Tensor:
        totals = tf.reduce_sum(values, axis=-1)
        return totals if self.codes.shape.rank == 3 else totals[tf.newaxis]


def score_block(
    block: Block, query: QueryTerms, highest: int, dim: int, scale: tf.Tensor, offset: tf.Tensor | None, cosine: bool
) -> tf.Tensor:
    """The scores of a block of rows `o + s l / L`. With t and p the scale and offset of a query, a score is

        (s (t sum l m + p M sum l) + L o (t sum m + p M d)) / (L M),

    and by cosine the same divided by the length of the row. From codes, the numerator is exact in float64 but for
    scales of very different sizes, and everything is rounded once: division and float32 can't reorder.

    Args:
      block: n rows.
      query: B queries.
      highest: L.
      dim: d.
      scale: s, [1, n], [B, n] or [1, 1].
      offset: o, of the same shape; None if it is 0.
      cosine: divide by |row|, 0 for a row of zeros.

    Returns:
      float32 [B, n].
    """
    s = tf.cast(scale, query.dtype)
    reach = block.inner(query)
    if query.scale is not None:
        reach *= query.scale
    if query.offset is not None:
        reach += float(query.highest) * query.offset * block.sums(query.dtype)
    scores = reach * s
    shift = None if offset is None else float(highest) * tf.cast(offset, query.dtype)
    if shift is not None:
        middle = query.sums if query.scale is None else query.sums * query.scale
        if query.offset is not None:
            middle += float(query.highest * dim) * query.offset
        scores += shift * middle
    divisor = float(highest * query.highest)
    if cosine:
        square = tf.square(s) * block.squares(query.dtype)
        if shift is not None:
            square += 2.0 * shift * s * block.sums(query.dtype) + float(dim) * tf.square(shift)
        divisor = float(query.highest) * tf.sqrt(tf.maximum(square, 0.0))
    elif divisor == 1.0:
        return tf.cast(scores, tf.float32)
    # A plain division by a constant would be turned into a product with its reciprocal, which rounds twice.
    return tf.cast(tf.math.divide_no_nan(scores, divisor), tf.float32)
