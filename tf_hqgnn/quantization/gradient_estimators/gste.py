"""GSTE: the gradient is scaled by the rounding error, with a factor that follows the curvature of the loss."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from tf_hqgnn.quantization.gradient_estimators.estimator import ESTIMATORS, Estimator

if TYPE_CHECKING:
    import tensorflow as tf


@ESTIMATORS.register("gste")
class GSTE(Estimator):
    """delta = max(0, (Tr(H) / N) / (3 std(g))), see `quantization.hessian.gste_delta`; 0 (STE) until it is first found.

    Reference: HQ-GNN, arXiv 2309.01032.

    Example:
      >>> import tensorflow as tf
      >>> float(GSTE().delta(tf.constant(3.0), tf.constant([[1.0, -1.0]]), num_bits=1))
      0.5
    """

    follows_hessian: ClassVar[bool] = True

    def delta(self, hessian_trace: tf.Tensor, gradients: tf.Tensor, num_bits: int) -> tf.Tensor:
        """See `Estimator`."""
        from tf_hqgnn.quantization.hessian import gste_delta

        return gste_delta(hessian_trace, gradients, num_bits)
