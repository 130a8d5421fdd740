"""The propagation of trained tables, as the settings say."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from tf_hqgnn.config import PropagationConfig
from tf_hqgnn.graph.interaction_graph import InteractionGraph
from tf_hqgnn.graph.propagation import NormalizedAdjacency
from tf_hqgnn.layers.graph_ode import GraphODE
from tf_hqgnn.types import Float32Array


def propagate_embeddings(
    graph: InteractionGraph,
    user_embeddings: Float32Array,
    item_embeddings: Float32Array,
    config: PropagationConfig,
    adjacency: NormalizedAdjacency | None = None,
) -> tuple[Float32Array, Float32Array]:
    """Trained tables, propagated over `graph` as `config` says.

    Args:
      graph: Of the training interactions.
      user_embeddings: float32 [num_users, d].
      item_embeddings: float32 [num_items, d].
      config: A solver that doesn't propagate only scales the rows to unit length, or returns them as they are.
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
    if config.t1 == 0 or not config.make_solver().propagates:
        h = tf.math.l2_normalize(e, axis=-1).numpy() if config.normalize else e
    else:
        layer = GraphODE(config.t1, config.solver, config.num_steps, config.tolerance, config.normalize)
        h = layer.call((adjacency or graph.normalized_adjacency(), tf.constant(e))).numpy()
    return h[: graph.num_users], h[graph.num_users :]
