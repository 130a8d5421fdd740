"""HQGNN as a Keras user handles it: compile, fit on plain pairs, metrics of ranking, saving, loading."""

import json
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from tf_hqgnn.data.datasets import training_batches
from tf_hqgnn.evaluation.full_ranking import evaluate_embeddings
from tf_hqgnn.graph import InteractionGraph
from tf_hqgnn.layers import GraphODE, LightGCNConvolution, LowBitQuantizer
from tf_hqgnn.losses import BPR, Softmax
from tf_hqgnn.losses.loss import make_loss
from tf_hqgnn.metrics import NDCG, Recall
from tf_hqgnn.models import HQGNN, GraphEncoder
from tf_hqgnn.models.batches import as_features, with_wishes
from tf_hqgnn.models.encoder import Encoder
from tf_hqgnn.retrieval.filters import SeenItems
from tf_hqgnn.types import Interactions

# Models are trained.
pytestmark = pytest.mark.integration

USERS, ITEMS = 30, 20


@pytest.fixture(scope="module")
def log():
    """Distinct pairs, a tenth held out."""
    rng = np.random.default_rng(0)
    pairs = np.unique(rng.integers(0, [USERS, ITEMS], (300, 2)), axis=0).astype(np.int32)
    held_out = rng.random(len(pairs)) < 0.1
    return Interactions(*pairs[~held_out].T), Interactions(*pairs[held_out].T)


@pytest.fixture(scope="module")
def graph(log):
    return InteractionGraph.from_interactions(log[0], USERS, ITEMS)


def plain(interactions):
    return tf.data.Dataset.from_tensor_slices((interactions.user_index, interactions.item_index)).batch(64)


@pytest.fixture(scope="module")
def fitted(log, graph):
    """A model, and what its training has told; Keras forgets that in `evaluate`."""
    model = HQGNN(
        USERS,
        ITEMS,
        8,
        encoder=GraphEncoder(LightGCNConvolution(1)),
        item_quantizer=LowBitQuantizer(4),
        propagation=GraphODE(0.5),
        graph=graph,
    )
    model.compile(tf_keras.optimizers.Adam(0.05), loss="bpr", metrics=[NDCG(5), "recall@5"])
    history = model.fit(plain(log[0]), validation_data=plain(log[1]), epochs=2, verbose=0).history
    return model, history


@pytest.fixture(scope="module")
def trained(fitted):
    return fitted[0]


def test_metrics_of_fit_are_those_of_the_whole_catalogue(fitted, log, graph):
    trained, history = fitted
    users, items = (table.numpy() for table in trained.rows())
    values = evaluate_embeddings(users, items, log[1], graph.seen(), graph.item_degree, [5]).values
    for name in ("ndcg@5", "recall@5"):
        np.testing.assert_allclose(history[f"val_{name}"][-1], values[name], rtol=1e-5)
        found = trained.evaluate(plain(log[1]), verbose=0, return_dict=True)[name]
        np.testing.assert_allclose(found, values[name], rtol=1e-5)
    assert history["loss"][1] < history["loss"][0]


