"""What an index is asked with: rows in float32 and, where they come from codes, the codes themselves."""

from __future__ import annotations

from dataclasses import dataclass, replace

import tensorflow as tf


def dequantize(codes: tf.Tensor, num_bits: int, scale: tf.Tensor, offset: tf.Tensor | None) -> tf.Tensor:
    """The rows `offset + scale (2 c / (2^b - 1) - 1)`, as of `quantization.codes.Codes.dequantize`.

    Args:
      codes: uint8 [..., d].
      num_bits: b.
      scale: float32 [...] or [1].
      offset: float32 of the same shape, None if it is 0.

    Returns:
      float32 [..., d].
    """
    low, width = (-scale if offset is None else offset - scale), 2.0 * scale
    unit = tf.cast(codes, tf.float32) / float(2**num_bits - 1)
    return low[..., tf.newaxis] + width[..., tf.newaxis] * unit


@dataclass(frozen=True, eq=False)
class QueryCodes:
    """B rows of codes c of b bits, for the rows `offset + scale (2 c / (2^b - 1) - 1)`.

    Args:
      codes: uint8 [B, d].
      num_bits: b, 1 to 8.
      scale: float32 [B].
      offset: float32 [B]; None if it is 0.
    """

    codes: tf.Tensor
    num_bits: int
    scale: tf.Tensor
    offset: tf.Tensor | None

    def at(self, queries: tf.Tensor) -> QueryCodes:
        """The codes of the queries at int32 [Q], rows of the batch."""
        # Not as bytes, of which a gather has no GPU kernel.
        codes = tf.cast(tf.gather(tf.cast(self.codes, tf.float32), queries), tf.uint8)
        offset = None if self.offset is None else tf.gather(self.offset, queries)
        return QueryCodes(codes, self.num_bits, tf.gather(self.scale, queries), offset)

    @property
    def highest(self) -> int:
        """The highest level, 2^b - 1; the lowest is its negative."""
        return int(2**self.num_bits - 1)

    @property
    def levels(self) -> tf.Tensor:
        """The integers `2 c - (2^b - 1)`, float32 [B, d]."""
        return 2.0 * tf.cast(self.codes, tf.float32) - float(self.highest)


@dataclass(frozen=True, eq=False)
class Queries:
    """A batch of queries. Tables of codes score by `codes` where there are any, and by `rows` otherwise.

    Args:
      rows: float32 [B, d], what the queries stand for.
      codes: the same rows as codes; None if they never were codes.

    Example:
      >>> codes = QueryCodes(tf.constant([[3, 0]], tf.uint8), 2, tf.constant([0.5]), None)
      >>> Queries.of_codes(codes).rows.numpy().tolist(), codes.levels.numpy().tolist()
      ([[0.5, -0.5]], [[3.0, -3.0]])
    """

    rows: tf.Tensor
    codes: QueryCodes | None = None

    def at(self, queries: tf.Tensor) -> Queries:
        """The queries at int32 [Q], rows of the batch."""
        return Queries(tf.gather(self.rows, queries), None if self.codes is None else self.codes.at(queries))

    @staticmethod
    def of_codes(codes: QueryCodes) -> Queries:
        """Queries in both forms."""
        return Queries(dequantize(codes.codes, codes.num_bits, codes.scale, codes.offset), codes)

    def to_unit_length(self) -> Queries:
        """The same directions with length one; a query of zeros stays one."""
        codes = self.codes
        if codes is None:
            return Queries(tf.math.divide_no_nan(self.rows, tf.norm(self.rows, axis=1, keepdims=True)))
        # In float64: where a row is small beside its offset or scale, its float32 is all rounding.
        scale = tf.cast(codes.scale, tf.float64)
        offset = tf.zeros_like(scale) if codes.offset is None else tf.cast(codes.offset, tf.float64)
        steps = scale[:, tf.newaxis] * tf.cast(codes.levels, tf.float64) / float(codes.highest)
        length = tf.norm(offset[:, tf.newaxis] + steps, axis=1)
        unit_scale, unit_offset = (
            tf.cast(tf.math.divide_no_nan(values, length), tf.float32) for values in (scale, offset)
        )
        return Queries.of_codes(replace(codes, scale=unit_scale, offset=None if codes.offset is None else unit_offset))
