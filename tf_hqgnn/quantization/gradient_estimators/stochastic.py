"""Stochastic rounding: up or down at random, in proportion to what lies nearer."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from tf_hqgnn.quantization.gradient_estimators.estimator import ESTIMATORS, Estimator

if TYPE_CHECKING:
    import tensorflow as tf


@ESTIMATORS.register("stochastic")
class Stochastic(Estimator):
    """While it trains, a value is rounded up with the probability of its distance from the lower level.

        P(x_q = l + 1) = x - l,  l = floor(x),  x = x_n (2^b - 1)

    The mean of x_q is x_n, so the straight-through gradient is that of the mean. What is stored and served is rounded
    to the nearest level.

    Reference: Gupta et al., ICML 2015 (arXiv 1502.02551), equation 3; Courbariaux et al., NeurIPS 2015, for 1 bit.

    Example:
      >>> import tensorflow as tf
      >>> Stochastic().levels(tf.constant([1.25, 1.25]), noise=tf.constant([0.2, 0.3])).numpy().tolist()
      [2.0, 1.0]
    """

    is_random: ClassVar[bool] = True

    def levels(self, x: tf.Tensor, noise: tf.Tensor | None) -> tf.Tensor:
        """See `Estimator`."""
        import tensorflow as tf

        if noise is None:
            return super().levels(x, noise)
        # Noise below the fraction rounds up: it is uniform on [0, 1), so a value on its level always stays there.
        lower = tf.floor(x)
        return lower + tf.cast(noise < x - lower, x.dtype)
