"""A solver that picks its own steps."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from tf_hqgnn.ode.solvers.solver import SOLVERS, Solver
from tf_hqgnn.types import Float64Array

if TYPE_CHECKING:
    import tensorflow as tf

    from tf_hqgnn.graph.propagation import Adjacency


@SOLVERS.register("adaptive")
class Adaptive(Solver):
    """Dormand-Prince 5(4); its steps, and so the coefficients, depend on `e`. See `tf_hqgnn.ode.adaptive`."""

    has_series: ClassVar[bool] = False

    def solve(self, adjacency: Adjacency, e: tf.Tensor, t1: float, num_steps: int, tolerance: float) -> tf.Tensor:
        """See `Solver`; reads no number of steps, and its tolerance is an estimate."""
        from tf_hqgnn.ode.adaptive import solve_adaptive

        return solve_adaptive(adjacency, e, t1, tolerance).h

    def series(self, t1: float, num_steps: int, tolerance: float) -> Float64Array:
        """Raises ValueError: there is none."""
        raise ValueError("the solver adaptive has no series: take exact, whose error is bounded")
