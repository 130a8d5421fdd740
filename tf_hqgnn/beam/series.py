"""The coefficients of the power series that the solvers of the graph ODE are."""

from __future__ import annotations

import numpy as np

from tf_hqgnn.types import Float64Array, InputError


def coefficients(solver: str, t1: float, num_steps: int = 1, tolerance: float = 1e-6) -> Float64Array:
    """c_0..c_K of h(t1) = sum_k c_k A^k e, float64 [K + 1], for |A| <= 1.

    Raises:
      InputError: There is no such solver, it has no series, or a setting is out of range.

    Example:
      >>> coefficients("euler", 2.0).tolist(), coefficients("none", 2.0).tolist()
      ([3.0, 2.0], [1.0])
    """
    import tf_hqgnn  # noqa: F401  Chooses Keras 2 before TensorFlow is imported.
    from tf_hqgnn.ode.integrate import check_settings
    from tf_hqgnn.ode.solvers.solver import SOLVERS

    try:
        check_settings(solver, t1, num_steps, tolerance)
        found = SOLVERS[solver]()
        if not found.has_series:
            raise InputError(f"--solver {solver} has no series: take exact, whose error is bounded")
        return np.ones(1) if t1 == 0 else found.series(t1, num_steps, tolerance)
    except ValueError as error:
        raise InputError(str(error)) from error
