"""What every public layer has to survive in a stranger's Keras model; a layer's own test file checks its maths."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from harness import check_layer
from layer_cases import CASES, GRAPH_CASES, ROWS, Scorer, graph, rows

from tf_hqgnn import layers

# Models are trained.
pytestmark = pytest.mark.integration

EVERY_LAYER = pytest.mark.parametrize("name", CASES)
# Of float16, in which numbers of a few units are off by 1e-3.
HALF = {"rtol": 5e-3, "atol": 5e-3}


@pytest.fixture
def _half_precision():
    before = tf_keras.mixed_precision.global_policy()
    tf_keras.mixed_precision.set_global_policy("mixed_float16")
    yield
    tf_keras.mixed_precision.set_global_policy(before)


def same(got, expected, **tolerance):
    np.testing.assert_allclose(got, expected, **({"rtol": 1e-5, "atol": 1e-6} | tolerance))


def fit(model, inputs, size=ROWS, epochs=1):
    """Steps on everything at once; every trainable weight moves."""
    model.compile("sgd", "mse")
    model(inputs)
    before = [weight.numpy() for weight in model.trainable_weights]
    history = model.fit(tf.data.Dataset.from_tensors((inputs, tf.ones([size, 1]))), epochs=epochs, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    assert all(np.any(old != new.numpy()) for old, new in zip(before, model.trainable_weights))


def functional(layer):
    """Rows in, one number a row out."""
    e = tf_keras.Input([3], batch_size=ROWS)
    return tf_keras.Model(e, tf_keras.layers.Dense(1)(layer(tf_keras.layers.Dense(3, name="before")(e))))


def test_the_suite_knows_every_public_layer():
    concrete = {getattr(layers, name) for name in layers.__all__} - {layers.GraphConvolution}
    assert {type(make()) for make, _ in CASES.values()} == concrete
    assert all(name in dir(layers) for name in layers.__all__)


@EVERY_LAYER
def test_on_its_own(name):
    make, num_weights = CASES[name]
    # XLA has no sparse product, and a node's row depends on its neighbours'.
    on_a_graph = name in GRAPH_CASES
    check_layer(make(), tf.constant(rows()), num_weights=num_weights, xla=not on_a_graph, batched=not on_a_graph)


@EVERY_LAYER
def test_in_a_functional_model(name, tmp_path):
    model = functional(CASES[name][0]())
    fit(model, rows())
    expected = model.predict(rows(), verbose=0)
    model.save(tmp_path / "model.keras")
    model.save(tmp_path / "saved")
    # Keras calls its own format of before obsolete.
    with pytest.warns(UserWarning, match="HDF5"):
        model.save(tmp_path / "model.h5")
    for path in ("model.keras", "saved", "model.h5"):
        same(tf_keras.models.load_model(tmp_path / path).predict(rows(), verbose=0), expected)
    again = tf_keras.models.clone_model(model)
    again.set_weights(model.get_weights())
    same(again.predict(rows(), verbose=0), expected)


@EVERY_LAYER
def test_in_a_subclassed_model(name, tmp_path):
    """A table and what picks rows of it: the batch is one of nodes, not the whole graph."""
    model = Scorer(CASES[name][0]())
    nodes = np.array([5, 0, 5])
    fit(model, nodes, len(nodes))
    expected = model.predict(nodes, verbose=0)
    model.save(tmp_path / "model.keras")
    model.export(tmp_path / "exported")
    same(tf_keras.models.load_model(tmp_path / "model.keras").predict(nodes, verbose=0), expected)
    exported = tf.saved_model.load(str(tmp_path / "exported"))
    same(exported.serve(nodes), expected)
    again = Scorer.from_config(model.get_config())
    again.build([None])
    again.set_weights(model.get_weights())
    same(again.predict(nodes, verbose=0), expected)


@EVERY_LAYER
def test_in_a_sequential_model(name, tmp_path):
    model = tf_keras.Sequential([CASES[name][0](), tf_keras.layers.Dense(1)])
    fit(model, rows())
    expected = model.predict(rows(), batch_size=ROWS, verbose=0)
    model.save(tmp_path / "model.keras")
    same(tf_keras.models.load_model(tmp_path / "model.keras").predict(rows(), verbose=0), expected)
    model.save_weights(tmp_path / "weights.h5")
    again = tf_keras.models.clone_model(model)
    again.build([ROWS, 3])
    again.load_weights(tmp_path / "weights.h5")
    same(again.predict(rows(), verbose=0), expected)


@EVERY_LAYER
@pytest.mark.usefixtures("_half_precision")
def test_with_mixed_precision(name, tmp_path):
    layer = CASES[name][0]()
    got = layer(rows())
    assert got.dtype == tf.float16
    assert {weight.dtype for weight in layer.trainable_weights} <= {tf.float32}
    tf_keras.mixed_precision.set_global_policy("float32")
    full = CASES[name][0]()
    full(rows())
    full.set_weights(layer.get_weights())
    same(got, full(rows()), **HALF)
    tf_keras.mixed_precision.set_global_policy("mixed_float16")
    model = functional(CASES[name][0]())
    # The first steps find the scale of the loss with which no gradient overflows.
    fit(model, rows(), epochs=8)
    model.save(tmp_path / "model.keras")
    same(
        tf_keras.models.load_model(tmp_path / "model.keras").predict(rows(), verbose=0),
        model.predict(rows(), verbose=0),
        **HALF,
    )


@pytest.mark.parametrize("name", GRAPH_CASES)
def test_a_graph_that_is_an_input(name, tmp_path):
    """The adjacency may come with each call, sparse; Keras exports sparse inputs as dense ones."""
    own = CASES[name][0]()
    expected = own(rows())
    layer = type(own).from_config(own.get_config() | {"graph": None})
    sparse = graph().normalized_adjacency().to_sparse_tensor()
    layer((sparse, rows()))
    layer.set_weights([weight.numpy() for weight in own.weights if "graph_" not in weight.name])
    same(layer((graph().normalized_adjacency(), rows())), expected)
    inputs = [tf_keras.Input([ROWS], batch_size=ROWS, sparse=True), tf_keras.Input([3], batch_size=ROWS)]
    model = tf_keras.Model(inputs, layer(tuple(inputs)))
    same(model([sparse, rows()]), expected)
    model.save(tmp_path / "saved")
    same(tf_keras.models.load_model(tmp_path / "saved")([sparse, rows()]), expected)
    model.export(tmp_path / "exported")
    exported = tf.saved_model.load(str(tmp_path / "exported"))
    same(exported.serve([tf.sparse.to_dense(sparse), rows()]), expected)


def test_under_a_distribution_strategy():
    """All layers in one model, with mirrored variables: a step moves them as it does without a strategy."""
    nodes = tf_keras.Input([], dtype="int32")
    data = tf.data.Dataset.from_tensors((np.array([5, 0, 5]), np.ones([3, 1], np.float32)))
    trained = []
    for strategy in (tf.distribute.MirroredStrategy(["CPU:0"]), tf.distribute.get_strategy()):
        with strategy.scope():
            made = {name: make() for name, (make, _) in CASES.items()}
            # What is dropped is drawn anew each time.
            made["ngcf"].message_dropout = 0.0
            scorers = [Scorer(layer) for layer in made.values()]
            model = tf_keras.Model(nodes, tf_keras.layers.add([scorer(nodes) for scorer in scorers]))
            model.compile("sgd", "mse")
        model.fit(data, verbose=0)
        trained.append(model.get_weights())
    assert len(trained[0]) > 20
    for one, other in zip(*trained):
        same(one, other, rtol=1e-4)


def test_a_layer_without_a_graph_says_so():
    with pytest.raises(ValueError, match=r"ode has no graph: make it with one, GraphODE\(\.\.\., graph=graph\)"):
        layers.GraphODE(1.0, name="ode")(rows())
    with pytest.raises(ValueError, match="graph must be an InteractionGraph, a NormalizedAdjacency or"):
        layers.GraphODE(1.0, graph=rows())
    with pytest.raises(ValueError, match=r"must be called with \(adjacency, rows\), got 3 inputs"):
        layers.GraphODE(1.0)((rows(), rows(), rows()))


def test_a_graph_that_was_not_loaded_is_not_taken_for_an_empty_one():
    again = layers.GraphODE.from_config(layers.GraphODE(1.0, graph=graph(), name="ode").get_config())
    with pytest.raises(ValueError, match="the graph of ode isn't there yet: load or set the weights"):
        again(rows())
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"the graph of ode isn.*t there yet"):
        tf.function(again)(rows())
    pair = tf.sparse.from_dense(np.diag(np.float32([0, 1, 1, 0, 0, 0, 0, 0])))
    with pytest.raises(ValueError, match="built for a graph of 8 nodes and 8 entries, got one of 8 and 2"):
        again.bind(pair)
    again.bind(graph())
    same(again(rows()), layers.GraphODE(1.0, graph=graph())(rows()))
