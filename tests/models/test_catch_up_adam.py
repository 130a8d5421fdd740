"""CatchUpAdam and DenseAdam: the steps of Adam as published, written down in NumPy."""

from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from tf_hqgnn.config import Config
from tf_hqgnn.graph.interaction_graph import InteractionGraph
from tf_hqgnn.models.catch_up_adam import CatchUpAdam
from tf_hqgnn.models.factory import make_model
from tf_hqgnn.models.optimizers import DenseAdam
from tf_hqgnn.types import InputError, Interactions

_ROWS, _STEPS, _RATE = 40, 300, 0.05
_GENERATOR = np.random.default_rng(0)
_START, _TARGET = _GENERATOR.normal(size=(2, _ROWS, 3)).astype(np.float32)
# Few rows are in most batches, most rows in few: some miss hundreds of steps. A row may be in a batch twice.
_SHARES = np.arange(1, _ROWS + 1) ** -1.5
_BATCHES = [_GENERATOR.choice(_ROWS, 4, p=_SHARES / _SHARES.sum()) for _ in range(_STEPS)]


def rates():
    return tf_keras.optimizers.schedules.CosineDecay(_RATE, _STEPS + 50)


def dense_adam():
    """Kingma and Ba's algorithm 1 on the squared distance of a batch's rows to their targets."""
    x, m, v = _START.astype(np.float64), np.zeros((_ROWS, 3)), np.zeros((_ROWS, 3))
    for step, rows in enumerate(_BATCHES):
        gradient = np.zeros_like(x)
        np.add.at(gradient, rows, 2 * (x[rows] - _TARGET[rows]))
        m, v = 0.9 * m + 0.1 * gradient, 0.999 * v + 0.001 * gradient**2
        rate = _RATE * (1 + np.cos(np.pi * step / (_STEPS + 50))) / 2
        x -= rate * (m / (1 - 0.9 ** (step + 1))) / (np.sqrt(v / (1 - 0.999 ** (step + 1))) + 1e-8)
    return x


def run(optimizer):
    table = tf.Variable(_START)
    optimizer.build([table])
    catches_up = isinstance(optimizer, CatchUpAdam)

    @tf.function
    def step(rows):
        if catches_up:
            optimizer.catch_up(table, rows)
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum((tf.gather(table, rows) - tf.gather(_TARGET, rows)) ** 2)
        optimizer.apply_gradients([(tape.gradient(loss, table), table)])

    for rows in _BATCHES:
        step(tf.constant(rows))
    if catches_up:
        optimizer.catch_up(table)
    return table.numpy()


@pytest.mark.parametrize(
    "optimizer",
    [lambda: DenseAdam(rates()), lambda: CatchUpAdam(rates()), lambda: CatchUpAdam(rates(), most_missed=7)],
    ids=["dense", "all_at_the_end", "every_7_steps"],
)
def test_steps_are_those_of_adam_as_published(optimizer):
    np.testing.assert_allclose(run(optimizer()), dense_adam(), atol=2e-5)


def test_rows_that_missed_steps_catch_up_before_a_dense_gradient():
    tables = []
    for optimizer in (DenseAdam(0.1), CatchUpAdam(0.1)):
        table = tf.Variable(_START)
        sparse = tf.IndexedSlices(tf.ones([1, 3]), tf.constant([2]), [_ROWS, 3])
        for gradient in (sparse, tf.IndexedSlices(tf.ones([1, 3]), tf.constant([5]), [_ROWS, 3]), tf.ones([_ROWS, 3])):
            optimizer.apply_gradients([(gradient, table)])
        tables.append(table.numpy())
    np.testing.assert_allclose(tables[1], tables[0], atol=1e-5)


def trained(optimizer):
    users, items = np.random.default_rng(1).integers(0, 30, (2, 400)).astype(np.int32)
    graph = InteractionGraph.from_interactions(Interactions(users, items), 30, 30)
    settings = {"model.embedding_dim": 4, "model.initializer": "random", "training.optimizer": optimizer}
    config = Config().with_values(settings | {"training.steps_per_execution": 4, "training.jit_compile": False}, "test")
    tf_keras.utils.set_random_seed(0)
    model = make_model(config, graph)
    seen = []
    looks = tf_keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: seen.append(model.embeddings()[0]))
    batches = tf.data.Dataset.from_tensor_slices((users, items)).batch(5, drop_remainder=True)
    model.fit(batches, epochs=2, verbose=0, callbacks=looks)
    return [*seen, *model.embeddings()]


def test_a_model_that_catches_up_is_the_one_of_dense_steps_at_the_end_of_each_epoch():
    lazy, dense, catch_up = (trained(name) for name in ("lazy", "dense", "catch_up"))
    for one, other, without in zip(catch_up, dense, lazy):
        np.testing.assert_allclose(one, other, atol=2e-4)
        assert np.abs(without - other).max() > 0.01


def test_replicas_cannot_share_the_batches_of_rows_that_catch_up(monkeypatch):
    graph = InteractionGraph.from_interactions(Interactions(np.arange(3), np.arange(3)), 3, 3)
    config = Config().with_values({"model.embedding_dim": 2, "training.optimizer": "catch_up"}, "test")
    monkeypatch.setattr(tf.distribute, "get_strategy", lambda: SimpleNamespace(num_replicas_in_sync=2))
    with pytest.raises(InputError, match=r"optimizer=catch_up trains on one device, and 2 share each batch"):
        make_model(config, graph)


def test_config_round_trip():
    config = tf_keras.optimizers.serialize(CatchUpAdam(0.25, most_missed=9))
    again = tf_keras.optimizers.deserialize(config)
    assert isinstance(again, CatchUpAdam)
    assert again.get_config() == CatchUpAdam(0.25, most_missed=9).get_config()


@pytest.mark.parametrize("most_missed", [0, -1])
def test_a_bad_number_of_steps_is_named(most_missed):
    with pytest.raises(ValueError, match=f"most_missed must be at least 1, got {most_missed}"):
        CatchUpAdam(most_missed=most_missed)
