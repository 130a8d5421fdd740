"""EWGS: the gradient is scaled by the rounding error, with a fixed factor."""

from __future__ import annotations

from typing import ClassVar

from tf_hqgnn.quantization.gradient_estimators.estimator import ESTIMATORS, Estimator


@ESTIMATORS.register("ewgs")
class EWGS(Estimator):
    """delta is a setting, and stays.

    Reference: arXiv 2104.00903 (CVPR 2021), eq. 5.

    Example:
      >>> EWGS().takes_delta
      True
    """

    takes_delta: ClassVar[bool] = True
