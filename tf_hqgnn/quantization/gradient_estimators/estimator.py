"""What every gradient estimator has in common, and the registry of estimators."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from tf_hqgnn.types import Registry

if TYPE_CHECKING:
    import tensorflow as tf


class Estimator:
    """How values are rounded on the way forward, and which gradient replaces that of the rounding on the way back.

    Values x_n are within 0 .. 1, the levels x_q are multiples of `1 / (2^b - 1)`, and g = dL/dx_q. By default

        x_q = round(x_n (2^b - 1)) / (2^b - 1),    dL/dx_n = g (1 + delta sign(g) (x_n - x_q)),

    and a class overrides what it does in another way. Every estimator is straight-through (STE) where delta is 0.

    Attributes:
      name: as in the settings.
      takes_delta: whether delta is a setting, above 0; else it starts at 0.
      follows_hessian: whether delta is found anew from time to time, from the curvature of the loss.
      follows_progress: whether delta changes as the training goes on, see `delta_at`.
      is_random: whether `levels` needs noise while it trains.
    """

    name: ClassVar[str]
    takes_delta: ClassVar[bool] = False
    follows_hessian: ClassVar[bool] = False
    follows_progress: ClassVar[bool] = False
    is_random: ClassVar[bool] = False

    def max_delta(self, num_bits: int) -> float:
        """The largest delta in use: `1.8 (2^b - 1)`, which keeps the slope within 0.1 .. 1.9.

        Args:
          num_bits: 1 to 8.
        """
        return 1.8 * float(2**num_bits - 1)

    def delta_at(self, delta: float, progress: float) -> float:
        """The delta in use at a point of the training, until it is found by the Hessian.

        Args:
          delta: as in the settings.
          progress: the share of all epochs that is done, 0 to 1.
        """
        del progress
        return delta

    def levels(self, x: tf.Tensor, noise: tf.Tensor | None) -> tf.Tensor:
        """The number of the level that each value is rounded to; halfway, the upper one.

        Args:
          x: float [...], `x_n (2^b - 1)`.
          noise: float [...], uniform within 0 .. 1, or None to round to the nearest level; only estimators that are
            `is_random` look at it.
        """
        import tensorflow as tf

        del noise
        return tf.floor(x + 0.5)

    def slope(self, g: tf.Tensor, x_n: tf.Tensor, x_q: tf.Tensor, delta: tf.Tensor, num_bits: int) -> tf.Tensor:
        """What g is multiplied by: dL/dx_n = g slope.

        Args:
          g: float [...], dL/dx_q.
          x_n: float [...], within 0 .. 1.
          x_q: float [...], the levels that `x_n` was rounded to.
          delta: broadcasts to `x_n`; within 0 .. `max_delta`.
          num_bits: 1 to 8.

        Returns:
          float, broadcasts to `x_n`.
        """
        import tensorflow as tf

        del num_bits
        return 1.0 + delta * tf.sign(g) * (x_n - x_q)

    def range_gradient_factor(self, size: tf.Tensor, num_bits: int) -> tf.Tensor | float:
        """What the gradient of a learned range is multiplied by.

        Args:
          size: int [], how many values are rounded within the range.
          num_bits: 1 to 8.
        """
        del size, num_bits
        return 1.0

    def delta(self, hessian_trace: tf.Tensor, gradients: tf.Tensor, num_bits: int) -> tf.Tensor:
        """The delta that follows from the curvature at a batch.

        Args:
          hessian_trace: float [], Tr(H) with respect to x_q, the quantized values on the scale 0 .. 1.
          gradients: float [n, d], g with respect to the same.
          num_bits: 1 to 8.

        Returns:
          float32 [].

        Raises:
          ValueError: `follows_hessian` is False.
        """
        names = ", ".join(name for name in ESTIMATORS.names() if ESTIMATORS[name].follows_hessian)
        raise ValueError(f"only the estimator {names} has a delta that follows the Hessian, this is {self.name}")


ESTIMATORS: Registry[Estimator] = Registry("estimator", "tf_hqgnn.quantization.gradient_estimators")
