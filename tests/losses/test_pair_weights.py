"""A loss counts a pair of weight w as it counts w pairs of weight 1."""

import numpy as np
import pytest
import tensorflow as tf

from tf_hqgnn.data.datasets import training_batches
from tf_hqgnn.graph.interaction_graph import InteractionGraph
from tf_hqgnn.losses.loss import BatchContext, WeightedBatchContext, make_loss
from tf_hqgnn.models.hqgnn import HQGNN
from tf_hqgnn.types import Interactions

COUNTS = np.array([3, 1, 2, 1])
PLACES = np.repeat(np.arange(4), COUNTS)
# Users 0, 1, 1, 2 take items 0, 1, 2, 3; nobody's item is another one's.
IS_POSITIVE = np.array([[1, 0, 0, 0], [0, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 1]], bool)


def rows(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def contexts():
    """Of four weighted pairs, and of these repeated."""
    weight, popularity = COUNTS.astype(np.float32), np.log(COUNTS / 7).astype(np.float32)
    ones = np.ones(7, np.float32)
    return (
        WeightedBatchContext(IS_POSITIVE, popularity, weight, weight),
        BatchContext(IS_POSITIVE[PLACES][:, PLACES], popularity[PLACES], ones),
    )


@pytest.mark.parametrize(
    ("name", "settings"),
    [("softmax", {}), ("softmax", {"negative_weight": 1.2}), ("bpr", {}), ("alignment_uniformity", {"gamma": 0})],
    ids=str,
)
def test_weighted_pairs_lose_what_repeated_pairs_lose(name, settings):
    users, items, negatives = rows(0, 4, 5), rows(1, 4, 5), rows(2, 4, 1, 5)
    loss = make_loss(name, **settings)
    values = []
    for context, place in zip(contexts(), (np.arange(4), PLACES)):
        of_batch = [tf.constant(part[place]) for part in (users, items, negatives)]
        with tf.GradientTape() as tape:
            tape.watch(of_batch[:2])
            # A mean over the batch: the sums are to agree.
            total = loss(*of_batch, context) * len(place)
        gradients = [np.zeros((4, 5)), np.zeros((4, 5))]
        for sums, gradient in zip(gradients, tape.gradient(total, of_batch[:2])):
            np.add.at(sums, place, gradient.numpy())
        values.append((total.numpy(), *gradients))
    for one, other in zip(*values):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def test_uniformity_is_a_weighted_mean():
    users = rows(3, 3, 4)
    unit = users / np.linalg.norm(users, axis=1, keepdims=True)
    weight = np.array([2.0, 1.0, 0.5])
    pairs = [(0, 1), (0, 2), (1, 2)]
    kernel = [weight[a] * weight[b] * np.exp(-2 * np.square(unit[a] - unit[b]).sum()) for a, b in pairs]
    mean = sum(kernel) / sum(weight[a] * weight[b] for a, b in pairs)
    context = WeightedBatchContext(np.eye(3, dtype=bool), np.zeros(3), *[weight.astype(np.float32)] * 2)
    value = make_loss("alignment_uniformity", gamma=1.0)(users, users, None, context)
    assert float(value) == pytest.approx(np.log(mean), rel=1e-5)


def test_exact_traces_are_weighted():
    users, items, negatives = rows(4, 4, 5), rows(5, 4, 5), rows(6, 4, 1, 5)
    loss = make_loss("bpr")
    weighted = loss.hessian_traces(users, items, negatives, COUNTS.astype(np.float32))
    repeated = loss.hessian_traces(users[PLACES], items[PLACES], negatives[PLACES])
    np.testing.assert_allclose(np.array(weighted) * 4, np.array(repeated) * 7, rtol=1e-5)


TRAIN = Interactions(
    np.array([0, 0, 1, 2], np.int32), np.array([0, 1, 2, 3], np.int32), weight=np.array([1.0, 1.0, 4.0, 2.0])
)
DISLIKED = Interactions(np.array([0, 2], np.int32), np.array([2, 0], np.int32))


def test_batches_hold_the_weights_and_what_users_disliked():
    batches = training_batches(TRAIN, 4, 4, seed=1, disliked=DISLIKED.to_csr(3))
    for batch in batches.take(3):
        pairs = zip(batch["user_index"].numpy().tolist(), batch["item_index"].numpy().tolist())
        weight = {(0, 0): 0.5, (0, 1): 0.5, (1, 2): 2, (2, 3): 1}
        assert batch["weight"].numpy().tolist() == [weight[pair] for pair in pairs]
        found = dict(zip(batch["user_index"].numpy().tolist(), batch["disliked_index"].numpy().tolist()))
        assert found == {0: 2, 1: -1, 2: 0}
    plain = next(iter(training_batches(Interactions(TRAIN.user_index, TRAIN.item_index), 4, 4, seed=1)))
    assert set(plain) == {"user_index", "item_index"}


@pytest.mark.parametrize("name", ["softmax", "bpr", "alignment_uniformity"])
def test_what_a_user_disliked_is_pushed_below_what_it_took(name):
    graph = InteractionGraph.from_interactions(TRAIN, 3, 4, DISLIKED)
    model = HQGNN(3, 4, 5, make_loss(name), graph=graph, dislike_weight=0.5, jit_compile_loss=False)
    batch = next(iter(training_batches(TRAIN, 4, 4, 1, disliked=DISLIKED.to_csr(3), num_negatives=1)))
    plain = {key: values for key, values in batch.items() if key != "disliked_index"}
    added = float(model.compute_loss(batch) - model.compute_loss(plain))
    users, items = model.user_table.numpy(), model.item_table.numpy()
    if name != "bpr":
        users, items = (table / np.linalg.norm(table, axis=1, keepdims=True) for table in (users, items))
    scores = users @ items.T / (0.15 if name == "softmax" else 1)
    # Users 0, 0 and 2 dislike something; of their pairs' weights, the mean over the batch of four.
    terms = [(0, 0, 2, 0.5), (0, 1, 2, 0.5), (2, 3, 0, 1)]
    expected = sum(w * np.log1p(np.exp(scores[u, d] - scores[u, i])) for u, i, d, w in terms) / 4
    assert added == pytest.approx(0.5 * expected, rel=1e-4)
