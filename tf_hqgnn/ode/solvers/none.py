"""No propagation."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from tf_hqgnn.ode.solvers.solver import SOLVERS, Solver
from tf_hqgnn.types import Float64Array

if TYPE_CHECKING:
    import tensorflow as tf

    from tf_hqgnn.graph.propagation import Adjacency


@SOLVERS.register("none")
class NoPropagation(Solver):
    """`e`, whatever the time.

    Example:
      >>> NoPropagation().series(2.0, num_steps=1, tolerance=1e-6).tolist()
      [1.0]
    """

    propagates: ClassVar[bool] = False

    def solve(self, adjacency: Adjacency, e: tf.Tensor, t1: float, num_steps: int, tolerance: float) -> tf.Tensor:
        """See `Solver`."""
        return e

    def series(self, t1: float, num_steps: int, tolerance: float) -> Float64Array:
        """See `Solver`."""
        return np.ones(1)

    def describe(self, t1: float, num_steps: int) -> str:
        """See `Solver`."""
        return self.name
