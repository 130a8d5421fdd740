import gc
import pickle
import tracemalloc
import weakref

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tf_hqgnn.graph import interaction_graph
from tf_hqgnn.graph.interaction_graph import InteractionGraph
from tf_hqgnn.types import InputError, Interactions


def pairs(users, items):
    return Interactions(np.array(users, np.int32), np.array(items, np.int32))


@pytest.fixture
def graph():
    # User 0 has items 0 and 2, user 2 has item 0; user 1 and item 1 are isolated; one pair is there twice.
    return InteractionGraph.from_interactions(pairs([2, 0, 0, 2], [0, 2, 0, 0]), num_users=3, num_items=3)


def dense(adjacency):
    return tf.sparse.to_dense(adjacency.to_sparse_tensor()).numpy()


def test_structure(graph):
    assert (graph.num_users, graph.num_items, graph.num_nodes, graph.num_edges, graph.num_repeated) == (3, 3, 6, 3, 1)
    indptr, indices = graph.seen()
    assert (indptr.dtype, indices.dtype, graph.user_degree.dtype) == (np.int64, np.int32, np.int32)
    assert indptr.tolist() == [0, 2, 2, 3]
    assert indices.tolist() == [0, 2, 0]
    assert graph.user_degree.tolist() == [2, 0, 1]
    assert graph.item_degree.tolist() == [2, 0, 1]


def test_arrays_cannot_be_written_to(graph):
    for array in (graph.indptr, graph.indices, graph.user_degree, graph.item_degree):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1


def test_the_callers_arrays_stay_his():
    indptr, indices = np.array([0, 1], np.int64), np.array([0], np.int32)
    graph = InteractionGraph(1, 1, indptr, indices)
    indices[0] = 7
    assert graph.indices.tolist() == [0]


def test_symmetric_normalisation_by_hand(graph):
    root = 1 / np.sqrt(2)
    expected = np.zeros((6, 6))
    expected[0, 3], expected[0, 5], expected[2, 3] = 1 / 2, root, root
    np.testing.assert_allclose(dense(graph.normalized_adjacency(dtype=tf.float64)), expected + expected.T, rtol=1e-15)


@pytest.mark.parametrize("exponent", [0.0, 0.3, 0.5, 1.0])
def test_norm_bound_holds(graph, exponent):
    adjacency = graph.normalized_adjacency(exponent, tf.float64)
    assert np.linalg.norm(dense(adjacency), 2) <= adjacency.norm_bound * (1 + 1e-12)
    assert adjacency.norm_bound == pytest.approx(max(1, 4 ** (0.5 - exponent)))


def test_norm_is_one_at_one_half(graph):
    assert np.linalg.norm(dense(graph.normalized_adjacency(dtype=tf.float64)), 2) == pytest.approx(1, abs=1e-12)


@given(st.data())
@settings(max_examples=40, deadline=None)
def test_adjacency_of_any_log(data):
    num_users, num_items = data.draw(st.integers(1, 6)), data.draw(st.integers(1, 6))
    log = data.draw(st.lists(st.tuples(st.integers(0, num_users - 1), st.integers(0, num_items - 1)), max_size=30))
    users, items = ([pair[n] for pair in log] for n in (0, 1))
    graph = InteractionGraph.from_interactions(pairs(users, items), num_users, num_items)
    links = np.zeros((num_users, num_items))
    links[users, items] = 1
    assert graph.num_edges == links.sum() == len(log) - graph.num_repeated
    degrees = np.concatenate([links.sum(1), links.sum(0)])
    scale = np.divide(1, np.sqrt(degrees), out=np.zeros_like(degrees), where=degrees > 0)
    full = np.block([[np.zeros((num_users, num_users)), links], [links.T, np.zeros((num_items, num_items))]])
    np.testing.assert_allclose(dense(graph.normalized_adjacency()), scale[:, None] * full * scale, atol=1e-7)


def test_save_and_load(graph, tmp_path):
    path = tmp_path / "graph.npz"
    graph.save(path)
    loaded = InteractionGraph.load(path)
    assert [file.name for file in tmp_path.iterdir()] == ["graph.npz"]
    assert (loaded.num_users, loaded.num_items, loaded.num_repeated) == (3, 3, 1)
    for name in ("indptr", "indices", "user_degree", "item_degree"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(graph, name))


