"""Encoders in the model and in training: gradients, weight decay, resuming."""

import json

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from tf_hqgnn.config import Config, ModelConfig
from tf_hqgnn.graph.interaction_graph import InteractionGraph
from tf_hqgnn.layers.graph_convolution import LightGCNConvolution, NGCFConvolution
from tf_hqgnn.losses.bpr import BPR
from tf_hqgnn.models.encoder import GraphEncoder, LookupEncoder, make_encoder
from tf_hqgnn.models.encoders.choice import ENCODERS, EncoderChoice
from tf_hqgnn.models.hqgnn import HQGNN
from tf_hqgnn.models.optimizers import LazyAdam
from tf_hqgnn.runs.checkpoints import CheckpointStore
from tf_hqgnn.runs.run_directory import RunDirectory
from tf_hqgnn.training.train import train
from tf_hqgnn.types import InputError, Interactions

BATCH = {
    "user_index": tf.constant([0, 3, 3, 1]),
    "item_index": tf.constant([2, 0, 4, 2]),
    "negative_index": tf.constant([[1], [1], [2], [0]]),
}


@pytest.fixture(scope="module")
def graph():
    log = Interactions(np.array([0, 1, 3, 3], np.int32), np.array([2, 2, 0, 4], np.int32))
    return InteractionGraph.from_interactions(log, num_users=4, num_items=5)


def model(graph, encoder, **kwargs):
    settings = ModelConfig(encoder=encoder, num_layers=2, message_dropout=0.3)
    return HQGNN(4, 5, 3, BPR(), make_encoder(settings, graph, seed=1), seed=1, **kwargs)


def test_the_encoder_is_the_one_that_is_configured(graph):
    assert isinstance(make_encoder(ModelConfig(), graph, 0), LookupEncoder)
    light = make_encoder(ModelConfig(encoder="lightgcn", num_layers=4, layer_weights="learned"), graph, 0).convolution
    assert isinstance(light, LightGCNConvolution)
    assert (light.num_layers, light.layer_weights) == (4, "learned")
    ngcf = make_encoder(ModelConfig(encoder="ngcf", num_layers=2, message_dropout=0.4), graph, 9).convolution
    assert isinstance(ngcf, NGCFConvolution)
    assert (ngcf.num_layers, ngcf.message_dropout, ngcf.seed) == (2, 0.4, 9)


@pytest.mark.parametrize("encoder", ["none", "lightgcn", "ngcf"])
def test_scores_are_dot_products_of_the_exported_embeddings(graph, encoder):
    m = model(graph, encoder)
    users, items = m.embeddings()
    assert users.shape[1] == items.shape[1] == (9 if encoder == "ngcf" else 3)
    expected = np.sum(users[BATCH["user_index"]] * items[BATCH["item_index"]], axis=1)
    np.testing.assert_allclose(m(BATCH), expected, rtol=1e-5)


