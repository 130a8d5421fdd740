"""What a table of low-bit codes holds: bit planes or bytes, and the ranges that they divide."""

from __future__ import annotations

from dataclasses import dataclass

import tensorflow as tf

from tf_hqgnn.quantization.codes import Codes
from tf_hqgnn.retrieval.bit_planes import Words, pack_words
from tf_hqgnn.retrieval.blocks import BLOCK_SIZE
from tf_hqgnn.retrieval.stripes import Stripes
from tf_hqgnn.types import Array


@dataclass(frozen=True, eq=False)
class StoredCodes:
    """The arrays of N rows of codes in the order of `stripes_of`: variables, or tensors.

    Args:
      num_rows: N.
      dim: d.
      num_bits: b.
      codes: uint8 [N, d] at 8 bits, else None.
      words: `words[p][k]` integers [N], word k of plane p of each row, as of `bit_planes.pack_words`; none at 8
        bits.
      scale: float16 [N], or [1] if all rows share one.
      offset: float16 of the same shape; None if it is 0.
    """

    num_rows: int
    dim: int
    num_bits: int
    codes: tf.Variable | tf.Tensor | None
    words: Words
    scale: tf.Variable | tf.Tensor
    offset: tf.Variable | tf.Tensor | None

    @staticmethod
    def of(codes: Codes, by_blocks: bool) -> StoredCodes:
        """Variables of `codes`, in the order of `Stripes` if the table is to be searched by blocks."""
        stripes = stripes_of(len(codes), by_blocks)
        values = stripes.store(codes.unpack())
        words: list[list[tf.Variable]] = []
        if codes.num_bits < 8:
            # A variable for each word: its rows are sliced and gathered as they are.
            words = [
                [constant_variable("planes", word) for word in plane] for plane in pack_words(values, codes.num_bits)
            ]

        def ranges(name: str, values: Array) -> tf.Variable:
            return constant_variable(name, stripes.store(values) if len(values) == len(codes) else values)

        return StoredCodes(
            num_rows=len(codes),
            dim=codes.dim,
            num_bits=codes.num_bits,
            codes=None if words else constant_variable("codes", values),
            words=words,
            scale=ranges("scale", codes.scale),
            offset=None if codes.offset is None else ranges("offset", codes.offset),
        )


def stripes_of(num_rows: int, by_blocks: bool) -> Stripes:
    """The order in which rows are stored: one after the other, unless they are searched by blocks."""
    return Stripes(num_rows, BLOCK_SIZE if by_blocks else 1)


def constant_variable(name: str, values: Array) -> tf.Variable:
    """A variable that nothing changes, so that a SavedModel holds it once."""
    return tf.Variable(values, trainable=False, name=name)
