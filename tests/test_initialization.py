"""Spectral initialisation against a dense singular value decomposition."""

import numpy as np
import pytest

from tf_hqgnn.graph.interaction_graph import InteractionGraph
from tf_hqgnn.initialization import spectral_embeddings
from tf_hqgnn.types import Interactions


@pytest.fixture(scope="module")
def graph():
    rng = np.random.default_rng(0)
    # The last user and the last item have no interactions.
    users, items = np.nonzero(rng.random((29, 19)) < 0.3)
    return InteractionGraph.from_interactions(Interactions(users.astype(np.int32), items.astype(np.int32)), 30, 20)


def dense(graph):
    matrix = np.zeros((graph.num_users, graph.num_items))
    matrix[np.repeat(np.arange(graph.num_users), graph.user_degree), graph.indices] = 1
    degrees = [np.maximum(matrix.sum(axis), 1) for axis in (1, 0)]
    return matrix / np.sqrt(np.outer(*degrees))


def test_scores_are_those_of_the_dense_decomposition(graph):
    users, items = spectral_embeddings(graph, dim=5, seed=1)
    left, strength, right = np.linalg.svd(dense(graph))
    expected = [left[:, :5] * np.sqrt(strength[:5]), right[:5].T * np.sqrt(strength[:5])]
    norms = [np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-6) for rows in expected]
    scores = (expected[0] / norms[0]) @ (expected[1] / norms[1]).T
    # Random projection is approximate where singular values lie close, as here. Vectors have no sign, products do.
    np.testing.assert_allclose(users @ items.T, scores, atol=0.06)
    assert users.dtype == items.dtype == np.float32


def test_rows_have_length_one_or_nothing_to_start_from(graph):
    for rows in spectral_embeddings(graph, dim=5, seed=1):
        np.testing.assert_allclose(np.linalg.norm(rows[:-1], axis=1), 1, atol=1e-5)
        np.testing.assert_array_equal(rows[-1], 0)


def test_more_dimensions_than_singular_vectors_leaves_columns_of_zeros(graph):
    users, items = spectral_embeddings(graph, dim=24, seed=1)
    assert (users.shape, items.shape) == ((30, 24), (20, 24))
    np.testing.assert_array_equal(items[:, 20:], 0)


def test_the_same_seed_gives_the_same_rows(graph):
    first, again, other = (spectral_embeddings(graph, 5, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first[0], again[0])
    assert not np.array_equal(first[0], other[0])
