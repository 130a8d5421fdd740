"""Where the tables start: at a factorisation of the graph, which costs seconds and saves most of the epochs."""

from __future__ import annotations

import sys
import time

import numpy as np
import scipy.sparse
from threadpoolctl import threadpool_limits

from tf_hqgnn.config import ModelConfig
from tf_hqgnn.graph.interaction_graph import InteractionGraph

_POWER_ITERATIONS = 2
# Between two lines that say how far a factorisation is.
_PROGRESS_SECONDS = 10.0


def initial_embeddings(graph: InteractionGraph, config: ModelConfig, seed: int) -> tuple[np.ndarray, np.ndarray] | None:
    """What `config.initializer` names, float32 [U, d] and [I, d] of unit rows; None where the start is random.

    Args:
      graph: of the training interactions.
      config: of the model.
      seed: of what is drawn at random.
    """
    if config.initializer == "als":
        return als_embeddings(
            graph, config.embedding_dim, seed, config.als_alpha, config.als_regularization, config.als_iterations
        )
    if config.initializer == "spectral":
        return spectral_embeddings(graph, config.embedding_dim, seed)
    return None


def als_embeddings(
    graph: InteractionGraph, dim: int, seed: int, alpha: float, regularization: float, iterations: int
) -> tuple[np.ndarray, np.ndarray]:
    """Unit rows from the weighted factorisation of the interactions by alternating least squares.

    It minimises `sum_ui c_ui (r_ui - x_u . y_i)^2 + regularization (|X|^2 + |Y|^2)` over all pairs, r_ui being 1 for an
    interaction and 0 else, c_ui being alpha r_ui, or 1 where that is 0.

    Args:
      graph: of the training interactions.
      dim: d.
      seed: of the factors before the first iteration.
      alpha: weight of an interaction, > 0; a pair without one has 1.
      regularization: >= 0.
      iterations: each solves for the users, then for the items, by three steps of conjugate gradients.

    Returns:
      float32 [U, d] and [I, d]; rows without an interaction are zero.

    Reference: Hu, Koren and Volinsky, ICDM 2008; Takacs, Pilaszy and Tikk, RecSys 2011 (the conjugate gradients; the
    library `implicit`).

    Example:
      >>> from tf_hqgnn.types import Interactions
      >>> pairs = Interactions(np.array([0, 1]), np.array([1, 0]))
      >>> graph = InteractionGraph.from_interactions(pairs, 2, 2)
      >>> users, items = als_embeddings(graph, dim=2, seed=0, alpha=30, regularization=0.1, iterations=20)
      >>> np.abs(users @ items.T).round(1).tolist()
      [[0.0, 1.0], [1.0, 0.0]]
    """
    # Not at the top, as below.
    from implicit.cpu.als import AlternatingLeastSquares

    began = last = time.monotonic()

    def tell(iteration: int, *_: object) -> None:
        nonlocal last
        if time.monotonic() - last >= _PROGRESS_SECONDS:
            last = time.monotonic()
            print(f"als: iteration {iteration + 1}/{iterations}  {last - began:.0f} s", file=sys.stderr, flush=True)

    # The library has threads of its own, which those of BLAS would fight.
    with threadpool_limits(1, user_api="blas"):
        model = AlternatingLeastSquares(dim, regularization, alpha, iterations=iterations, random_state=seed)
        model.fit(graph.to_matrix(), show_progress=False, callback=tell)
    return _unit_rows(model.user_factors, dim), _unit_rows(model.item_factors, dim)


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
