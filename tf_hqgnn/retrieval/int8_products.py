"""Products of 8-bit integers on CPUs, by stock operations that oneDNN runs on the processor's own instructions.

`QuantizedMatMulWithBiasAndDequantize` has no kernel of its own: TensorFlow's oneDNN pass replaces it. Where that pass
is switched off (TF_ENABLE_ONEDNN_OPTS=0) or isn't built in, it can't run, and processors without instructions for 8-bit
products add up pairs of them in 16 bits, which may overflow. A model is served by machines that its export doesn't
know, so the graph finds out itself, at each request. What needs the operation stands in functions that TensorFlow
doesn't look into before they are called.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from tf_hqgnn.retrieval.queries import QueryCodes

# The highest level of a row's code here; those of fewer bits are multiplied up to it where they can be.
HIGHEST = 255
# Products of longer rows may exceed the integers of float32.
MOST_DIMENSIONS = 2**24 // (3 * HIGHEST * 64)
_TESTED_ROWS = 256


def is_available(batch: tf.Tensor) -> tf.Tensor:
    """Return whether TensorFlow's oneDNN pass works here, bool []; for graphs on CPUs.

    oneDNN's quantization calls the range from -1 to 1 that, TensorFlow's own kernel -128 / 127 to 1.

    Args:
      batch: int32 scalar that isn't a constant, or TensorFlow would compute the answer in advance by its own kernel.
    """

    @called_late
    def range_is_kept(batch: tf.Tensor) -> tf.Tensor:
        values = tf.cast(batch, tf.float32)[tf.newaxis]
        quantized = tf.raw_ops.QuantizeV2(
            input=values, min_range=-1.0, max_range=1.0, T=tf.qint8, mode="SCALED", round_mode="HALF_TO_EVEN"
        )
        return tf.equal(quantized.output_min, -1.0)

    return range_is_kept(batch)


def called_late(function: Callable[..., Any]) -> Any:
    """A function whose operations are looked up when it is called: where it isn't, they need not exist."""
    return tf.function(function, autograph=False, experimental_attributes={"_noinline": True})


def weights_of(codes: QueryCodes) -> tuple[tf.Tensor, tf.Tensor]:
    """Integers w by which rows are multiplied for queries of levels m, and what is to be added to the products.

    With codes c of a row, its levels l = 2 c - 255, and S the sum of all l:

        sum l m = 2 (sum c m - 255 / 2 sum m)               up to 7 bits, where w = m,
        sum l m = 4 (sum c w - 255 / 2 sum w + S / 4)       at 8 bits, where m = 2 w + 1.

    Returns:
      w, int8 [d, B], and `-255 / 2 sum w`, int32 [B], rounded up.

    Example:
      >>> asked = QueryCodes(tf.constant([[255, 0, 128]], tf.uint8), 8, tf.ones([1]), None)
      >>> [values.numpy().tolist() for values in weights_of(asked)]
      [[[127], [-128], [0]], [128]]
    """
    is_odd = codes.num_bits == 8
    integers = tf.cast(codes.codes, tf.int32)
    integers = integers - 128 if is_odd else 2 * integers - codes.highest
    added = -((HIGHEST * tf.reduce_sum(integers, axis=1)) // 2)
    return tf.transpose(tf.cast(integers, tf.int8)), added


def products(codes: tf.Tensor, weights: tf.Tensor, added: tf.Tensor) -> tf.Tensor:
    """`codes @ weights + added`, exact; only where it `is_available` and `is_exact`.

    Args:
      codes: uint8 [n, d], d at most `MOST_DIMENSIONS`.
      weights: int8 [d, B].
      added: int32 [B].

    Returns:
      float32 [n, B].
    """
    return tf.raw_ops.QuantizedMatMulWithBiasAndDequantize(
        a=tf.bitcast(codes, tf.quint8),
        b=tf.bitcast(weights, tf.qint8),
        bias=tf.bitcast(added, tf.qint32),
        # By these ranges an integer stands for itself, on both sides.
        min_a=0.0,
        max_a=255.0,
        min_b=-127.0,
        max_b=127.0,
        min_freezed_output=-1.0,
        max_freezed_output=1.0,
        Toutput=tf.float32,
        input_quant_mode="MIN_FIRST",
    )


def products_of_few(codes: tf.Tensor, weights: tf.Tensor, added: tf.Tensor, group: tf.Tensor) -> tf.Tensor:
    """As `products`; a few rows are multiplied as one long row, which keeps the processor busy where B is small.

    Args:
      codes: uint8 [n, d].
      weights: int8 [d, B].
      added: int32 [B].
      group: int32 scalar that divides n, the rows of a long row; each has columns of its own, 0 for the others.

    Returns:
      float32 [n, B].
    """
    dim, batch = codes.shape[1], tf.size(added)
    own = tf.one_hot(tf.range(group), group, dtype=tf.int8)[:, tf.newaxis, :, tf.newaxis]
    spread = tf.reshape(own * weights[tf.newaxis, :, tf.newaxis], [group * dim, group * batch])
    found = products(tf.reshape(codes, [-1, group * dim]), spread, tf.tile(added, [group]))
    return tf.reshape(found, [-1, batch])


def is_exact(dim: int, batch: tf.Tensor) -> tf.Tensor:
    """Return whether products of the largest codes and weights are right here, bool []: no processor overflows.

    Args:
      dim: d.
      batch: B, int32 scalar, above 0.
    """
    codes = tf.fill([_TESTED_ROWS, dim], tf.constant(HIGHEST, tf.uint8))
    found = products(codes, tf.fill([dim, batch], tf.constant(127, tf.int8)), tf.zeros([batch], tf.int32))
    return tf.reduce_all(tf.equal(found, float(HIGHEST * 127 * dim)))
