"""Each user's k-th best score, and the softmax loss that weighs pairs by it, against NumPy."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from tf_hqgnn.graph.interaction_graph import InteractionGraph
from tf_hqgnn.layers.graph_convolution import LightGCNConvolution
from tf_hqgnn.layers.low_bit_quantizer import LowBitQuantizer
from tf_hqgnn.losses.loss import BatchContext, WeightedBatchContext
from tf_hqgnn.losses.softmax import Softmax
from tf_hqgnn.models.encoder import GraphEncoder
from tf_hqgnn.models.hqgnn import HQGNN
from tf_hqgnn.models.thresholds import refresh_thresholds
from tf_hqgnn.runs.checkpoints import CheckpointStore
from tf_hqgnn.runs.run_directory import RunDirectory
from tf_hqgnn.training.train import train
from tf_hqgnn.types import Interactions

USERS, ITEMS, DIM = 30, 40, 6
RNG = np.random.default_rng(4)
PAIRS = Interactions(RNG.integers(0, USERS, 200).astype(np.int32), RNG.integers(0, ITEMS, 200).astype(np.int32))
GRAPH = InteractionGraph.from_interactions(PAIRS, USERS, ITEMS)


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def kth_best(users, items, k):
    return np.sort(unit(users) @ unit(items).T, axis=1)[:, -k]


def rows(size, seed):
    return np.random.default_rng(seed).normal(size=(size, 4)).astype(np.float32)


@pytest.mark.parametrize("weighted", [False, True])
def test_pairs_near_the_users_best_weigh_more(weighted):
    users, items, threshold = rows(5, 0), rows(5, 1), np.linspace(-0.5, 0.5, 5).astype(np.float32)
    weight = np.array([1, 2, 0.5, 1, 3], np.float32)
    others = ~np.eye(5, dtype=bool) & (RNG.random((5, 5)) < 0.3)
    context = BatchContext(others | np.eye(5, dtype=bool), np.zeros(5, np.float32), weight, threshold)
    if weighted:
        context = WeightedBatchContext(*context[:3], np.ones(5, np.float32), threshold)
    cosines = unit(users) @ unit(items).T
    closeness = 1 / (1 + np.exp(-(np.diag(cosines) - threshold) / 0.3))
    expected = 0.0
    for a in range(5):
        kept = [b for b in range(5) if b == a or not others[a, b]]
        of_pair = np.log(np.exp(cosines[a, kept] / 0.2).sum()) - cosines[a, a] / 0.2
        expected += weight[a] * closeness[a] / closeness.mean() * of_pair / 5
    loss = Softmax(temperature=0.2, popularity_correction=0.0, top_k_temperature=0.3)
    np.testing.assert_allclose(loss(users, items, None, context), expected, rtol=1e-5)


def test_no_gradient_goes_through_the_weight():
    users, items = tf.constant(rows(5, 0)), tf.constant(rows(5, 1))
    context = BatchContext(tf.eye(5, dtype=tf.bool), tf.zeros(5), tf.ones(5), tf.linspace(-0.5, 0.5, 5))
    cosines = tf.reduce_sum(tf.math.l2_normalize(users, axis=1) * tf.math.l2_normalize(items, axis=1), axis=1)
    closeness = tf.sigmoid((cosines - context.threshold) / 0.3)
    plain = context._replace(weight=closeness / tf.reduce_mean(closeness), threshold=None)
    gradients = []
    for loss, told in ((Softmax(top_k_temperature=0.3), context), (Softmax(), plain)):
        with tf.GradientTape() as tape:
            tape.watch(users)
            value = loss(users, items, None, told)
        gradients.append(tape.gradient(value, users))
    np.testing.assert_allclose(*gradients, rtol=1e-4, atol=1e-6)


def test_without_thresholds_it_says_what_is_missing():
    context = BatchContext(np.eye(2, dtype=bool), np.zeros(2, np.float32), np.ones(2, np.float32))
    with pytest.raises(ValueError, match=r"needs the threshold of each user .*, got None: train an HQGNN by fit\(\)"):
        Softmax(top_k_temperature=0.4)(rows(2, 0), rows(2, 1), None, context)


@pytest.mark.parametrize("top_k", [1, 7, 1000])
def test_thresholds_are_those_of_the_rows_that_the_loss_sees(top_k):
    loss = Softmax(top_k_temperature=0.4, top_k=top_k)
    quantizers = {f"{side}_quantizer": LowBitQuantizer(4, name=side) for side in ("user", "item")}
    model = HQGNN(USERS, ITEMS, DIM, loss, GraphEncoder(LightGCNConvolution(num_layers=2)), graph=GRAPH, **quantizers)
    np.testing.assert_array_equal(model.thresholds, -np.ones(USERS))
    refresh_thresholds(model)
    coded = model.quantize(*model.encode(tf.range(USERS), tf.range(ITEMS)))
    users, items = (rows.numpy() for rows in coded)
    np.testing.assert_allclose(model.thresholds, kth_best(users, items, min(top_k, ITEMS)), rtol=1e-4, atol=1e-5)


def test_of_a_large_catalogue_a_sample_is_ranked():
    """Four of twenty, among a fifth of the items: near what all items give, and another sample at another step."""
    num_items, top_k = 20_000, 20
    rng = np.random.default_rng(3)
    start = rng.normal(size=(50, 8)).astype(np.float32), rng.normal(size=(num_items, 8)).astype(np.float32)
    model = HQGNN(50, num_items, 8, Softmax(top_k_temperature=0.4, top_k=top_k), start=start)
    model.compile("adam")
    found = []
    for step in (0, 0, 7):
        model.optimizer.iterations.assign(step)
        refresh_thresholds(model)
        found.append(model.thresholds.numpy())
    np.testing.assert_array_equal(found[0], found[1])
    assert not np.array_equal(found[0], found[2])
    below, above = (kth_best(*start, rank) for rank in (60, 5))
    assert (below < found[0]).mean() > 0.9
    assert (found[0] < above).mean() > 0.9
    assert np.abs((found[0] - kth_best(*start, top_k)).mean()) < 0.01


def test_every_epoch_begins_with_those_of_its_tables():
    seen = []

    class Watch(tf_keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            del epoch, logs
            rows = self.model.user_table.numpy(), self.model.item_table.numpy()
            seen.append((self.model.thresholds.numpy(), kth_best(*rows, 3)))

    model = HQGNN(USERS, ITEMS, DIM, graph=GRAPH)
    assert model.thresholds is None
    model.compile("adam", loss=Softmax(top_k_temperature=0.4, top_k=3))
    batches = tf.data.Dataset.from_tensor_slices((PAIRS.user_index, PAIRS.item_index)).batch(50)
    model.fit(batches, epochs=3, callbacks=[Watch()], verbose=0)
    assert len(seen) == 3
    for found, expected in seen:
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    assert not np.array_equal(seen[0][0], seen[2][0])


def test_a_saved_model_keeps_them(tmp_path):
    model = HQGNN(USERS, ITEMS, DIM, Softmax(top_k_temperature=0.4), graph=GRAPH)
    refresh_thresholds(model)
    model.compile("adam")
    model.save(tmp_path / "model.keras")
    loaded = tf_keras.models.load_model(tmp_path / "model.keras")
    assert loaded.batch_loss == model.batch_loss
    np.testing.assert_array_equal(loaded.thresholds, model.thresholds)


class Killed(Exception):
    """Stands for the process's death."""


