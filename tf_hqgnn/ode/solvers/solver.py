"""What every solver has in common, and the registry of solvers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar

from tf_hqgnn.types import Float64Array, Registry

if TYPE_CHECKING:
    import tensorflow as tf

    from tf_hqgnn.graph.propagation import Adjacency


class Solver(ABC):
    """A way from h(0) = e to h(t1) of dh/dt = A h + e.

    Attributes:
      name: as in the settings.
      propagates: whether the solution is anything but `e`.
      has_series: whether the solution is `sum_k c_k A^k e` with coefficients that don't depend on `e`.
    """

    name: ClassVar[str]
    propagates: ClassVar[bool] = True
    has_series: ClassVar[bool] = True

    @abstractmethod
    def solve(self, adjacency: Adjacency, e: tf.Tensor, t1: float, num_steps: int, tolerance: float) -> tf.Tensor:
        """h(t1), [n, d].

        Args:
          adjacency: A, over n nodes.
          e: [n, d] of the adjacency's dtype.
          t1: > 0.
          num_steps: >= 1; not every solver reads it.
          tolerance: > 0, relative to the norm of `e`; not every solver reads it.
        """

    @abstractmethod
    def series(self, t1: float, num_steps: int, tolerance: float) -> Float64Array:
        """c_0..c_K of the solution `sum_k c_k A^k e`, float64 [K + 1], for |A| <= 1.

        Args:
          t1: > 0.
          num_steps: as of `solve`.
          tolerance: as of `solve`.

        Raises:
          ValueError: There is none: `has_series` is False.
        """

    def describe(self, t1: float, num_steps: int) -> str:
        """The solver with the settings that it reads, for a report."""
        return f"{self.name} to t1 = {t1:g}"


SOLVERS: Registry[Solver] = Registry("solver", "tf_hqgnn.ode.solvers")
