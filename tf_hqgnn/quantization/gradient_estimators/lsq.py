"""LSQ: straight-through, with a smaller gradient for the learned range."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tf_hqgnn.quantization.gradient_estimators.estimator import ESTIMATORS, Estimator

if TYPE_CHECKING:
    import tensorflow as tf


@ESTIMATORS.register("lsq")
class LSQ(Estimator):
    """The gradient of a learned range is divided by `sqrt(N Q)`, with N values and Q = max(1, 2^(b - 1) - 1).

    The range then moves, relative to its size, about as fast as a single value does. Adam divides a gradient by its own
    size, so that under Adam a factor changes nothing, save where N differs from step to step. With a range per row
    there is no learned range, and this is `ste`.

    Reference: Esser et al., ICLR 2020 (arXiv 1902.08153), section 2.2; at 1 bit, where Q_P is 0, Q is taken as 1.

    Example:
      >>> float(LSQ().range_gradient_factor(4, num_bits=1)), float(LSQ().range_gradient_factor(12, num_bits=3))
      (0.5, 0.1666666716337204)
    """

    def range_gradient_factor(self, size: tf.Tensor, num_bits: int) -> tf.Tensor | float:
        """See `Estimator`."""
        import tensorflow as tf

        largest = max(1.0, 2.0 ** (num_bits - 1) - 1.0)
        return tf.math.rsqrt(tf.cast(size, tf.float32) * largest)
