"""The post-training graph ODE of LightGODE, as a Keras layer."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
import tf_keras

from tf_hqgnn.layers.graph_layer import Graph, GraphLayer, rows_shape
from tf_hqgnn.ode.integrate import check_settings, solve


@tf_keras.utils.register_keras_serializable(package="tf_hqgnn")
class GraphODE(GraphLayer):
    """Spread embeddings over the graph, without weights: h(t1) of dh/dt = A h + e with h(0) = e.

    Args:
      t1: The diffusion time T, >= 0; 0 leaves the embeddings as they are.
      solver: A name in `tf_hqgnn.ode.solvers.solver.SOLVERS`.
      num_steps: Of euler, heun and rk4. Euler with 1 step is the published LightGODE, (1 + T) e + T A e.
      tolerance: Of exact (proven bound, see `tf_hqgnn.ode.exact`) and adaptive.
      normalize: Whether rows are scaled to unit length first; rows of zeros stay zeros.
      graph: As of `GraphLayer`: the graph over n nodes, or None if it is passed in each call.

    Call arguments:
      inputs: The embeddings e, float [n, d], users first. Without a graph of its own, `(adjacency, e)`: the
        `NormalizedAdjacency` over n nodes, or a `tf.SparseTensor` of the symmetric normalisation in row-major order.

    Returns:
      [n, d].

    Raises:
      ValueError: A setting is out of range.

    Reference:
      LightGODE, arXiv 2407.18910. The released code makes one Euler step over [0, T]; the other solvers are ours, and
      T doesn't carry over between them.

    Example:
      >>> pair = tf.sparse.from_dense([[0.0, 1.0], [1.0, 0.0]])
      >>> GraphODE(t1=2.0, graph=pair)(tf.constant([[1.0], [0.0]])).numpy().ravel().tolist()
      [3.0, 2.0]
    """

    def __init__(
        self,
        t1: float,
        solver: str = "euler",
        num_steps: int = 1,
        tolerance: float = 1e-6,
        normalize: bool = False,
        graph: Graph | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(graph, **kwargs)
        check_settings(solver, t1, num_steps, tolerance)
        self.t1 = t1
        self.solver = solver
        self.num_steps = num_steps
        self.tolerance = tolerance
        self.normalize = normalize

    def call(self, inputs: Any) -> tf.Tensor:
        """See the class."""
        adjacency, e = self.adjacency_and_rows(inputs)
        if self.normalize:
            e = tf.math.l2_normalize(e, axis=-1)
        return tf.cast(solve(adjacency, e, self.t1, self.solver, self.num_steps, self.tolerance), self.compute_dtype)

    def compute_output_shape(self, input_shape: Any) -> tf.TensorShape:
        """The shape of the embeddings."""
        return rows_shape(input_shape)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "t1": self.t1,
            "solver": self.solver,
            "num_steps": self.num_steps,
            "tolerance": self.tolerance,
            "normalize": self.normalize,
        }