def test_load_says_what_is_wrong_with_the_file(graph, tmp_path):
    with pytest.raises(InputError, match=r"missing\.npz: no such file; train again"):
        InteractionGraph.load(tmp_path / "missing.npz")
    path = tmp_path / "graph.npz"
    graph.save(path)
    whole = path.read_bytes()
    np.savez(tmp_path / "other.npz", something=np.zeros(3))
    np.savez(tmp_path / "pickle.npz", indptr=np.array([object()], dtype=object))
    np.save(tmp_path / "array.npy", np.zeros(3))
    for name, content in {
        "cut.npz": whole[: len(whole) // 2],
        "empty.npz": b"",
        "text.npz": b"user_id,item_id\n",
        "bits.npz": whole[:200] + bytes([whole[200] ^ 255]) + whole[201:],
        "other.npz": (tmp_path / "other.npz").read_bytes(),
        "pickle.npz": (tmp_path / "pickle.npz").read_bytes(),
        "array.npz": (tmp_path / "array.npy").read_bytes(),
    }.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=rf"{name}: the file is damaged \(.*\); train again"):
            InteractionGraph.load(tmp_path / name)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((pairs([3], [0]), 3, 3), r"user_index must be in \[0, 3\), got values from 3 to 3; is num_users right\?"),
        ((pairs([-1, 0], [0, 0]), 3, 3), r"user_index must be in \[0, 3\), got values from -1 to 0"),
        ((pairs([0], [9]), 3, 3), r"item_index must be in \[0, 3\), got values from 9 to 9; is num_items right\?"),
        ((pairs([], []), -1, 3), r"num_users and num_items must be in \[0, 2\^31\), got -1 and 3"),
        ((pairs([], []), 1, 2**31), r"must be in \[0, 2\^31\)"),
    ],
)
def test_from_interactions_checks_its_input(arguments, message):
    with pytest.raises(ValueError, match=message):
        InteractionGraph.from_interactions(*arguments)


@pytest.mark.parametrize(
    ("indptr", "indices", "message"),
    [
        ([0, 1], [0], r"indptr must have num_users \+ 1 = 3 entries"),
        ([0, 1, 3], [0, 1], "indptr must ascend from 0 to the number of edges, 2"),
        ([0, 2, 1], [0], "indptr must ascend from 0"),
        ([1, 1, 1], [0], "indptr must ascend from 0"),
        ([0, 1, 2], [0, 5], r"item_index must be in \[0, 3\)"),
        ([0, 2, 2], [1, 1], "indices must ascend strictly within each user"),
        ([0, 0, 2], [1, 0], "indices must ascend strictly within each user"),
    ],
)
def test_constructor_checks_its_arrays(indptr, indices, message):
    with pytest.raises(ValueError, match=message):
        InteractionGraph(2, 3, np.array(indptr), np.array(indices))


@pytest.mark.parametrize("indptr", [[0, 0, 2, 2], [0, 2, 2, 2], [0, 0, 0, 2], [0, 1, 1, 2]])
def test_empty_users_anywhere(indptr):
    graph = InteractionGraph(3, 2, np.array(indptr), np.array([0, 1]))
    assert graph.user_degree.tolist() == np.diff(indptr).tolist()


@pytest.mark.parametrize("sizes", [(0, 0), (2, 0), (0, 3), (2, 3)])
def test_graph_without_edges(sizes):
    graph = InteractionGraph.from_interactions(pairs([], []), *sizes)
    assert graph.num_edges == 0
    assert not dense(graph.normalized_adjacency()).any()


@pytest.mark.parametrize("exponent", [-0.1, float("nan"), float("inf")])
def test_exponent_is_checked(graph, exponent):
    with pytest.raises(ValueError, match=r"exponent must be 0 or more.*0\.5 is the symmetric normalisation"):
        graph.normalized_adjacency(exponent)


