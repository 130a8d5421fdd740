"""The start of the tables against dense linear algebra."""

import numpy as np
import pytest

from tf_hqgnn.config import ModelConfig
from tf_hqgnn.graph.interaction_graph import InteractionGraph
from tf_hqgnn.graph.unit_rows import unit_rows
from tf_hqgnn.models import initialization
from tf_hqgnn.models.initialization import initial_embeddings, spectral_embeddings
from tf_hqgnn.types import Interactions


@pytest.fixture(scope="module")
def graph():
    rng = np.random.default_rng(0)
    # The last user and the last item have no interactions.
    users, items = np.nonzero(rng.random((29, 19)) < 0.3)
    return InteractionGraph.from_interactions(Interactions(users.astype(np.int32), items.astype(np.int32)), 30, 20)


def dense_scores(graph, dim, user_exponent, item_exponent, power, popularity):
    """P S^p Q' D_I^b, by NumPy's full decomposition."""
    matrix = np.zeros((graph.num_users, graph.num_items))
    matrix[np.repeat(np.arange(graph.num_users), graph.user_degree), graph.indices] = 1
    user_degree, item_degree = (np.maximum(matrix.sum(axis), 1) for axis in (1, 0))
    left, strength, right = np.linalg.svd(matrix / np.outer(user_degree**user_exponent, item_degree**item_exponent))
    return (left[:, :dim] * strength[:dim] ** power) @ right[:dim] * item_degree**popularity


@pytest.mark.parametrize(
    ("user_exponent", "item_exponent", "power", "popularity"),
    [(0.5, 0.5, 1.0, 0.0), (0.3, 0.4, 1.5, 0.2), (0.0, 1.0, 0.0, 1.0), (0.1, 0.2, 2.0, 0.5)],
)
def test_every_user_ranks_as_by_the_dense_decomposition(graph, user_exponent, item_exponent, power, popularity):
    config = ModelConfig(
        embedding_dim=5,
        spectral_user_exponent=user_exponent,
        spectral_item_exponent=item_exponent,
        spectral_power=power,
        spectral_popularity=popularity,
        spectral_iterations=20,
    )
    users, items = spectral_embeddings(graph, config, seed=1)
    expected = dense_scores(graph, 5, user_exponent, item_exponent, power, popularity)
    # A user's scores are known up to a factor.
    np.testing.assert_allclose(unit_rows(users @ items.T)[:-1], unit_rows(expected)[:-1], atol=1e-3)


def test_more_power_iterations_come_closer(graph):
    def distance(iterations):
        users, items = spectral_embeddings(graph, ModelConfig(embedding_dim=5, spectral_iterations=iterations), seed=1)
        expected = unit_rows(dense_scores(graph, 5, 0.3, 0.4, 1.5, 0.2))[:-1]
        return np.abs(unit_rows(users @ items.T)[:-1] - expected).max()

    assert distance(8) < 1e-5 < 0.01 < distance(0)


def test_users_have_unit_length_and_items_the_root_mean_square_one(graph):
    users, items = spectral_embeddings(graph, ModelConfig(embedding_dim=5), seed=1)
    assert users.dtype == items.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(users[:-1], axis=1), 1, atol=1e-5)
    assert np.square(items).sum(axis=1).mean() == pytest.approx(1, abs=1e-5)
    assert np.linalg.norm(items[:-1], axis=1).std() > 0.1
    for rows in (users, items):
        np.testing.assert_array_equal(rows[-1], 0)


def test_what_trains_starts_at_unit_length(graph):
    config = ModelConfig(embedding_dim=5)
    long = spectral_embeddings(graph, config, seed=1)
    for found, rows in zip(initial_embeddings(graph, config, seed=1), long):
        np.testing.assert_allclose(np.linalg.norm(found[:-1], axis=1), 1, atol=1e-5)
        np.testing.assert_allclose(found, unit_rows(rows))
    for found, rows in zip(initial_embeddings(graph, config, seed=1, unit=False), long):
        np.testing.assert_array_equal(found, rows)


def test_a_random_start_is_none_of_these(graph):
    assert initial_embeddings(graph, ModelConfig(initializer="random"), seed=1) is None


def test_more_dimensions_than_singular_vectors_leaves_columns_of_zeros(graph):
    users, items = spectral_embeddings(graph, ModelConfig(embedding_dim=24), seed=1)
    assert (users.shape, items.shape) == ((30, 24), (20, 24))
    np.testing.assert_array_equal(items[:, 20:], 0)


def test_the_same_seed_gives_the_same_rows(graph):
    config = ModelConfig(embedding_dim=5, spectral_iterations=1)
    first, again, other = (spectral_embeddings(graph, config, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first[0], again[0])
    assert not np.array_equal(first[0], other[0])


def test_a_long_factorisation_is_announced(graph, caplog, monkeypatch):
    caplog.set_level("INFO")
    spectral_embeddings(graph, ModelConfig(embedding_dim=5), seed=1)
    assert caplog.messages == []
    monkeypatch.setattr(initialization, "LONG_FACTORISATION", 0)
    spectral_embeddings(graph, ModelConfig(embedding_dim=5), seed=1)
    assert caplog.messages == [f"spectral: 5 singular vectors of {graph.num_edges} interactions"]
