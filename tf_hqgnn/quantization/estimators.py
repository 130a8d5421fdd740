"""Fake quantization: rounded values on the way forward, an estimated gradient on the way back."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from tf_hqgnn.quantization.gradient_estimators.estimator import Estimator
from tf_hqgnn.quantization.packing import check_num_bits
from tf_hqgnn.quantization.ranges import MIN_WIDTH


def max_delta(num_bits: int) -> float:
    """The largest delta in use, `1.8 (2^b - 1)`: it keeps `1 + delta sign(g) (x_n - x_q)` within 0.1 .. 1.9.

    `|x_n - x_q| <= 0.5 / (2^b - 1)`, so that 2 (2^b - 1) is where a gradient could vanish and then change its sign.

    >>> max_delta(1), max_delta(2)
    (1.8, 5.4)
    """
    check_num_bits(num_bits)
    return Estimator().max_delta(num_bits)


def bounded_delta(delta: tf.Tensor | float, num_bits: int) -> tf.Tensor:
    """`delta` within 0 .. `max_delta`; 0 (plain STE) where it is NaN or infinite."""
    return _finite_within(delta, max_delta(num_bits))


def quantize_unit(
    x_n: tf.Tensor,
    num_bits: int,
    delta: tf.Tensor | float = 0.0,
    estimator: Estimator | None = None,
    noise: tf.Tensor | None = None,
) -> tf.Tensor:
    """The nearest of 2^b levels, with an estimator's gradient in place of that of the rounding.

        forward:   x_q = round(x_n (2^b - 1)) / (2^b - 1)
        backward:  dL/dx_n = g slope,  g = dL/dx_q

    By default the slope is that of the generalized straight-through estimator, `1 + delta sign(g) (x_n - x_q)`: delta 0
    is the straight-through estimator (STE), a fixed delta is EWGS, one that follows the Hessian is GSTE.

    Args:
      x_n: float [...], within 0 .. 1.
      num_bits: b, 1 to 8.
      delta: Scalar, or of a shape that broadcasts to `x_n`; used within 0 .. `estimator.max_delta`, and as 0 where it
        is NaN or infinite.
      estimator: What rounds and gives the slope; None for the default of `Estimator`.
      noise: float [...], uniform within 0 .. 1, for an estimator that rounds at random; None rounds to the nearest.

    Returns:
      Like `x_n`. Halfway between two levels it is the upper one (tf.round: the even one), so that at 1 bit 0 of a
      symmetric range is positive, as in `codes.Codes`.

    Reference:
      HQ-GNN, arXiv 2309.01032; EWGS, arXiv 2104.00903 (CVPR 2021), eq. 5. The bound on delta is ours.

    >>> (3 * quantize_unit(tf.constant([0.1, 0.2, 0.9]), num_bits=2)).numpy().tolist()
    [0.0, 1.0, 3.0]
    """
    rule = estimator or Estimator()
    steps = float(2**num_bits - 1)

    @tf.custom_gradient
    def rounded(x_n: tf.Tensor, delta: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tuple[tf.Tensor, None]]]:
        x_q = rule.levels(x_n * steps, noise) / steps

        def gradient(g: tf.Tensor) -> tuple[tf.Tensor, None]:
            return g * rule.slope(g, x_n, x_q, delta, num_bits), None

        return x_q, gradient

    return rounded(x_n, tf.cast(_finite_within(delta, rule.max_delta(num_bits)), x_n.dtype))


def scaled_gradient(x: tf.Tensor, factor: tf.Tensor | float) -> tf.Tensor:
    """`x` itself, with `factor` times its gradient.

    Example:
      >>> x = tf.constant(3.0)
      >>> with tf.GradientTape() as tape:
      ...     tape.watch(x)
      ...     y = 2 * scaled_gradient(x, 0.5)
      >>> float(y), float(tape.gradient(y, x))
      (6.0, 1.0)
    """

    @tf.custom_gradient
    def identity(x: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
        return tf.identity(x), lambda g: g * tf.cast(factor, g.dtype)

    return identity(tf.convert_to_tensor(x))


def quantize_range(
    x: tf.Tensor,
    lower: tf.Tensor,
    upper: tf.Tensor,
    num_bits: int,
    delta: tf.Tensor | float = 0.0,
    estimator: Estimator | None = None,
    noise: tf.Tensor | None = None,
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
      estimator: See `quantize_unit`.
      noise: See `quantize_unit`.

    Returns:
      Like `x`.

    Reference:
      HQ-GNN, arXiv 2309.01032, with alpha = lower and beta = upper.

    >>> x = tf.constant([[-7.0, -0.2, 0.6, 1.0]])
    >>> quantize_range(x, -1.0, 1.0, num_bits=1).numpy().tolist()
    [[-1.0, -1.0, 1.0, 1.0]]
    """
    width = tf.maximum(tf.subtract(upper, lower), MIN_WIDTH)
    return lower + width * quantize_unit(unit_values(x, lower, upper), num_bits, delta, estimator, noise)


def unit_values(x: tf.Tensor, lower: tf.Tensor, upper: tf.Tensor) -> tf.Tensor:
    """Where values are within a range, 0 at its lower and below, 1 at its upper end and above.

    Args:
      x: float [n, d].
      lower: Broadcasts to `x`.
      upper: Likewise, >= `lower`; a range narrower than 1e-12 counts as that wide.

    Example:
      >>> unit_values(tf.constant([-7.0, 0.0, 1.0]), -1.0, 1.0).numpy().tolist()
      [0.0, 0.5, 1.0]
    """
    width = tf.maximum(tf.subtract(upper, lower), MIN_WIDTH)
    return tf.clip_by_value((x - lower) / width, 0.0, 1.0)


def _finite_within(delta: tf.Tensor | float, largest: float) -> tf.Tensor:
    delta = tf.convert_to_tensor(delta)
    delta = tf.where(tf.math.is_finite(delta), delta, tf.zeros_like(delta))
    return tf.clip_by_value(delta, 0.0, largest)
