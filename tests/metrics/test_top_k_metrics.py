"""NDCG and recall against the package's NumPy metrics, whose own tests have hand-made oracles."""

import json

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from tf_hqgnn import metrics
from tf_hqgnn.evaluation.metrics import ranking_metrics
from tf_hqgnn.metrics import NDCG, Recall
from tf_hqgnn.metrics.top_k import make_metric

USERS, ITEMS, K = 40, 30, 6


@pytest.fixture(scope="module")
def data():
    """Answers int [U, K + 2], and the relevant items of each user; some have none, some more than K."""
    rng = np.random.default_rng(0)
    answers = np.argsort(rng.random((USERS, ITEMS)), axis=1)[:, : K + 2]
    answers[3, 4:] = -1
    relevant = [rng.choice(ITEMS, size, replace=False) for size in rng.integers(0, K + 4, USERS)]
    return answers, relevant


def expected(answers, relevant, k):
    indptr = np.cumsum([0, *map(len, relevant)])
    values = ranking_metrics(answers, (indptr, np.concatenate(relevant)), [k], ITEMS, np.ones(ITEMS)).values
    return [values[f"ndcg@{k}"], values[f"recall@{k}"]]


def padded(relevant):
    out = np.full((len(relevant), max(map(len, relevant))), -1)
    for row, items in zip(out, relevant):
        row[: len(items)] = items
    return out


@pytest.mark.parametrize("k", [1, 3, K, 20])
def test_means_over_users(k, data):
    answers, relevant = data
    got = [NDCG(k), Recall(k)]
    for metric in got:
        for start in range(0, USERS, 7):
            metric.update_state(padded(relevant)[start : start + 7], answers[start : start + 7])
    np.testing.assert_allclose([metric.result() for metric in got], expected(answers, relevant, k), rtol=1e-5)
    for metric in got:
        metric.reset_state()
        assert float(metric.result()) == 0


def test_pairs_of_a_user_may_come_apart(data):
    answers, relevant = data
    users, items = (np.concatenate(part) for part in zip(*[([u] * len(r), r) for u, r in enumerate(relevant)]))
    order = np.random.default_rng(1).permutation(len(users))
    for metric, value in zip((NDCG(K), Recall(K)), expected(answers, relevant, K)):
        metric.track_users(USERS)
        update = tf.function(metric.update_pairs)
        for part in np.array_split(order, 5):
            u = users[part].astype(np.int32)
            update(tf.constant(u), tf.constant(items[part].astype(np.int32)), tf.constant(answers[u].astype(np.int32)))
        np.testing.assert_allclose(metric.result(), value, rtol=1e-5)


def test_scores_ids_weights_and_repeated_items(data):
    answers, relevant = data
    scores = np.random.default_rng(2).normal(size=(USERS, ITEMS)).astype(np.float32)
    by_score = np.argsort(-scores, axis=1)
    np.testing.assert_allclose(NDCG(K)(padded(relevant), scores), expected(by_score, relevant, K)[0], rtol=1e-5)
    ids = np.where(padded(relevant) < 0, "", padded(relevant).astype(str))
    answered = np.where(answers < 0, "", answers.astype(str))
    np.testing.assert_allclose(Recall(K)(ids, answered), expected(answers, relevant, K)[1], rtol=1e-5)
    twice = np.concatenate([padded(relevant)] * 2, axis=1)
    np.testing.assert_allclose(Recall(K)(twice, answers), expected(answers, relevant, K)[1], rtol=1e-5)
    only = np.arange(USERS) < 10
    weighted = expected(answers[:10], relevant[:10], K)[0]
    np.testing.assert_allclose(NDCG(K)(padded(relevant), answers, sample_weight=only), weighted, rtol=1e-5)


def test_names_configs_and_errors():
    assert (NDCG().name, Recall(5).name, NDCG(3, name="mine").name) == ("ndcg@20", "recall@5", "mine")
    config = json.loads(json.dumps(tf_keras.utils.serialize_keras_object(Recall(7))))
    assert tf_keras.utils.deserialize_keras_object(config).k == 7
    assert set(metrics.__all__) == {"NDCG", "Recall"}
    with pytest.raises(ValueError, match="k must be at least 1, got 0"):
        NDCG(0)
    with pytest.raises(ValueError, match="names such as 'ndcg@20' or 'recall@20', got 'auc'"):
        make_metric("auc")
    with pytest.raises(ValueError, match=r"ndcg@20 doesn't know how many users there are: call track_users"):
        NDCG().update_pairs(tf.constant([0]), tf.constant([0]), tf.constant([[0]]))


def test_in_a_strangers_model():
    """Compiled into a model that scores a catalogue: y_true are rows of items."""
    model = tf_keras.Sequential([tf_keras.layers.Dense(4, kernel_initializer="identity", use_bias=False)])
    model.compile(loss="sparse_categorical_crossentropy", metrics=[NDCG(2), Recall(1)])
    found = model.evaluate(np.eye(4, dtype=np.float32)[:2], np.array([0, 3]), verbose=0, return_dict=True)
    assert found["recall@1"] == 0.5
