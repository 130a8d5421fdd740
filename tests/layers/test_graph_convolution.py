"""LightGCN and NGCF against dense NumPy, forward and gradient."""

import numpy as np
import pytest
import tensorflow as tf

from tf_hqgnn.graph.interaction_graph import InteractionGraph
from tf_hqgnn.graph.propagation import NormalizedAdjacency
from tf_hqgnn.layers.graph_convolution import GraphConvolution, LightGCNConvolution, NGCFConvolution
from tf_hqgnn.types import Interactions

DIM = 3
# TensorFlow holds the slope in single precision, whatever the table's.
SLOPE = float(np.float32(0.2))


@pytest.fixture(scope="module")
def graph():
    # User 2 and item 3 have no edge.
    log = Interactions(np.array([0, 0, 1, 3, 3], np.int32), np.array([0, 1, 1, 2, 0], np.int32))
    return InteractionGraph.from_interactions(log, num_users=4, num_items=4)


@pytest.fixture(scope="module")
def a():
    """The dense adjacency, from the degrees by hand."""
    pairs = np.zeros((4, 4))
    pairs[[0, 0, 1, 3, 3], [0, 1, 1, 2, 0]] = 1
    scaled = pairs / np.sqrt(np.outer([2, 1, 1, 2], [2, 2, 1, 1]))
    return np.block([[np.zeros((4, 4)), scaled], [scaled.T, np.zeros((4, 4))]])


def table(seed=0):
    return np.random.default_rng(seed).normal(size=(8, DIM))


def lightgcn_oracle(a, e, logits):
    weights = np.exp(logits) / np.exp(logits).sum()
    return sum(weight * np.linalg.matrix_power(a, k) @ e for k, weight in enumerate(weights))


