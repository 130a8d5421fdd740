"""The time loop over the steps of a Runge-Kutta method, and dh/dt = A h + e by the solver with a given name."""

from __future__ import annotations

import tensorflow as tf

from tf_hqgnn.graph.propagation import Adjacency
from tf_hqgnn.ode.solvers.runge_kutta import RungeKutta
from tf_hqgnn.ode.solvers.solver import SOLVERS
from tf_hqgnn.ode.vector_field import VectorField


def integrate(vector_field: VectorField, h0: tf.Tensor, t1: float, solver: RungeKutta, num_steps: int) -> tf.Tensor:
    """h(t1) of dh/dt = f(t, h) with h(0) = `h0`, by `num_steps` equal steps.

    Args:
      vector_field: f(t, h), of the shape and dtype of h.
      h0: Of any shape, floating.
      t1: The end, >= 0.
      solver: What makes a step.
      num_steps: >= 1.

    Raises:
      ValueError: `num_steps` < 1, or `t1` is negative or not finite.

    Example:
      >>> from tf_hqgnn.ode.solvers.runge_kutta import RungeKutta4
      >>> one = tf.ones([1])
      >>> round(float(integrate(lambda t, h: h, one, 1.0, RungeKutta4(), num_steps=8)[0]), 4)
      2.7183
    """
    check_settings(t1=t1, num_steps=num_steps)
    h0 = tf.convert_to_tensor(h0)
    dt = tf.constant(t1 / num_steps, h0.dtype)
    h = h0
    # Unrolled: a tf.while_loop whose body uses the sparse product can't be reloaded from a SavedModel.
    for n in range(num_steps):
        h = solver.step(vector_field, n * dt, h, dt)
    return h


def solve(
    adjacency: Adjacency, e: tf.Tensor, t1: float, solver: str, num_steps: int = 1, tolerance: float = 1e-6
) -> tf.Tensor:
    """h(t1), [n, d], of dh/dt = A h + e with h(0) = `e`.

    Args:
      adjacency: A, over n nodes.
      e: [n, d] of the adjacency's dtype.
      t1: T >= 0.
      solver: A name in `SOLVERS`.
      num_steps: Of a Runge-Kutta method.
      tolerance: Of exact (a bound) and adaptive (an estimate), relative to the norm of `e`.

    Raises:
      ValueError: A setting is unknown or out of range.
    """
    check_settings(solver, t1, num_steps, tolerance)
    return e if t1 == 0 else SOLVERS[solver]().solve(adjacency, e, t1, num_steps, tolerance)


def check_settings(solver: str = "none", t1: float = 0.0, num_steps: int = 1, tolerance: float = 1e-6) -> None:
    """Raises ValueError for a setting that `solve` can't work with."""
    SOLVERS[solver]
    if not 0 <= t1 < float("inf"):
        raise ValueError(f"t1 must be a finite number from 0 on, got {t1}")
    if num_steps < 1:
        raise ValueError(f"num_steps must be at least 1, got {num_steps}")
    if not 0 < tolerance < float("inf"):
        raise ValueError(f"tolerance must be a finite number above 0, got {tolerance}")
