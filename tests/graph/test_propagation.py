import numpy as np
import pytest
import tensorflow as tf

from tf_hqgnn.graph.interaction_graph import InteractionGraph
from tf_hqgnn.graph.propagation import EdgeAdjacency, NormalizedAdjacency, sparse_product
from tf_hqgnn.ode.integrate import solve
from tf_hqgnn.types import Interactions


def random_adjacency(dtype=tf.float64, seed=0):
    rng = np.random.default_rng(seed)
    log = Interactions(rng.integers(0, 5, 12).astype(np.int32), rng.integers(0, 6, 12).astype(np.int32))
    return InteractionGraph.from_interactions(log, num_users=5, num_items=7).normalized_adjacency(dtype=dtype)


@pytest.fixture
def adjacency():
    return random_adjacency()


@pytest.fixture
def dense(adjacency):
    return tf.sparse.to_dense(adjacency.to_sparse_tensor())


@pytest.fixture
def h():
    return tf.constant(np.random.default_rng(1).normal(size=(12, 3)))


def test_product_is_the_dense_one(adjacency, dense, h):
    np.testing.assert_allclose(sparse_product(adjacency, h), dense @ h, rtol=1e-12)
    np.testing.assert_allclose(tf.function(lambda x: sparse_product(adjacency, x))(h), dense @ h, rtol=1e-12)
    single = random_adjacency(tf.float32)
    np.testing.assert_allclose(sparse_product(single, tf.cast(h, tf.float32)), dense @ h, rtol=1e-5, atol=1e-6)


def test_nodes_without_an_edge_get_zeros(adjacency, h):
    isolated = np.flatnonzero(~tf.sparse.to_dense(adjacency.to_sparse_tensor()).numpy().any(axis=1))
    assert 11 in isolated
    assert not sparse_product(adjacency, h).numpy()[isolated].any()


def test_gradient_is_the_numerical_one(adjacency, h):
    theoretical, numerical = tf.test.compute_gradient(lambda x: tf.sin(sparse_product(adjacency, x)), [h])
    np.testing.assert_allclose(theoretical[0], numerical[0], atol=1e-8)


def hessian_vector(function, x, v):
    with tf.GradientTape() as outer:
        outer.watch(x)
        with tf.GradientTape() as inner:
            inner.watch(x)
            y = function(x)
        gradient = inner.gradient(y, x)
    return gradient, outer.gradient(gradient, x, output_gradients=v)


@pytest.mark.parametrize("wrap", [lambda function: function, tf.function], ids=["eager", "graph"])
def test_second_order_is_the_dense_one(adjacency, dense, h, wrap):
    v = tf.constant(np.random.default_rng(2).normal(size=(12, 3)))

    def loss(product):
        return lambda x: tf.reduce_sum(tf.sin(product(product(x))) * x)

    got = wrap(lambda x: hessian_vector(loss(lambda y: sparse_product(adjacency, y)), x, v))(h)
    expected = hessian_vector(loss(lambda y: dense @ y), h, v)
    for one, other in zip(got, expected):
        np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-12)


def test_captured_by_loops_and_nested_functions(adjacency, dense, h):
    inner = tf.function(lambda x: sparse_product(adjacency, x))

    @tf.function
    def three_times(x):
        return tf.while_loop(lambda n, _x: n < 3, lambda n, x: (n + 1, inner(x)), (0, x))[1]

    np.testing.assert_allclose(three_times(h), dense @ dense @ dense @ h, rtol=1e-10, atol=1e-14)


class Propagator(tf.Module):
    """What a stranger writes: the matrix is an attribute."""

    def __init__(self, adjacency, h):
        super().__init__()
        self.adjacency = adjacency
        self.scale = tf.Variable(h)

    @tf.function(input_signature=[tf.TensorSpec([12, 3], tf.float64)])
    def __call__(self, x):
        return sparse_product(self.adjacency, sparse_product(self.adjacency, x * self.scale))


@pytest.mark.parametrize("called_before", [False, True])
def test_a_saved_model_holds_the_matrix_and_its_gradient(called_before, adjacency, dense, h, tmp_path):
    module = Propagator(adjacency, h)
    if called_before:
        module(h)
    tf.saved_model.save(module, tmp_path)
    del module
    loaded = tf.saved_model.load(str(tmp_path))
    with tf.GradientTape() as tape:
        got = loaded(h)
        value = tf.reduce_sum(got)
    np.testing.assert_allclose(got, dense @ dense @ (h * h), rtol=1e-10)
    # d sum(A A (h s)) / ds = h (A A 1).
    expected = h * (dense @ dense @ tf.ones_like(h))
    np.testing.assert_allclose(tape.gradient(value, loaded.scale), expected, rtol=1e-10)


def test_a_constant_is_captured_as_it_is(adjacency, dense, h):
    constant = adjacency.as_constant()
    function = tf.function(lambda x: sparse_product(constant, x)).get_concrete_function(h)
    np.testing.assert_allclose(function(h), dense @ h, rtol=1e-12)
    types = [operation.type for operation in function.graph.get_operations()]
    assert "SparseTensorToCSRSparseMatrix" not in types


