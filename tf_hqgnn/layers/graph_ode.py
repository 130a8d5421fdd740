"""The post-training graph ODE of LightGODE, as a Keras layer and as a function over NumPy tables."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras

from tf_hqgnn.config import PropagationConfig
from tf_hqgnn.graph.interaction_graph import InteractionGraph
from tf_hqgnn.graph.propagation import NormalizedAdjacency
from tf_hqgnn.ode.integrate import check_settings, solve


@tf_keras.utils.register_keras_serializable(package="tf_hqgnn")
class GraphODE(tf_keras.layers.Layer):
    """h(t1) of dh/dt = A h + e, h(0) = e: embeddings spread over the graph, without weights.

    Args:
      t1: The diffusion time T, >= 0; 0 leaves the embeddings as they are.
      solver: "none", "euler", "heun", "rk4", "exact" or "adaptive".
      num_steps: Of euler, heun and rk4. Euler with 1 step is the published LightGODE, (1 + T) e + T A e.
      tolerance: Of exact (proven bound, see `tf_hqgnn.ode.exact`) and adaptive.
      normalize: Whether rows are scaled to unit length first; rows of zeros stay zeros.

    Call arguments:
      inputs: `(adjacency, e)`: the `NormalizedAdjacency` over n nodes, or a `tf.SparseTensor` of the symmetric
        normalisation in row-major order (the form that a Keras model can take as an input and save), and
        float [n, d], users first.

    Returns:
      [n, d].

    Raises:
      ValueError: A setting is out of range.

    Reference:
      LightGODE, arXiv 2407.18910. The released code makes one Euler step over [0, T]; the other solvers are ours, and
      T doesn't carry over between them.

    Example:
      >>> pair = tf.sparse.from_dense([[0.0, 1.0], [1.0, 0.0]])
      >>> GraphODE(t1=2.0)((pair, tf.constant([[1.0], [0.0]]))).numpy().ravel().tolist()
      [3.0, 2.0]
    """

    def __init__(
        self,
        t1: float,
        solver: str = "euler",
        num_steps: int = 1,
        tolerance: float = 1e-6,
        normalize: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_settings(solver, t1, num_steps, tolerance)
        self.t1 = t1
        self.solver = solver
        self.num_steps = num_steps
        self.tolerance = tolerance
        self.normalize = normalize

    def call(self, inputs: tuple[NormalizedAdjacency | tf.SparseTensor, tf.Tensor]) -> tf.Tensor:
        """See the class."""
        adjacency, e = inputs
        if isinstance(adjacency, tf.SparseTensor):
            adjacency = NormalizedAdjacency.from_sparse_tensor(adjacency)
        if self.normalize:
            e = tf.math.l2_normalize(e, axis=-1)
        return solve(adjacency, e, self.t1, self.solver, self.num_steps, self.tolerance)

    def compute_output_shape(self, input_shape: Any) -> tf.TensorShape:
        """The shape of the embeddings."""
        return tf.TensorShape(input_shape[1])

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


def propagate_embeddings(
    graph: InteractionGraph,
    user_embeddings: np.ndarray,
    item_embeddings: np.ndarray,
    config: PropagationConfig,
    adjacency: NormalizedAdjacency | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Trained tables, propagated over `graph` as `config` says.

    Args:
      graph: Of the training interactions.
      user_embeddings: float32 [num_users, d].
      item_embeddings: float32 [num_items, d].
      config: Solver "none" only scales the rows to unit length, or returns them as they are.
      adjacency: That of `graph`, if the caller has it; it takes longer to make than one product with it.

    Returns:
      float32 [num_users, d] and [num_items, d].

    Raises:
      ValueError: The tables don't fit the graph, or hold NaN or infinity.
    """
    expected = (graph.num_users, graph.num_items)
    tables = [np.asarray(user_embeddings, np.float32), np.asarray(item_embeddings, np.float32)]
    if any(table.ndim != 2 for table in tables) or tuple(map(len, tables)) != expected:
        raise ValueError(
            f"the graph has {expected[0]} users and {expected[1]} items: expected tables [{expected[0]}, d] and "
            f"[{expected[1]}, d], got {tables[0].shape} and {tables[1].shape}"
        )
    if tables[0].shape[1] != tables[1].shape[1]:
        raise ValueError(f"users and items need one dimension, got {tables[0].shape[1]} and {tables[1].shape[1]}")
    e = np.concatenate(tables)
    if not np.isfinite(e).all():
        raise ValueError("the embeddings hold NaN or infinity, which the graph would spread: did training diverge?")
    if config.solver == "none" or config.t1 == 0:
        h = tf.math.l2_normalize(e, axis=-1).numpy() if config.normalize else e
    else:
        layer = GraphODE(config.t1, config.solver, config.num_steps, config.tolerance, config.normalize)
        h = layer.call((adjacency or graph.normalized_adjacency(), tf.constant(e))).numpy()
    return h[: graph.num_users], h[graph.num_users :]
