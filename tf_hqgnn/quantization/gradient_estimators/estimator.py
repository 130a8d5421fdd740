"""What every gradient estimator has in common, and the registry of estimators."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from tf_hqgnn.types import Registry

if TYPE_CHECKING:
    import tensorflow as tf


class Estimator:
    """Where the delta of a rounding's gradient comes from (`quantization.estimators.quantize_unit`).

        dL/dx_n = g (1 + delta sign(g) (x_n - x_q)),  g = dL/dx_q

    Attributes:
      name: as in the settings.
      takes_delta: whether delta is a setting, above 0; else it starts at 0.
      follows_hessian: whether delta is found anew from time to time, from the curvature of the loss.
    """

    name: ClassVar[str]
    takes_delta: ClassVar[bool] = False
    follows_hessian: ClassVar[bool] = False

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
