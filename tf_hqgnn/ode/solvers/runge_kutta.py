"""Explicit Runge-Kutta methods: each knows one step and its order, the time loop is in integrate.py."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar

from tf_hqgnn.ode.solvers.solver import SOLVERS, Solver
from tf_hqgnn.types import Float64Array

if TYPE_CHECKING:
    import tensorflow as tf

    from tf_hqgnn.graph.propagation import Adjacency
    from tf_hqgnn.ode.vector_field import VectorField


class RungeKutta(Solver):
    """One step of an initial value problem dh/dt = f(t, h), made `num_steps` times.

    Attributes:
      order: The global error shrinks as dt^order.
      num_evaluations: Of the vector field in a step; each is one sparse product.
    """

    order: ClassVar[int]
    num_evaluations: ClassVar[int]

    @abstractmethod
    def step(self, vector_field: VectorField, t: tf.Tensor, h: tf.Tensor, dt: tf.Tensor) -> tf.Tensor:
        """h(t + dt) from h(t) = `h`, of any shape; `t` and `dt` are scalars of the dtype of `h`."""

    def solve(self, adjacency: Adjacency, e: tf.Tensor, t1: float, num_steps: int, tolerance: float) -> tf.Tensor:
        """See `Solver`; reads no tolerance."""
        from tf_hqgnn.ode.integrate import integrate
        from tf_hqgnn.ode.vector_field import GraphVectorField

        return integrate(GraphVectorField(adjacency, e), e, t1, self, num_steps)

    def series(self, t1: float, num_steps: int, tolerance: float) -> Float64Array:
        """See `Solver`.

        A step is a polynomial in A: its coefficients are what it makes of e = (1, 0, 0, ..) where A is the shift, which
        multiplies a polynomial by A.
        """
        import tensorflow as tf

        from tf_hqgnn.ode.integrate import integrate

        e = tf.one_hot(0, 1 + self.num_evaluations * num_steps, dtype=tf.float64)
        shifted = integrate(lambda _, h: tf.concat([[0.0], h[:-1]], 0) + e, e, t1, self, num_steps)
        coefficients: Float64Array = shifted.numpy()
        return coefficients

    def describe(self, t1: float, num_steps: int) -> str:
        """See `Solver`."""
        return f"{super().describe(t1, num_steps)} in {num_steps} step{'s' if num_steps > 1 else ''}"


@SOLVERS.register("euler")
class Euler(RungeKutta):
    """h + dt f(t, h). One step from h = e is the published LightGODE: (1 + T) e + T A e.

    Example:
      >>> Euler().series(2.0, num_steps=1, tolerance=1e-6).tolist()
      [3.0, 2.0]
    """

    order: ClassVar[int] = 1
    num_evaluations: ClassVar[int] = 1

    def step(self, vector_field: VectorField, t: tf.Tensor, h: tf.Tensor, dt: tf.Tensor) -> tf.Tensor:
        """See `RungeKutta`."""
        return h + dt * vector_field(t, h)


@SOLVERS.register("heun")
class Heun(RungeKutta):
    """The trapezoid rule with an Euler step as its guess."""

    order: ClassVar[int] = 2
    num_evaluations: ClassVar[int] = 2

    def step(self, vector_field: VectorField, t: tf.Tensor, h: tf.Tensor, dt: tf.Tensor) -> tf.Tensor:
        """See `RungeKutta`."""
        k1 = vector_field(t, h)
        k2 = vector_field(t + dt, h + dt * k1)
        return h + dt / 2 * (k1 + k2)


@SOLVERS.register("rk4")
class RungeKutta4(RungeKutta):
    """The classical method of Kutta."""

    order: ClassVar[int] = 4
    num_evaluations: ClassVar[int] = 4

    def step(self, vector_field: VectorField, t: tf.Tensor, h: tf.Tensor, dt: tf.Tensor) -> tf.Tensor:
        """See `RungeKutta`."""
        k1 = vector_field(t, h)
        k2 = vector_field(t + dt / 2, h + dt / 2 * k1)
        k3 = vector_field(t + dt / 2, h + dt / 2 * k2)
        k4 = vector_field(t + dt, h + dt * k3)
        return h + dt / 6 * (k1 + 2 * (k2 + k3) + k4)