def test_embeddings_are_the_convolved_tables(graph):
    m = model(graph, "lightgcn")
    a = tf.sparse.to_dense(graph.normalized_adjacency().to_sparse_tensor()).numpy()
    e = np.concatenate([m.user_table.numpy(), m.item_table.numpy()])
    expected = (e + a @ e + a @ a @ e) / 3
    np.testing.assert_allclose(np.concatenate(m.embeddings()), expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("encoder", ["none", "lightgcn", "ngcf"])
def test_weight_decay_applies_to_the_batch_rows_of_the_tables(graph, encoder):
    """Its share of the gradient is decay / B times each row, as often as the batch holds it, and no graph in it."""
    plain, decayed = model(graph, encoder), model(graph, encoder, weight_decay=0.5)
    gradients = []
    for m in (plain, decayed):
        with tf.GradientTape() as tape:
            loss = m.compute_loss(BATCH)
        gradients.append([tf.convert_to_tensor(g).numpy() for g in tape.gradient(loss, [m.user_table, m.item_table])])
    times = (np.array([1, 1, 0, 2]), np.array([2, 2, 3, 0, 1]))
    for without, full, count, table in zip(*gradients, times, (plain.user_table, plain.item_table)):
        np.testing.assert_allclose(full - without, 0.5 / 4 * count[:, None] * table.numpy(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("encoder", ["lightgcn", "ngcf"])
def test_fit_trains_every_weight(graph, encoder):
    m = model(graph, encoder, weight_decay=1e-3)
    m.compile(optimizer=LazyAdam(0.03), steps_per_execution=2)
    before = [weight.numpy() for weight in m.trainable_weights]
    history = m.fit(tf.data.Dataset.from_tensors(BATCH).repeat(), verbose=0, epochs=5, steps_per_epoch=4).history
    assert history["loss"][-1] < history["loss"][0]
    assert all(np.any(old != new.numpy()) for old, new in zip(before, m.trainable_weights))


def test_dropout_of_a_step_follows_from_the_optimizer(graph):
    def loss(iterations):
        m = model(graph, "ngcf")
        m.compile(optimizer=LazyAdam(0.1))
        m.optimizer.iterations.assign(iterations)
        return float(m.compute_loss(BATCH, training=True))

    assert loss(3) == loss(3)
    assert loss(3) != loss(4)


def test_config_round_trip_and_bind(graph):
    first = model(graph, "ngcf")
    config = json.loads(json.dumps(tf_keras.utils.serialize_keras_object(first)))
    second = tf_keras.utils.deserialize_keras_object(config)
    assert isinstance(second.encoder, GraphEncoder)
    # In which Keras notes the shapes that a layer was built for: tuples or, once through JSON, lists.
    assert json.loads(json.dumps(second.get_config())) == config["config"]
    with pytest.raises(ValueError, match="isn't there yet: load or set the weights of the model first"):
        second(BATCH)
    second.encoder.bind(graph)
    np.testing.assert_array_equal(first(BATCH), second(BATCH))


def test_an_encoder_without_a_graph_says_so():
    with pytest.raises(ValueError, match=r"no graph to convolve over: call bind\(graph\) first"):
        GraphEncoder(LightGCNConvolution(1)).encode_tables(tf.ones([4, 2]), tf.ones([5, 2]))


def test_tables_must_fit_the_graph(graph):
    with pytest.raises(ValueError, match="the graph's 4 users and 5 items, got 5 and 5 rows"):
        GraphEncoder(LightGCNConvolution(1), graph).encode_tables(tf.ones([5, 2]), tf.ones([5, 2]))


class Killed(Exception):
    """Stands for the process's death."""


@pytest.mark.parametrize("encoder", ["lightgcn", "ngcf"])
def test_killed_and_resumed_ends_as_if_uninterrupted(encoder, dataset, smoke_config, tmp_path, monkeypatch):
    values = {
        **smoke_config.model_dump(),
        "model": {"encoder": encoder, "embedding_dim": 8, "num_layers": 2, "layer_weights": "learned"},
        "loss": {"name": "bpr", "weight_decay": 1e-4},
        "propagation": {"solver": "none", "normalize": False},
    }
    values["training"] = {**values["training"], "max_epochs": 4, "patience": 4, "checkpoint_seconds": 0}
    config = Config.model_validate(values)
    whole = train(dataset, config, tmp_path / "whole")

    save = CheckpointStore.save

    def die(self, epoch, *arguments):
        if epoch == 3:
            raise Killed
        save(self, epoch, *arguments)

    monkeypatch.setattr(CheckpointStore, "save", die)
    with pytest.raises(Killed):
        train(dataset, config, tmp_path / "run")
    monkeypatch.undo()
    resumed = train(dataset, config, tmp_path / "run", resume=True)
    assert (resumed.epochs, resumed.valid) == (whole.epochs, whole.valid)
    a, b = RunDirectory.load(tmp_path / "run"), RunDirectory.load(tmp_path / "whole")
    assert a.user_embeddings.shape[1] == (24 if encoder == "ngcf" else 8)
    np.testing.assert_array_equal(a.user_embeddings, b.user_embeddings)
    np.testing.assert_array_equal(a.item_embeddings, b.item_embeddings)


def test_encoders_say_what_they_are():
    what = {name: (ENCODERS[name].convolves, ENCODERS[name].mixes_dimensions) for name in ENCODERS.names()}
    assert what == {"none": (False, False), "lightgcn": (True, False), "ngcf": (True, True)}
    assert [ENCODERS[name]().describe(ModelConfig(encoder=name)) for name in ENCODERS.names()] == [
        *("lightgcn, 3 layers", "ngcf, 3 layers", "none"),
    ]


@pytest.mark.parametrize("name", ENCODERS.names())
def test_an_encoder_convolves_as_it_was_said_to(graph, name):
    config = ModelConfig(encoder=name, num_layers=1)
    assert make_encoder(config, graph, seed=1).convolves == config.encoder_choice().convolves


def test_a_new_encoder_is_a_setting_and_encodes(graph):
    class Doubled(LookupEncoder):
        def encode_tables(self, user_table, item_table, training=False, step=None):
            return 2.0 * user_table, 2.0 * item_table

    @ENCODERS.register("doubled")
    class Doubling(EncoderChoice):
        def make(self, config, graph, seed):
            return Doubled()

    try:
        config = Config.from_yaml("model: {encoder: doubled}").model
        users, _ = make_encoder(config, graph, seed=1).encode_tables(tf.ones([4, 3]), tf.ones([5, 3]))
        np.testing.assert_array_equal(users, 2 * np.ones((4, 3)))
    finally:
        ENCODERS.remove("doubled")
    with pytest.raises(InputError, match=r"model\.encoder: expected one of lightgcn, ngcf, none, got 'doubled'"):
        Config.from_yaml("model: {encoder: doubled}")
