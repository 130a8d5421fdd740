"""Fake quantization: rounded values on the way forward, an estimated gradient on the way back."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from tf_hqgnn.quantization.packing import check_num_bits
from tf_hqgnn.quantization.ranges import MIN_WIDTH


def max_delta(num_bits: int) -> float:
    """The largest delta in use, `1.8 (2^b - 1)`: it keeps `1 + delta sign(g) (x_n - x_q)` within 0.1 .. 1.9.

    `|x_n - x_q| <= 0.5 / (2^b - 1)`, so that 2 (2^b - 1) is where a gradient could vanish and then change its sign.

    >>> max_delta(1), max_delta(2)
    (1.8, 5.4)
    """
    check_num_bits(num_bits)
    return 1.8 * float(2**num_bits - 1)


def bounded_delta(delta: tf.Tensor | float, num_bits: int) -> tf.Tensor:
    """`delta` within 0 .. `max_delta`; 0 (plain STE) where it is NaN or infinite."""
    delta = tf.convert_to_tensor(delta)
    delta = tf.where(tf.math.is_finite(delta), delta, tf.zeros_like(delta))
    return tf.clip_by_value(delta, 0.0, max_delta(num_bits))


def quantize_unit(x_n: tf.Tensor, num_bits: int, delta: tf.Tensor | float = 0.0) -> tf.Tensor:
    """The nearest of 2^b levels, with the generalized straight-through estimator as its gradient.

        forward:   x_q = round(x_n (2^b - 1)) / (2^b - 1)
        backward:  dL/dx_n = g (1 + delta sign(g) (x_n - x_q)),  g = dL/dx_q

    delta 0 is the straight-through estimator (STE), a fixed delta is EWGS, one that follows the Hessian is GSTE.

    Args:
      x_n: float [...], within 0 .. 1.
      num_bits: b, 1 to 8.
      delta: Scalar, or of a shape that broadcasts to `x_n`; see `bounded_delta` for what is made of it.

    Returns:
      Like `x_n`. Halfway between two levels it is the upper one (tf.round: the even one), so that at 1 bit 0 of a
      symmetric range is positive, as in `codes.Codes`.

    Reference:
      HQ-GNN, arXiv 2309.01032; EWGS, arXiv 2104.00903 (CVPR 2021), eq. 5. The bound on delta is ours.

    >>> (3 * quantize_unit(tf.constant([0.1, 0.2, 0.9]), num_bits=2)).numpy().tolist()
    [0.0, 1.0, 3.0]
    """
    steps = float(2**num_bits - 1)

    @tf.custom_gradient
    def rounded(x_n: tf.Tensor, delta: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tuple[tf.Tensor, None]]]:
        x_q = tf.floor(x_n * steps + 0.5) / steps

        def gradient(g: tf.Tensor) -> tuple[tf.Tensor, None]:
            return g * (1.0 + delta * tf.sign(g) * (x_n - x_q)), None

        return x_q, gradient

    return rounded(x_n, tf.cast(bounded_delta(delta, num_bits), x_n.dtype))


def quantize_range(
    x: tf.Tensor, lower: tf.Tensor, upper: tf.Tensor, num_bits: int, delta: tf.Tensor | float = 0.0
) -> tf.Tensor:
    """Values rounded to the 2^b levels from `lower` to `upper`, on the scale of `x`.

        x_n = clip((x - lower) / (upper - lower), 0, 1);  result = lower + (upper - lower) x_q

    A value within the range passes its gradient on through the estimator, one beyond it passes it to that end of the
    range; what an end learns from values within is their rounding error.

    Args:
      x: float [n, d].
      lower: Broadcasts to `x`: [] for one range, [n, 1] for one per row.
      upper: Likewise, >= `lower`; a range narrower than 1e-12 counts as that wide.
      num_bits: 1 to 8.
      delta: See `quantize_unit`; relative to `x_n`, not to `x`.

    Returns:
      Like `x`.

    Reference:
      HQ-GNN, arXiv 2309.01032, with alpha = lower and beta = upper.

    >>> x = tf.constant([[-7.0, -0.2, 0.6, 1.0]])
    >>> quantize_range(x, -1.0, 1.0, num_bits=1).numpy().tolist()
    [[-1.0, -1.0, 1.0, 1.0]]
    """
    width = tf.maximum(tf.subtract(upper, lower), MIN_WIDTH)
    return lower + width * quantize_unit(tf.clip_by_value((x - lower) / width, 0.0, 1.0), num_bits, delta)