def test_killed_and_resumed_ends_as_if_uninterrupted(dataset, smoke_config, tmp_path, monkeypatch):
    values = {"loss.top_k_temperature": 0.2, "loss.top_k": 5, "training.max_epochs": 3, "training.evaluate_every": 1}
    config = smoke_config.with_values({**values, "training.checkpoint_seconds": 0})
    whole = RunDirectory.load(train(dataset, config, tmp_path / "whole").run_dir)
    plain = train(dataset, config.with_values({"loss.top_k_temperature": None}), tmp_path / "plain")
    assert not np.array_equal(whole.user_embeddings, RunDirectory.load(plain.run_dir).user_embeddings)
    save = CheckpointStore.save

    def die(self, epoch, *arguments):
        if epoch == 2:
            raise Killed
        save(self, epoch, *arguments)

    monkeypatch.setattr(CheckpointStore, "save", die)
    with pytest.raises(Killed):
        train(dataset, config, tmp_path / "run")
    monkeypatch.undo()
    resumed = RunDirectory.load(train(dataset, config, tmp_path / "run", resume=True).run_dir)
    np.testing.assert_array_equal(resumed.user_embeddings, whole.user_embeddings)
    np.testing.assert_array_equal(resumed.item_embeddings, whole.item_embeddings)