def test_same_result_every_time(adjacency, h):
    first = sparse_product(adjacency, h).numpy()
    assert all(np.array_equal(first, sparse_product(adjacency, h)) for _ in range(5))


def test_sparse_tensor_round_trip(adjacency, dense):
    again = NormalizedAdjacency.from_sparse_tensor(adjacency.to_sparse_tensor())
    assert (again.num_nodes, again.dtype) == (12, tf.float64)
    np.testing.assert_array_equal(tf.sparse.to_dense(again.to_sparse_tensor()), dense)


def test_kernels_for_cpu_and_gpu():
    from tensorflow.python.framework.kernels import get_registered_kernels_for_op

    for op in ("SparseMatrixMatMul", "SparseTensorToCSRSparseMatrix"):
        assert {"CPU", "GPU"} <= {kernel.device_type for kernel in get_registered_kernels_for_op(op).kernel}


def test_errors(adjacency, h):
    with pytest.raises(ValueError, match=r"h must be float64 as the adjacency is, got float32; tf\.cast it"):
        sparse_product(adjacency, tf.cast(h, tf.float32))
    with pytest.raises(ValueError, match=r"h must have shape \[12, d\], users first then items, got \(11, 3\)"):
        sparse_product(adjacency, h[1:])
    with pytest.raises(ValueError, match=r"h must have shape"):
        sparse_product(adjacency, h[:, 0])
    with pytest.raises(ValueError, match=r"must be a square matrix, got shape \(2, 3\)"):
        NormalizedAdjacency.from_sparse_tensor(tf.sparse.from_dense(np.ones((2, 3))))
    with pytest.raises(ValueError, match="must hold float32 or float64, got int64"):
        NormalizedAdjacency.from_sparse_tensor(tf.sparse.from_dense(np.ones((2, 2), np.int64)))
    with pytest.raises(ValueError, match=r"norm_bound must be a finite number from 0 on, got -1\.0"):
        NormalizedAdjacency.from_sparse_tensor(adjacency.to_sparse_tensor(), norm_bound=-1.0)


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("entries_at_once", [1, 5, 2**22])
def test_segment_sums_are_the_same_product(entries_at_once, jit_compile):
    rng = np.random.default_rng(0)
    log = Interactions(rng.integers(0, 5, 12).astype(np.int32), rng.integers(0, 6, 12).astype(np.int32))
    graph = InteractionGraph.from_interactions(log, num_users=5, num_items=7)
    adjacency = graph.normalized_adjacency()
    entries = adjacency.to_sparse_tensor().indices.numpy().astype(np.int32)
    degree = np.concatenate([graph.user_degree, graph.item_degree]).astype(np.float32)
    factor = np.where(degree > 0, np.maximum(degree, 1) ** -0.5, 0).astype(np.float32)
    h = tf.constant(rng.normal(size=(12, 3)), tf.float32)

    def of_edges(function):
        def compiled(rows, columns, factor, h):
            return function(EdgeAdjacency(rows, columns, factor, entries_at_once=entries_at_once), h)

        return tf.function(compiled, jit_compile=jit_compile)(entries[:, 0], entries[:, 1], factor, h)

    np.testing.assert_allclose(of_edges(sparse_product), sparse_product(adjacency, h), rtol=1e-5, atol=1e-6)
    for solver in ("euler", "exact"):
        expected = solve(adjacency, h, 1.8, solver)
        np.testing.assert_allclose(of_edges(lambda a, h: solve(a, h, 1.8, solver)), expected, rtol=1e-4, atol=1e-5)  # noqa: B023

    def gradient(adjacency, h):
        with tf.GradientTape() as tape:
            tape.watch(h)
            value = tf.reduce_sum(sparse_product(adjacency, h) ** 2)
        return tape.gradient(value, h)

    np.testing.assert_allclose(of_edges(gradient), gradient(adjacency, h), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("entries_at_once", [1000, 2**22])
def test_segment_sums_of_many_equal_numbers_are_exact_enough(entries_at_once):
    # One after the other in float32, 300,000 times a tenth is off by a thousandth.
    num_users = 300_000
    rows = np.concatenate([np.arange(num_users), np.full(num_users, num_users)]).astype(np.int32)
    columns = np.concatenate([np.full(num_users, num_users), np.arange(num_users)]).astype(np.int32)
    h = tf.fill([num_users + 1, 1], 0.1)

    @tf.function(jit_compile=True)
    def product(rows, columns, factor, h):
        return sparse_product(EdgeAdjacency(rows, columns, factor, entries_at_once=entries_at_once), h)

    answer = product(rows, columns, tf.ones([num_users + 1]), h)
    assert float(answer[-1, 0]) == pytest.approx(num_users * float(h[0, 0]), rel=3e-5)
    np.testing.assert_array_equal(answer[:-1], h[:-1])
