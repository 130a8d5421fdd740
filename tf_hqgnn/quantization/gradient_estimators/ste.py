"""STE: the gradient passes the rounding as it is."""

from __future__ import annotations

from tf_hqgnn.quantization.gradient_estimators.estimator import ESTIMATORS, Estimator


@ESTIMATORS.register("ste")
class STE(Estimator):
    """delta = 0.

    Reference: Bengio et al., arXiv 1308.3432.

    Example:
      >>> STE().takes_delta, STE().follows_hessian
      (False, False)
    """
