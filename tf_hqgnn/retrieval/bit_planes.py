"""Bit planes inside the graph: made from codes, turned back, and multiplied by XOR and popcount.

A code c of b bits is the sum of its bits, 2^p each; its level `l = 2 c - (2^b - 1)` is the sum of the same bits taken
as signs, 2^p times +1 or -1. A product of two signs is -1 where the bits differ, so that over d columns

    sum_j l_j m_j = sum_pq 2^(p + q) (d - 2 popcount(plane_p xor plane_q)),

exactly, for any two numbers of bits and with no term of the rows alone. All operations have GPU kernels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from tf_hqgnn.quantization.packing import to_bit_planes
from tf_hqgnn.retrieval.coded_scores import QueryTerms
from tf_hqgnn.retrieval.queries import QueryCodes
from tf_hqgnn.retrieval.sizes import size_of
from tf_hqgnn.types import IntArray, UInt8Array

# Word k of plane p of some rows, integers [...] as wide as a word, is `words[p][k]`.
Words = Sequence[Sequence[tf.Tensor]]

_WORDS = {1: tf.uint8, 2: tf.int16, 4: tf.int32, 8: tf.int64}


def word_bytes(dim: int) -> int:
    """Bytes of the widest word that divides a plane's row of `dim` bits, padded to bytes: 8, 4, 2 or 1."""
    width = -(-dim // 8)
    return next(size for size in (8, 4, 2, 1) if width % size == 0)


def pack_words(codes: UInt8Array, num_bits: int) -> IntArray:
    """The bit planes of codes uint8 [n, d], cut into words: integers [num_bits, K, n].

    A word's place comes before the row, so that a pass over the rows reads one run of memory. They are kept as
    integers and not as bytes, since XLA would put every word together from its bytes again, at each pass.

    >>> pack_words(np.array([[1, 2, 3]], np.uint8), num_bits=2).tolist()
    [[[5]], [[6]]]
    """
    planes = to_bit_planes(codes, num_bits)
    words = planes.view(_WORDS[word_bytes(codes.shape[1])].as_numpy_dtype)
    return np.ascontiguousarray(words.transpose(0, 2, 1))


def unpack_planes(words: IntArray) -> UInt8Array:
    """The bit planes, uint8 [num_bits, n, bytes of a row], of `pack_words`."""
    return np.ascontiguousarray(words.transpose(0, 2, 1)).view(np.uint8)


def pack_query(codes: QueryCodes) -> tf.Tensor:
    """What `pack_words` makes of the codes of queries, in the graph: integers [num_bits, K, B]."""
    dim = codes.codes.shape[1]
    size = word_bytes(dim)
    place = tf.range(codes.num_bits)[:, tf.newaxis, tf.newaxis]
    bits = tf.bitwise.bitwise_and(tf.bitwise.right_shift(codes.codes[tf.newaxis], tf.cast(place, tf.uint8)), 1)
    bits = tf.pad(tf.cast(bits, tf.float32), [[0, 0], [0, 0], [0, -dim % 8]])
    batch = size_of(codes.codes, 0)
    groups = tf.reshape(bits, [codes.num_bits, batch, -(-dim // 8), 8])
    planes = tf.cast(tf.reduce_sum(groups * [float(2**bit) for bit in range(8)], axis=3), tf.uint8)
    words = tf.reshape(planes, [codes.num_bits, batch, -(-dim // 8) // size, size])
    words = words[..., 0] if size == 1 else tf.bitcast(words, _WORDS[size])
    return tf.transpose(words, [0, 2, 1])


def unpack_words(words: Words, dim: int, factor: int = 1) -> tf.Tensor:
    """The codes times `factor`, uint8 [..., dim], of words, integers [...].

    Each byte of a plane becomes eight bytes by a table of 256 words; planes are added as whole words, since no code
    exceeds a byte.
    """
    bits = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1, bitorder="little") * np.uint8(factor)
    spread = bits.view(np.int64)[:, 0]
    parts = []
    for word in zip(*words):
        eights = [
            tf.gather(tf.constant(spread << p), tf.cast(to_bytes(plane), tf.int32)) for p, plane in enumerate(word)
        ]
        parts.append(tf.bitcast(tf.add_n(eights), tf.uint8))  # [..., bytes of a word, 8]
    rows = tf.concat(parts, axis=-2)
    width = rows.shape[-2] * 8
    return tf.reshape(rows, tf.concat([tf.shape(rows)[:-2], [width]], axis=0))[..., :dim]


def spread_words(words: Words, factor: int) -> tf.Tensor:
    """As `unpack_words`, by shifts, which XLA makes one pass; the columns come in the order of `spread_columns`.

    Args:
      words: as of `unpack_words`, integers [n].
      factor: what the codes are multiplied by; no code exceeds a byte then.

    Returns:
      Integers as wide as a word, [n, 8 K], whose bytes are the codes.
    """
    spread = []
    for planes in zip(*words):
        dtype = planes[0].dtype
        shift, ones = tf.range(8), np.ones(dtype.size, np.uint8).view(dtype.as_numpy_dtype)[0]
        bits = [
            tf.bitwise.bitwise_and(tf.bitwise.right_shift(plane[:, tf.newaxis], tf.cast(shift, dtype)), ones)
            for plane in planes
        ]
        spread.append(tf.add_n([bit * tf.constant(factor << p, dtype) for p, bit in enumerate(bits)]))
    return tf.concat(spread, axis=1)


def spread_columns(dim: int) -> IntArray:
    """The column of the codes, below `dim`, that each byte of `spread_words` holds; `dim` is divisible by 8.

    >>> spread_columns(16).tolist()
    [0, 8, 1, 9, 2, 10, 3, 11, 4, 12, 5, 13, 6, 14, 7, 15]
    """
    return np.arange(dim).reshape(-1, word_bytes(dim), 8).swapaxes(1, 2).reshape(-1)


@dataclass(frozen=True, eq=False)
class PlaneBlock:
    """Rows as bit planes, and the integers that scores are made of.

    Args:
      words: `words[p][k]`, word k of plane p of each row, integers [n], the same rows for each query; or [B, n], its
        own for each.
      dim: d.
      fused: whether XLA compiles this: planes are then added one by one, in the pass that counts their bits, where
        TensorFlow's own operations are faster with a matrix product.
    """

    words: Words
    dim: int
    fused: bool = False

    def inner(self, query: QueryTerms) -> tf.Tensor:
        """See `coded_scores.Block`.

        Raises:
          ValueError: The queries have no codes.
        """
        if query.codes is None:
            raise ValueError("bit planes multiply codes, but the queries are floats: score them with a CodeBlock")
        asked, num_bits = pack_query(query.codes), query.codes.num_bits
        batch, rows = size_of(asked, 2), size_of(self.words[0][0], -1)
        weights = tf.constant([[float(2**q) for q in range(num_bits)]])
        total = tf.zeros([], query.dtype)
        for p, plane in enumerate(self.words):
            for k, word in enumerate(plane):
                column = asked[:, k, :, tf.newaxis]
                if self.fused:
                    counts = [_differing(column[q], word) for q in range(num_bits)]
                    total += tf.add_n([tf.cast(count, query.dtype) * 2.0 ** (p + q) for q, count in enumerate(counts)])
                    continue
                differing = _differing(column, word[tf.newaxis])
                if num_bits == 1:
                    differing = differing[0]
                else:
                    # At most 64 times at most 255: exact, whatever a matrix product multiplies by.
                    planes = tf.reshape(tf.cast(differing, tf.float32), [num_bits, batch * rows])
                    differing = tf.reshape(tf.matmul(weights, planes), [batch, rows])
                part = tf.cast(differing, query.dtype)
                total += part * 2.0**p if p else part
        highest = (2 ** len(self.words) - 1) * query.highest
        return float(self.dim * highest) - 2.0 * total

    def sums(self, dtype: tf.DType) -> tf.Tensor:
        """See `coded_scores.Block`."""
        pairs = [(2.0**p, [tf.zeros_like(word) for word in plane], plane) for p, plane in enumerate(self.words)]
        return -self._signs(dtype, pairs)

    def squares(self, dtype: tf.DType) -> tf.Tensor:
        """See `coded_scores.Block`."""
        numbered = list(enumerate(self.words))
        pairs = [(2.0 ** (p + q + 1), one, two) for p, one in numbered for q, two in numbered[p + 1 :]]
        same = float(self.dim * sum(4**p for p, _ in numbered))
        return same + self._signs(dtype, pairs)

    def _signs(
        self, dtype: tf.DType, pairs: Sequence[tuple[float, Sequence[tf.Tensor], Sequence[tf.Tensor]]]
    ) -> tf.Tensor:
        """The sum over `pairs` of weight times the product of two planes of signs, [1, n]."""
        word = self.words[0][0]
        total = tf.zeros([1, size_of(word, 0)] if len(word.shape) == 1 else tf.shape(word), dtype)
        for weight, one, two in pairs:
            for a, b in zip(one, two):
                total -= 2.0 * weight * tf.cast(_differing(a, b), dtype)
            total += weight * self.dim
        return total


def _differing(one: tf.Tensor, two: tf.Tensor) -> tf.Tensor:
    """In how many bits words differ, uint8."""
    return tf.raw_ops.PopulationCount(x=tf.bitwise.bitwise_xor(one, two))


def to_bytes(words: tf.Tensor) -> tf.Tensor:
    """Integers [...] as uint8 [..., bytes of a word]."""
    return words[..., tf.newaxis] if words.dtype == tf.uint8 else tf.bitcast(words, tf.uint8)
