"""Explicit Runge-Kutta steps: each solver knows one step and its order, the time loop is in integrate.py."""

from __future__ import annotations

from abc import ABC, abstractmethod

import tensorflow as tf

from tf_hqgnn.ode.vector_field import VectorField


class Solver(ABC):
    """One step of an initial value problem dh/dt = f(t, h).

    Attributes:
      name: As in the configuration.
      order: The global error shrinks as dt^order.
      num_evaluations: Of the vector field in a step; each is one sparse product.
    """

    name: str
    order: int
    num_evaluations: int

    @abstractmethod
    def step(self, vector_field: VectorField, t: tf.Tensor, h: tf.Tensor, dt: tf.Tensor) -> tf.Tensor:
        """h(t + dt) from h(t) = `h`, of any shape; `t` and `dt` are scalars of the dtype of `h`."""


class Euler(Solver):
    """h + dt f(t, h). One step from h = e is the published LightGODE: (1 + T) e + T A e."""

    name = "euler"
    order = 1
    num_evaluations = 1

    def step(self, vector_field: VectorField, t: tf.Tensor, h: tf.Tensor, dt: tf.Tensor) -> tf.Tensor:
        """One step; see `Solver.step`."""
        return h + dt * vector_field(t, h)


class Heun(Solver):
    """The trapezoid rule with an Euler step as its guess."""

    name = "heun"
    order = 2
    num_evaluations = 2

    def step(self, vector_field: VectorField, t: tf.Tensor, h: tf.Tensor, dt: tf.Tensor) -> tf.Tensor:
        """One step; see `Solver.step`."""
        k1 = vector_field(t, h)
        k2 = vector_field(t + dt, h + dt * k1)
        return h + dt / 2 * (k1 + k2)


class RungeKutta4(Solver):
    """The classical method of Kutta."""

    name = "rk4"
    order = 4
    num_evaluations = 4

    def step(self, vector_field: VectorField, t: tf.Tensor, h: tf.Tensor, dt: tf.Tensor) -> tf.Tensor:
        """One step; see `Solver.step`."""
        k1 = vector_field(t, h)
        k2 = vector_field(t + dt / 2, h + dt / 2 * k1)
        k3 = vector_field(t + dt / 2, h + dt / 2 * k2)
        k4 = vector_field(t + dt, h + dt * k3)
        return h + dt / 6 * (k1 + 2 * (k2 + k3) + k4)


_SOLVERS: dict[str, type[Solver]] = {solver.name: solver for solver in (Euler, Heun, RungeKutta4)}


def get_solver(name: str) -> Solver:
    """The solver called `name`: "euler", "heun" or "rk4".

    Raises:
      ValueError: There is none of that name.

    Example:
      >>> get_solver("rk4").order
      4
    """
    if name not in _SOLVERS:
        raise ValueError(f"unknown solver {name!r}: expected one of {', '.join(_SOLVERS)}")
    return _SOLVERS[name]()
