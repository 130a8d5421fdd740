"""The coefficients of the power series that the solvers of the graph ODE are."""

from __future__ import annotations

import numpy as np

from tf_hqgnn.types import InputError


def coefficients(solver: str, t1: float, num_steps: int = 1, tolerance: float = 1e-6) -> np.ndarray:
    """c_0..c_K of h(t1) = sum_k c_k A^k e, float64 [K + 1], for |A| <= 1.

    A Runge-Kutta step is a polynomial in A: its coefficients are what it makes of e = (1, 0, 0, ..) where A is the
    shift, which multiplies a polynomial by A.

    Raises:
      InputError: The solver is none of none, euler, heun, rk4 and exact, or a setting is out of range.

    Example:
      >>> coefficients("euler", 2.0).tolist(), coefficients("none", 2.0).tolist()
      ([3.0, 2.0], [1.0])
    """
    import tf_hqgnn  # noqa: F401  Chooses Keras 2 before TensorFlow is imported.

    import tensorflow as tf  # isort: skip

    from tf_hqgnn.ode.exact import series_coefficients
    from tf_hqgnn.ode.integrate import check_settings, integrate
    from tf_hqgnn.ode.solvers import get_solver

    if solver == "adaptive":
        raise InputError("--solver adaptive has no series: take exact, whose error is bounded")
    try:
        check_settings(solver, t1, num_steps, tolerance)
        if solver == "none" or t1 == 0:
            return np.ones(1)
        if solver == "exact":
            return series_coefficients(t1, tolerance)
    except ValueError as error:
        raise InputError(str(error)) from error
    runge_kutta = get_solver(solver)
    e = tf.one_hot(0, 1 + runge_kutta.num_evaluations * num_steps, dtype=tf.float64)
    shifted = integrate(lambda _, h: tf.concat([[0.0], h[:-1]], 0) + e, e, t1, runge_kutta, num_steps)
    return shifted.numpy()
