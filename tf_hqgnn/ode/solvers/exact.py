"""The exact solution, a power series that is cut where a proven bound allows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tf_hqgnn.ode.solvers.solver import SOLVERS, Solver
from tf_hqgnn.types import Float64Array

if TYPE_CHECKING:
    import tensorflow as tf

    from tf_hqgnn.graph.propagation import Adjacency


@SOLVERS.register("exact")
class Exact(Solver):
    """`sum_k c_k A^k e` with an error of at most `tolerance |e|`; see `tf_hqgnn.ode.exact` for coefficients and bound.

    Example:
      >>> Exact().series(1.0, num_steps=1, tolerance=0.2).round(3).tolist()
      [2.0, 1.5, 0.667, 0.208]
    """

    def solve(self, adjacency: Adjacency, e: tf.Tensor, t1: float, num_steps: int, tolerance: float) -> tf.Tensor:
        """See `Solver`; reads no number of steps."""
        from tf_hqgnn.ode.exact import solve_exact

        return solve_exact(adjacency, e, t1, tolerance)

    def series(self, t1: float, num_steps: int, tolerance: float) -> Float64Array:
        """See `Solver`."""
        from tf_hqgnn.ode.exact import series_coefficients

        return series_coefficients(t1, tolerance)