def test_recommendations_are_the_best_unseen_items(trained, graph):
    users, items = (table.numpy() for table in trained.rows())
    scores = users @ items.T
    np.testing.assert_allclose(trained.predict(np.arange(USERS), verbose=0), scores, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(trained(([3, 4], [[5], [6]])), scores[[3, 4], [5, 6]], rtol=1e-5, atol=1e-6)
    scores[graph.to_matrix().toarray() > 0] = -np.inf
    got, item_index = trained.recommend(np.arange(USERS), k=ITEMS)
    np.testing.assert_allclose(got, -np.sort(-scores, axis=1), rtol=1e-5, atol=1e-6)
    assert np.array_equal(item_index.numpy() == -1, np.isinf(got))


RELOAD = """
import sys
import numpy as np, tensorflow as tf
expected = dict(np.load(sys.argv[1] + "/expected.npz"))
def check(found):
    assert all(np.array_equal(one, expected[name]) for one, name in zip(found, ("scores", "items")))
for name in ("saved", "exported"):
    model = tf.saved_model.load(sys.argv[1] + "/" + name)
    check(model.best_items(tf.range(30), tf.constant(5)))
assert "tf_hqgnn" not in sys.modules
import tf_hqgnn, tf_keras
from tf_hqgnn.models import HQGNN
for name in ("saved", "model.keras"):
    model = tf_keras.models.load_model(sys.argv[1] + "/" + name)
    assert type(model) is HQGNN
    check(model.recommend(range(30), 5))
    data = tf.data.Dataset.from_tensors((expected["users"], expected["targets"]))
    found = model.evaluate(data, verbose=0, return_dict=True)
    assert found["ndcg@5"] == expected["ndcg"], (found, expected["ndcg"])
assert int(model.optimizer.iterations) == expected["steps"]
print("ok")
"""


def test_another_process_gives_the_same_answers(trained, log, tmp_path):
    scores, items = trained.recommend(range(USERS), 5)
    whole = tf.data.Dataset.from_tensors((log[1].user_index, log[1].item_index))
    np.savez(
        tmp_path / "expected.npz",
        scores=scores,
        items=items,
        users=log[1].user_index,
        targets=log[1].item_index,
        ndcg=trained.evaluate(whole, verbose=0, return_dict=True)["ndcg@5"],
        steps=trained.optimizer.iterations.numpy(),
    )
    trained.save(tmp_path / "saved")
    trained.save(tmp_path / "model.keras")
    trained.export(tmp_path / "exported")
    command = [sys.executable, "-W", "ignore", "-c", RELOAD, str(tmp_path)]
    environment = {"TF_USE_LEGACY_KERAS": "1", "TF_CPP_MIN_LOG_LEVEL": "3", "PATH": "/usr/bin:/bin"}
    result = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert result.stdout == "ok\n", result.stderr[-3000:]
    for save in ("weights.h5", "new.weights.h5", "checkpoint"):
        trained.save_weights(tmp_path / save)
        again = tf_keras.models.clone_model(trained)
        again.load_weights(tmp_path / save)
        np.testing.assert_array_equal(again.recommend(range(USERS), 5)[1], items)


def test_nothing_of_a_user_is_in_the_config(graph):
    larger = InteractionGraph.from_interactions(Interactions(np.arange(5000), np.arange(5000) % ITEMS), 5000, ITEMS)
    sizes = [len(json.dumps(HQGNN(g.num_users, ITEMS, 2, graph=g).get_config())) for g in (graph, larger)]
    assert abs(sizes[0] - sizes[1]) < 20


@pytest.mark.parametrize(
    "make",
    [
        lambda: tf_keras.callbacks.EarlyStopping(monitor="val_ndcg@5", restore_best_weights=True),
        lambda: tf_keras.callbacks.ReduceLROnPlateau(monitor="val_ndcg@5", patience=1),
    ],
)
def test_callbacks_take_higher_metrics_for_better(make, log, graph):
    """With fixed tables a metric stays: what is better comes from values that the test sets."""
    callback = make()
    model = HQGNN(USERS, ITEMS, 4, graph=graph)
    model.compile("sgd", metrics=["ndcg@5"])
    model.fit(plain(log[0]), validation_data=plain(log[1]), epochs=1, verbose=0, callbacks=[callback])
    assert callback.monitor_op(0.2, 0.1)
    assert not callback.monitor_op(0.1, 0.2)
    assert 0 < callback.best < 1


def test_checkpoints_keep_the_highest(log, graph, tmp_path):
    path = str(tmp_path / "best.weights.h5")
    callback = tf_keras.callbacks.ModelCheckpoint(
        path, monitor="val_recall@5", save_best_only=True, save_weights_only=True
    )
    model = HQGNN(USERS, ITEMS, 4, graph=graph)
    model.compile("sgd", metrics=[Recall(5)])
    model.fit(plain(log[0]), validation_data=plain(log[1]), verbose=0, callbacks=callback)
    assert 0 < callback.best < 1
    model.load_weights(path)


def test_what_the_loss_needs_is_made_from_plain_pairs(log, graph):
    """Positives as of training_batches; negatives that the user hasn't taken."""
    train = log[0]
    batch = next(iter(training_batches(train, ITEMS, 50, seed=1, seen=graph.seen())))
    pairs = {name: batch[name] for name in ("user_index", "item_index")}
    seen = SeenItems(*graph.seen(), ITEMS)
    made = with_wishes(pairs, Softmax(), seen, ITEMS, seed=3, step=4)
    np.testing.assert_array_equal(made["is_positive"], batch["is_positive"])
    drawn = with_wishes(pairs, BPR(num_negatives=5), seen, ITEMS, seed=3, step=4)["negative_index"].numpy()
    assert drawn.shape == (50, 5)
    taken = graph.to_matrix().toarray()[pairs["user_index"].numpy()[:, None], drawn]
    assert taken.mean() < 0.05
    assert len(np.unique(drawn)) > ITEMS / 2
    again, other = (with_wishes(pairs, BPR(num_negatives=5), seen, ITEMS, 3, step)["negative_index"] for step in (4, 5))
    assert np.array_equal(drawn, again)
    assert not np.array_equal(drawn, other)


def test_another_loss_has_its_weights_of_users(graph):
    model = HQGNN(USERS, ITEMS, 4, graph=graph)
    model.compile("sgd", loss=Softmax(user_balance=1.0))
    expected = Softmax(user_balance=1.0).user_weight(graph.user_degree.astype(float))
    np.testing.assert_allclose(model.user_weight, expected, rtol=1e-6)
    assert model.get_config()["loss"]["user_balance"] == 1.0


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ((tf.constant(["a"]), tf.constant([1])), "user_index must hold row numbers, integers from 0 on, got string"),
        ((tf.constant(1), tf.constant(1)), r"batch the dataset, dataset\.batch\(1024\)"),
        ({"user_index": tf.constant([1])}, "the batch lacks item_index: expected batches of"),
        ((tf.constant([1]),) * 3, "pairs have no sample weights here"),
        (tf.constant([1]), r"expected batches of \(user_index, item_index\)"),
    ],
)
def test_other_batches_are_refused(data, message):
    with pytest.raises(ValueError, match=message):
        as_features(data)


def test_what_is_compiled_is_checked(graph):
    model = HQGNN(USERS, ITEMS, 4)
    with pytest.raises(ValueError, match="or one of the names alignment_uniformity, bpr"):
        model.compile("adam", loss="mse")
    with pytest.raises(ValueError, match="or names such as 'ndcg@20'"):
        model.compile("adam", metrics=["accuracy"])
    with pytest.raises(ValueError, match="k must be at least 1, got 0"):
        model.recommend([0], k=0)
    with pytest.raises(ValueError, match="the graph must have 3 users and 3 items, got 30 and 20"):
        HQGNN(3, 3, 2, graph=graph)
    with pytest.raises(ValueError, match="HQGNN computes in float32, got the policy mixed_float16"):
        HQGNN(3, 3, 2, dtype="mixed_float16")
    with pytest.raises(TypeError, match="Encoder is abstract: make a LookupEncoder or a GraphEncoder"):
        Encoder()
    assert make_loss("bpr") == BPR()
