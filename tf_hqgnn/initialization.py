"""Where the tables start: at the graph's leading singular vectors, which cost seconds and save most of the epochs."""

from __future__ import annotations

import numpy as np
import scipy.sparse

from tf_hqgnn.graph.interaction_graph import InteractionGraph

_POWER_ITERATIONS = 2


def spectral_embeddings(graph: InteractionGraph, dim: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Unit rows from the truncated SVD `R_n ~ P S Q'` of the normalised interactions: those of `P S^1/2` and `Q S^1/2`.

    R_n has 1 / sqrt(degree(u) degree(i)) for every interaction. This is the best factorisation of rank `dim` of the
    graph's own adjacency, so that training starts from a model that already ranks (on Gowalla better than ALS).

    Args:
      graph: of the training interactions.
      dim: d; singular vectors beyond the smaller of users and items don't exist, those columns are zero.
      seed: of the random projection.

    Returns:
      float32 [U, d] and [I, d]; rows without an interaction are zero.

    Reference: Halko, Martinsson and Tropp, SIAM Review 2011 (scikit-learn's `randomized_svd`).

    Example:
      >>> from tf_hqgnn.types import Interactions
      >>> pairs = Interactions(np.array([0, 1]), np.array([1, 0]))
      >>> users, items = spectral_embeddings(InteractionGraph.from_interactions(pairs, 2, 2), dim=2, seed=0)
      >>> np.abs(users @ items.T).round(3).tolist()
      [[0.0, 1.0], [1.0, 0.0]]
    """
    # Not at the top: half a second that commands which don't train needn't pay.
    from sklearn.utils.extmath import randomized_svd

    shape = (graph.num_users, graph.num_items)
    user_factor, item_factor = (
        np.maximum(degree, 1).astype(np.float32) ** -0.5 for degree in (graph.user_degree, graph.item_degree)
    )
    values = np.repeat(user_factor, graph.user_degree) * item_factor[graph.indices]
    matrix = scipy.sparse.csr_matrix((values, graph.indices, graph.indptr), shape)
    left, strength, right = randomized_svd(
        matrix, min(dim, *shape), n_iter=_POWER_ITERATIONS, random_state=seed, flip_sign=True
    )
    root = np.sqrt(strength)
    return _unit_rows(left * root, dim), _unit_rows(right.T * root, dim)


def _unit_rows(rows: np.ndarray, dim: int) -> np.ndarray:
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    # What rounding leaves of a row without interactions is no direction.
    unit = np.where(norms > 1e-6, rows / np.maximum(norms, 1e-6), 0.0)
    return np.pad(unit, ((0, 0), (0, dim - rows.shape[1]))).astype(np.float32)
