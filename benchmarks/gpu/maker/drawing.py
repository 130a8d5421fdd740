"""The formulas of `runner/draws.py` in TensorFlow, to be compiled for the device."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from benchmarks.gpu.runner import draws
from benchmarks.gpu.runner.draws import NORMAL_SCALE, Draw

# What a program that draws is called with.
ZERO = tf.TensorSpec([], tf.uint32)
_PART = 4096


def draw(spec: Draw, zero: tf.Tensor) -> tf.Tensor:
    """The whole array, each number from its position: under XLA one pass that writes it, and nothing else.

    Args:
      spec: of the array.
      zero: uint32 [], see `counted`.
    """
    if spec.kind == "zeros":
        return tf.zeros(spec.shape, spec.dtype)
    positions = tf.zeros([], tf.uint32)
    for axis, size in enumerate(spec.shape):
        after = int(np.prod(spec.shape[axis + 1 :], dtype=np.int64))
        place = counted(size, zero) * _word(after % 2**32)
        positions += tf.reshape(place, [size, *[1] * (len(spec.shape) - axis - 1)])
    bits = mixed(positions, spec.seed)
    if spec.kind == "normal":
        parts = [
            tf.bitwise.bitwise_and(tf.bitwise.right_shift(bits, _word(shift)), _word(255)) for shift in range(0, 32, 8)
        ]
        return (tf.cast(tf.add_n([tf.cast(part, tf.int32) for part in parts]), tf.float32) - 510.0) * np.float32(
            NORMAL_SCALE * spec.scale
        )
    if spec.kind == "positive":
        return tf.cast(tf.bitwise.right_shift(bits, _word(8)), tf.float32) * np.float32(spec.scale * 2.0**-24)
    if spec.kind in ("bytes", "bits"):
        return tf.cast(tf.bitwise.bitwise_and(bits, _word(255 if spec.kind == "bytes" else 1)), tf.uint8)
    if spec.kind == "words":
        high = tf.cast(mixed(positions, spec.seed + 1), tf.uint64)
        joined = tf.bitwise.bitwise_or(
            tf.cast(bits, tf.uint64), tf.bitwise.left_shift(high, tf.constant(32, tf.uint64))
        )
        return tf.bitcast(joined, tf.int64)
    low = tf.cast(tf.bitwise.bitwise_and(bits, _word(1023)), tf.float32)
    return tf.cast(low * 2.0**-14 + 2.0**-4, tf.float16)


def counted(size: int, zero: tf.Tensor) -> tf.Tensor:
    """0, 1, ..., `size` - 1 as uint32.

    Args:
      size: below 2^32.
      zero: an argument of the program that is 0 in every call. TensorFlow computes what has no arguments before it
        compiles, and the program would carry the numbers.
    """
    low = tf.cast(tf.range(min(size, _PART)), tf.uint32) + zero
    high = tf.cast(tf.range(-(-size // _PART)), tf.uint32) * _word(_PART)
    return tf.reshape(high[:, tf.newaxis] + low, [-1])[:size]


def mixed(positions: tf.Tensor, seed: int) -> tf.Tensor:
    """As `draws.mixed`."""
    start = seed * draws.MULTIPLIERS[2] % 2**32
    x = positions * _word(draws.MULTIPLIERS[0]) + _word(start)
    x = tf.bitwise.bitwise_xor(x, tf.bitwise.right_shift(x, _word(16))) * _word(draws.MULTIPLIERS[1])
    x = tf.bitwise.bitwise_xor(x, tf.bitwise.right_shift(x, _word(15))) * _word(draws.MULTIPLIERS[2])
    return tf.bitwise.bitwise_xor(x, tf.bitwise.right_shift(x, _word(16)))


def _word(value: int) -> tf.Tensor:
    return tf.constant(value, tf.uint32)
