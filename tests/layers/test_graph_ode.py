import numpy as np
import pytest
import tensorflow as tf

from tf_hqgnn.config import PropagationConfig
from tf_hqgnn.graph.interaction_graph import InteractionGraph
from tf_hqgnn.layers.graph_ode import GraphODE
from tf_hqgnn.ode.solvers.solver import SOLVERS
from tf_hqgnn.training.propagation import propagate_embeddings
from tf_hqgnn.types import Interactions


@pytest.fixture
def graph():
    log = Interactions(np.array([0, 0, 1, 3], np.int32), np.array([0, 1, 1, 2], np.int32))
    return InteractionGraph.from_interactions(log, num_users=4, num_items=4)


@pytest.fixture
def tables():
    rng = np.random.default_rng(0)
    return rng.normal(size=(4, 3)).astype(np.float32), rng.normal(size=(4, 3)).astype(np.float32)


def dense(graph):
    return tf.sparse.to_dense(graph.normalized_adjacency().to_sparse_tensor()).numpy()


def test_config_holds_every_setting():
    layer = GraphODE(1.8, "rk4", num_steps=7, tolerance=1e-3, normalize=True)
    again = GraphODE.from_config(layer.get_config())
    for name in ("t1", "solver", "num_steps", "tolerance", "normalize"):
        assert getattr(again, name) == getattr(layer, name)


def test_both_forms_of_the_adjacency(graph, tables):
    adjacency, e = graph.normalized_adjacency(), tf.constant(np.concatenate(tables))
    layer = GraphODE(0.8, "exact")
    np.testing.assert_allclose(layer((adjacency, e)), layer((adjacency.to_sparse_tensor(), e)), rtol=1e-6)
    assert layer.compute_output_shape(((8, 8), (8, 3))) == (8, 3)


def test_published_settings_by_hand(graph, tables):
    users, items = propagate_embeddings(graph, *tables, PropagationConfig(solver="euler", t1=1.8, normalize=False))
    e = np.concatenate(tables)
    expected = 2.8 * e + 1.8 * dense(graph) @ e
    np.testing.assert_allclose(np.concatenate([users, items]), expected, rtol=1e-5, atol=1e-6)
    assert users.shape == items.shape == (4, 3)
    assert users.dtype == items.dtype == np.float32
    # User 2 and item 3 have no edge.
    np.testing.assert_allclose(users[2], 2.8 * tables[0][2], rtol=1e-6)


@pytest.mark.parametrize("solver", SOLVERS.names())
def test_rows_are_normalised_first(solver, graph, tables):
    config = PropagationConfig(solver=solver, t1=0.8, num_steps=2, tolerance=1e-4)
    assert config.normalize
    unit = [table / np.linalg.norm(table, axis=1, keepdims=True) for table in tables]
    scaled = propagate_embeddings(graph, 3 * tables[0], 0.1 * tables[1], config)
    plain = propagate_embeddings(graph, *unit, config.model_copy(update={"normalize": False}))
    for one, other in zip(scaled, plain):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_none_returns_what_came(graph, tables):
    for config in (
        PropagationConfig(solver="none", normalize=False),
        PropagationConfig(solver="exact", t1=0, normalize=False),
    ):
        for one, other in zip(propagate_embeddings(graph, *tables, config), tables):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("solver", SOLVERS.names())
def test_rows_of_zeros_do_not_become_nan(solver, graph, tables):
    users, items = propagate_embeddings(graph, 0 * tables[0], 0 * tables[1], PropagationConfig(solver=solver))
    assert not users.any()
    assert not items.any()


def test_errors(graph, tables):
    config = PropagationConfig()
    with pytest.raises(ValueError, match=r"4 users and 4 items: expected tables .* got \(3, 3\) and \(4, 3\)"):
        propagate_embeddings(graph, tables[0][1:], tables[1], config)
    with pytest.raises(ValueError, match="users and items need one dimension, got 2 and 3"):
        propagate_embeddings(graph, tables[0][:, 1:], tables[1], config)
    with pytest.raises(ValueError, match="embeddings hold NaN or infinity, which the graph would spread"):
        propagate_embeddings(graph, tables[0] * np.nan, tables[1], config)
    with pytest.raises(ValueError, match="unknown solver 'leapfrog'"):
        GraphODE(1.0, "leapfrog")
    with pytest.raises(ValueError, match="t1 must be a finite number from 0 on"):
        GraphODE(-1.0)