def test_memory_is_what_the_docstring_says(monkeypatch):
    rng = np.random.default_rng(0)
    log = pairs(rng.integers(0, 5_000, 200_000), rng.integers(0, 3_000, 200_000))
    graph = InteractionGraph.from_interactions(log, 5_000, 3_000)
    held = sum(array.nbytes for array in (graph.indptr, graph.indices, graph.user_degree, graph.item_degree))
    assert held == 4 * graph.num_edges + 12 * 5_000 + 4 * 3_000 + 8
    monkeypatch.setattr(interaction_graph, "EDGES_AT_ONCE", 1 << 10)
    graph.normalized_adjacency()
    tracemalloc.start()
    graph.normalized_adjacency()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # NumPy's share; TensorFlow's is 8 bytes an edge for the columns, the values stay where they are.
    assert peak <= 56 * graph.num_edges + 200_000


@pytest.mark.parametrize("edges_at_once", [1, 3, 4, 100])
@pytest.mark.parametrize("dtype", [tf.float32, tf.float64])
def test_adjacency_does_not_depend_on_how_many_edges_are_filled_in_at_once(graph, monkeypatch, edges_at_once, dtype):
    whole = graph.normalized_adjacency(0.3, dtype).to_sparse_tensor()
    monkeypatch.setattr(interaction_graph, "EDGES_AT_ONCE", edges_at_once)
    parts = graph.normalized_adjacency(0.3, dtype).to_sparse_tensor()
    np.testing.assert_array_equal(parts.indices, whole.indices)
    np.testing.assert_array_equal(parts.values, whole.values)


def test_adjacency_outlives_the_arrays_it_was_made_of():
    rng = np.random.default_rng(0)
    log = pairs(rng.integers(0, 300, 5_000), rng.integers(0, 200, 5_000))
    graph = InteractionGraph.from_interactions(log, 300, 200)
    adjacency = graph.normalized_adjacency()
    # Takes the memory that is free again: were it the matrix's, its values would be others now.
    for exponent in (0.1, 0.2, 0.3):
        graph.normalized_adjacency(exponent)
    links = np.zeros((300, 200))
    links[np.repeat(np.arange(300), graph.user_degree), graph.indices] = 1
    scale = 1 / np.sqrt(np.maximum(np.concatenate([graph.user_degree, graph.item_degree]), 1))
    np.testing.assert_allclose(dense(adjacency)[:300, 300:], scale[:300, None] * links * scale[300:], rtol=1e-6)


def test_the_adjacency_is_made_once_while_somebody_holds_it():
    """Encoder, propagation and report each had one of their own: 16 bytes an edge, three times."""
    log = pairs([0, 0, 1], [0, 1, 1])
    graph = InteractionGraph.from_interactions(log, num_users=2, num_items=2)
    held = graph.normalized_adjacency()
    assert graph.normalized_adjacency() is held
    assert graph.normalized_adjacency(0.5, tf.float32) is held
    assert graph.normalized_adjacency(0.25) is not held
    assert graph.normalized_adjacency(dtype=tf.float64).dtype == tf.float64
    same = InteractionGraph.from_interactions(log, num_users=2, num_items=2)
    assert same.normalized_adjacency() is not held
    gone = weakref.ref(held)
    del held
    gc.collect()
    assert gone() is None, "nobody needs it any more, and it is large"


def test_an_adjacency_made_in_a_function_stays_in_it():
    graph = InteractionGraph.from_interactions(pairs([0], [0]), num_users=1, num_items=1)
    kept = []

    @tf.function
    def total():
        kept.append(graph.normalized_adjacency())
        return tf.reduce_sum(tf.sparse.to_dense(kept[0].to_sparse_tensor()))

    assert float(total()) == 2.0
    assert dense(graph.normalized_adjacency()).tolist() == [[0.0, 1.0], [1.0, 0.0]]


def test_a_graph_that_has_an_adjacency_can_be_pickled():
    graph = InteractionGraph.from_interactions(pairs([0], [0]), num_users=1, num_items=1)
    held = graph.normalized_adjacency()
    other = pickle.loads(pickle.dumps(graph))
    assert other.normalized_adjacency() is not held
    np.testing.assert_array_equal(dense(other.normalized_adjacency()), dense(held))
