"""What is integrated: dh/dt = A h + e."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import tensorflow as tf

from tf_hqgnn.graph.propagation import Adjacency, sparse_product

VectorField = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


@dataclass(frozen=True, eq=False)
class GraphVectorField:
    """f(t, h) = A h + e: neighbours pull, and the untouched embedding e is fed in all the time.

    Args:
      adjacency: A, over n nodes.
      e: [n, d] of the adjacency's dtype.

    Reference:
      LightGODE, arXiv 2407.18910, the post-training graph ODE.
    """

    adjacency: Adjacency
    e: tf.Tensor

    def __call__(self, t: tf.Tensor, h: tf.Tensor) -> tf.Tensor:
        """dh/dt at h, [n, d]; the field doesn't depend on `t`."""
        del t
        return sparse_product(self.adjacency, h) + self.e