def ngcf_oracle(a, e, *matrices, slope=SLOPE, keep=None):
    """Eq. 7 of the paper with L = a; `keep` are the dropout's factors of every layer."""
    h, outputs = e, [e]
    for layer in range(len(matrices) // 2):
        w, v = matrices[2 * layer : 2 * layer + 2]
        x = (a + np.eye(len(a))) @ h @ w + (a @ h * h) @ v
        h = np.where(x > 0, x, slope * x) * (1 if keep is None else keep[layer])
        outputs.append(h / np.maximum(np.linalg.norm(h, axis=1, keepdims=True), 1e-6))
    return np.concatenate(outputs, axis=1)


def central_differences(function, arguments, upstream, step=1e-6):
    """D sum(upstream * function(*arguments)) / d arguments, one entry after the other."""
    gradients = []
    for n, argument in enumerate(arguments):
        gradient = np.zeros_like(argument)
        for position in np.ndindex(argument.shape):
            values = []
            for sign in (1, -1):
                moved = [np.array(x) for x in arguments]
                moved[n][position] += sign * step
                values.append(np.sum(upstream * function(*moved)))
            gradient[position] = (values[0] - values[1]) / (2 * step)
        gradients.append(gradient)
    return gradients


def check_against_oracle(layer, oracle, graph, a):
    """Value and gradients of the table and of every weight, in double precision."""
    adjacency, e = graph.normalized_adjacency(dtype=tf.float64), tf.constant(table())
    layer((adjacency, e))
    rng = np.random.default_rng(1)
    for weight in layer.trainable_weights:
        weight.assign(rng.normal(size=weight.shape))
    arguments = [e.numpy(), *(weight.numpy() for weight in layer.trainable_weights)]
    with tf.GradientTape() as tape:
        tape.watch(e)
        got = layer((adjacency, e))
        upstream = rng.normal(size=got.shape)
        value = tf.reduce_sum(got * upstream)
    np.testing.assert_allclose(got, oracle(a, *arguments), rtol=1e-10, atol=1e-12)
    gradients = tape.gradient(value, [e, *layer.trainable_weights])
    wanted = central_differences(lambda *moved: oracle(a, *moved), arguments, upstream)
    assert len(gradients) == len(wanted)
    for one, other in zip(gradients, wanted):
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("num_layers", [1, 3])
@pytest.mark.parametrize("layer_weights", ["uniform", "learned"])
def test_lightgcn_value_and_gradient(num_layers, layer_weights, graph, a):
    def uniform(a, e):
        return lightgcn_oracle(a, e, np.zeros(num_layers + 1))

    layer = LightGCNConvolution(num_layers, layer_weights, dtype="float64")
    check_against_oracle(layer, uniform if layer_weights == "uniform" else lightgcn_oracle, graph, a)


@pytest.mark.parametrize("num_layers", [1, 2])
def test_ngcf_value_and_gradient(num_layers, graph, a):
    layer = NGCFConvolution(num_layers, message_dropout=0.5, dtype="float64")
    check_against_oracle(layer, ngcf_oracle, graph, a)
    assert len(layer.trainable_weights) == 2 * num_layers


def test_learned_weights_start_uniform(graph):
    inputs = (graph.normalized_adjacency(), tf.constant(table(), tf.float32))
    np.testing.assert_allclose(
        LightGCNConvolution(2, "learned")(inputs), LightGCNConvolution(2, "uniform")(inputs), rtol=1e-6, atol=1e-7
    )


def test_output_shapes(graph):
    for layer in (LightGCNConvolution(2), NGCFConvolution(2)):
        expected = layer((graph.normalized_adjacency(), tf.ones([8, DIM]))).shape
        assert layer.compute_output_shape(((8, 8), (8, DIM))) == layer.compute_output_shape((8, DIM)) == expected


def test_the_base_class_names_the_layers():
    with pytest.raises(TypeError, match="is abstract: make a LightGCNConvolution or an NGCFConvolution"):
        GraphConvolution(3)


def test_dropout_is_applied_to_messages_before_they_are_scaled_and_sent_on(graph, a):
    rate, num_layers = 0.25, 2
    layer = NGCFConvolution(num_layers, rate, dtype="float64")
    e = table()
    inputs = (graph.normalized_adjacency(dtype=tf.float64), tf.constant(e))
    got = layer(inputs, training=True, step=5).numpy()
    assert np.all(got[:, :DIM] == e)
    # Which elements were dropped can be seen in the result itself.
    keep = [(got[:, DIM * k : DIM * (k + 1)] != 0) / (1 - rate) for k in range(1, num_layers + 1)]
    assert not np.array_equal(keep[0], keep[1])
    weights = [weight.numpy() for weight in layer.trainable_weights]
    np.testing.assert_allclose(got, ngcf_oracle(a, e, *weights, keep=keep), rtol=1e-10, atol=1e-12)


def test_dropout_follows_from_seed_and_step():
    adjacency = NormalizedAdjacency.from_sparse_tensor(tf.sparse.from_dense(np.eye(500, dtype=np.float32)))
    e = tf.ones([500, 8])
    layer, other = (NGCFConvolution(1, 0.3, seed=seed) for seed in (1, 2))
    function = tf.function(lambda step: layer((adjacency, e), training=True, step=step))

    def dropped(output):
        return output.numpy()[:, 8:] == 0

    first = dropped(function(tf.constant(7, tf.int64)))
    np.testing.assert_array_equal(first, dropped(layer((adjacency, e), training=True, step=7)))
    # 4,000 draws: .3 within 5 standard errors; two independent masks agree on .3^2 + .7^2 = .58 of the elements.
    assert abs(first.mean() - 0.3) < 5 * np.sqrt(0.3 * 0.7 / first.size)
    for another in (function(tf.constant(8, tf.int64)), other((adjacency, e), training=True, step=7)):
        assert abs(np.mean(first == dropped(another)) - 0.58) < 5 * np.sqrt(0.58 * 0.42 / first.size)
    assert not dropped(layer((adjacency, e), training=False)).any()


def test_dropout_without_a_step_drops_others_each_time():
    layer = NGCFConvolution(1, 0.3, graph=tf.sparse.from_dense(np.eye(500, dtype=np.float32)))
    first, second = (layer(tf.ones([500, 8]), training=True).numpy()[:, 8:] == 0 for _ in range(2))
    for dropped in (first, second):
        assert abs(dropped.mean() - 0.3) < 5 * np.sqrt(0.3 * 0.7 / dropped.size)
    assert abs(np.mean(first == second) - 0.58) < 5 * np.sqrt(0.58 * 0.42 / first.size)


@pytest.mark.parametrize(
    ("layer", "arguments", "message"),
    [
        (LightGCNConvolution, {"num_layers": 0}, "num_layers must be at least 1, got 0"),
        (LightGCNConvolution, {"layer_weights": "odd"}, "one of uniform, learned, got 'odd'"),
        (NGCFConvolution, {"message_dropout": 1.0}, r"message_dropout must be in \[0, 1\), got 1.0"),
        (NGCFConvolution, {"negative_slope": -1.0}, "negative_slope must be 0 or more, got -1.0"),
    ],
)
def test_settings_are_checked(layer, arguments, message):
    with pytest.raises(ValueError, match=message):
        layer(**arguments)


@pytest.mark.parametrize("layer", [LightGCNConvolution(3, "learned"), NGCFConvolution(3, 0.2)])
def test_a_step_takes_two_products_a_layer(layer: GraphConvolution, graph):
    adjacency = graph.normalized_adjacency()
    layer((adjacency, tf.ones([8, DIM])))

    @tf.function
    def step(e):
        with tf.GradientTape() as tape:
            tape.watch(e)
            value = tf.reduce_sum(layer((adjacency, e), training=True, step=0) ** 2)
        return tape.gradient(value, [e, *layer.trainable_weights])

    operations = step.get_concrete_function(tf.TensorSpec([8, DIM])).graph.get_operations()
    assert sum(operation.type == "SparseMatrixMatMul" for operation in operations) == 2 * layer.num_layers
