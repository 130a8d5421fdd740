"""Initialisations against dense linear algebra."""

import numpy as np
import pytest

from tf_hqgnn import initialization
from tf_hqgnn.config import ModelConfig
from tf_hqgnn.graph.interaction_graph import InteractionGraph
from tf_hqgnn.initialization import als_embeddings, initial_embeddings, spectral_embeddings
from tf_hqgnn.types import Interactions


@pytest.fixture(scope="module")
def graph():
    rng = np.random.default_rng(0)
    # The last user and the last item have no interactions.
    users, items = np.nonzero(rng.random((29, 19)) < 0.3)
    return InteractionGraph.from_interactions(Interactions(users.astype(np.int32), items.astype(np.int32)), 30, 20)


def als(graph, dim, seed):
    return als_embeddings(graph, dim, seed, alpha=30.0, regularization=1.0, iterations=5)


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


def dense_als(graph, dim, alpha, regularization, iterations, seed):
    """Alternating least squares by solving each row's normal equations, from Hu, Koren and Volinsky's paper."""
    taken = np.zeros((graph.num_users, graph.num_items))
    taken[np.repeat(np.arange(graph.num_users), graph.user_degree), graph.indices] = 1
    rng = np.random.default_rng(seed)
    users, items = rng.random((graph.num_users, dim)) * 0.01, rng.random((graph.num_items, dim)) * 0.01
    for _ in range(iterations):
        for rows, others, wanted in ((users, items, taken), (items, users, taken.T)):
            for row, preference in enumerate(wanted):
                confidence = np.where(preference > 0, alpha, 1.0)
                normal = (others.T * confidence) @ others + regularization * np.eye(dim)
                rows[row] = np.linalg.solve(normal, others.T @ (confidence * preference))
    return users, items


def test_als_finds_what_dense_least_squares_find(graph):
    """Many iterations of three steps of conjugate gradients end where exact solutions do."""
    users, items = als_embeddings(graph, dim=4, seed=1, alpha=5.0, regularization=1.0, iterations=300)
    expected = [
        rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)
        for rows in dense_als(graph, 4, 5.0, 1.0, 300, seed=2)
    ]
    np.testing.assert_allclose(users @ items.T, expected[0] @ expected[1].T, atol=0.02)
    assert users.dtype == items.dtype == np.float32


@pytest.mark.parametrize("weight", [1.0, 50.0])
def test_als_alpha_and_regularization_reach_the_solver(graph, weight):
    plain = als_embeddings(graph, 4, 1, alpha=2.0, regularization=1.0, iterations=5)
    other = als_embeddings(graph, 4, 1, alpha=2.0 * weight, regularization=weight**2, iterations=5)
    assert np.allclose(plain[0], other[0], atol=1e-3) == (weight == 1)


def test_als_says_how_far_it_is(graph, capfd, monkeypatch):
    monkeypatch.setattr(initialization, "_PROGRESS_SECONDS", 0.0)
    als_embeddings(graph, 4, 1, alpha=2.0, regularization=1.0, iterations=3)
    lines = capfd.readouterr().err.splitlines()
    assert [line.partition("  ")[0] for line in lines] == [f"als: iteration {n}/3" for n in (1, 2, 3)]


@pytest.mark.parametrize("initializer", ["als", "spectral"])
def test_the_settings_choose(graph, initializer):
    config = ModelConfig(embedding_dim=4, initializer=initializer, als_iterations=3)
    found = initial_embeddings(graph, config, seed=1)
    expected = als_embeddings(graph, 4, 1, 30.0, 10.0, 3) if initializer == "als" else spectral_embeddings(graph, 4, 1)
    np.testing.assert_array_equal(found[0], expected[0])
    assert initial_embeddings(graph, ModelConfig(initializer="random"), seed=1) is None


@pytest.mark.parametrize("embeddings", [spectral_embeddings, als])
def test_rows_have_length_one_or_nothing_to_start_from(graph, embeddings):
    for rows in embeddings(graph, dim=5, seed=1):
        np.testing.assert_allclose(np.linalg.norm(rows[:-1], axis=1), 1, atol=1e-5)
        np.testing.assert_array_equal(rows[-1], 0)


def test_more_dimensions_than_singular_vectors_leaves_columns_of_zeros(graph):
    users, items = spectral_embeddings(graph, dim=24, seed=1)
    assert (users.shape, items.shape) == ((30, 24), (20, 24))
    np.testing.assert_array_equal(items[:, 20:], 0)


@pytest.mark.parametrize("embeddings", [spectral_embeddings, als])
def test_the_same_seed_gives_the_same_rows(graph, embeddings):
    first, again, other = (embeddings(graph, 5, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first[0], again[0])
    assert not np.array_equal(first[0], other[0])
