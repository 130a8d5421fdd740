"""The model: configuration, gradients, one step under fit()."""

import json

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from tf_hqgnn.config import QuantizationConfig
from tf_hqgnn.layers.low_bit_quantizer import LowBitQuantizer
from tf_hqgnn.losses.loss import make_loss
from tf_hqgnn.losses.softmax import Softmax
from tf_hqgnn.models.encoder import LookupEncoder
from tf_hqgnn.models.hqgnn import HQGNN
from tf_hqgnn.models.optimizers import LazyAdam
from tf_hqgnn.quantization.codes import Codes

BATCH = {
    "user_index": tf.constant([0, 3, 3, 1]),
    "item_index": tf.constant([2, 0, 4, 2]),
    "negative_index": tf.constant([[1], [1], [2], [0]]),
}


def model(name="softmax", **kwargs):
    return HQGNN(4, 5, 3, make_loss(name, **({"temperature": 0.5} if name == "softmax" else {})), **kwargs)


def test_config_round_trip_through_json():
    first = model("bpr", encoder=LookupEncoder(name="lookup"), item_count=np.arange(5), user_count=np.arange(4), seed=9)
    config = json.loads(json.dumps(tf_keras.utils.serialize_keras_object(first)))
    second = tf_keras.utils.deserialize_keras_object(config)
    assert isinstance(second, HQGNN)
    assert second.get_config() == first.get_config()
    np.testing.assert_array_equal(first.user_table.numpy(), second.user_table.numpy())


def test_the_tables_are_the_weights_and_calls_are_dot_products():
    m = model()
    assert [tuple(w.shape) for w in m.trainable_weights] == [(4, 3), (5, 3)]
    users, items = m.user_table.numpy(), m.item_table.numpy()
    expected = np.sum(users[[0, 3, 3, 1]] * items[[2, 0, 4, 2]], axis=1)
    np.testing.assert_allclose(m(BATCH), expected, rtol=1e-6)


@pytest.mark.parametrize("name", ["alignment_uniformity", "bpr", "softmax"])
def test_fit_moves_the_rows_of_the_batch_and_no_others(name):
    m = model(name)
    m.compile(optimizer=LazyAdam(0.1))
    features = dict(BATCH) if name == "bpr" else {key: BATCH[key] for key in ("user_index", "item_index")}
    before = m.user_table.numpy()
    history = m.fit(tf.data.Dataset.from_tensors(features).repeat(3), verbose=0, epochs=4, steps_per_epoch=3)
    losses = history.history["loss"]
    assert losses[-1] < losses[0]
    moved = np.any(m.user_table.numpy() != before, axis=1)
    assert moved.tolist() == [True, True, False, True]


def test_the_softmax_is_told_of_positives_popularity_and_the_users_weights():
    user_count, item_count = np.array([4, 1, 1, 2]), np.array([1, 0, 5, 0, 2])
    m = HQGNN(4, 5, 3, Softmax(user_balance=0.5), user_count=user_count, item_count=item_count)
    context = m.batch_context(BATCH)
    same = [[True, False, False, True], [False, True, False, False], [False, False, True, False]]
    np.testing.assert_array_equal(context.is_positive, [*same, same[0]])
    np.testing.assert_allclose(context.log_popularity, np.log(np.array([5, 1, 2, 5]) / 8), rtol=1e-6)
    weight = user_count**-0.5 / np.mean(np.repeat(user_count**-0.5, user_count))
    np.testing.assert_allclose(context.weight, weight[[0, 3, 3, 1]], rtol=1e-6)
    given = tf.constant(np.ones((4, 4), bool))
    assert m.batch_context(BATCH | {"is_positive": given}).is_positive is given
    assert model("bpr").batch_context(BATCH) is None


def test_weight_decay_is_half_the_mean_squared_norm_of_the_batch():
    m, plain = model("bpr", weight_decay=0.5), model("bpr")
    u, i = plain.user_table.numpy(), plain.item_table.numpy()
    rows = (u[BATCH["user_index"]], i[BATCH["item_index"]], i[BATCH["negative_index"]])
    expected = 0.5 * sum(np.sum(part**2) for part in rows) / (2 * 4)
    np.testing.assert_allclose(m.compute_loss(BATCH) - plain.compute_loss(BATCH), expected, rtol=1e-4)


def test_gradients_of_the_tables_are_sparse():
    m = model()
    with tf.GradientTape() as tape:
        loss = m.compute_loss({key: BATCH[key] for key in ("user_index", "item_index")}, training=True)
    for gradient in tape.gradient(loss, m.trainable_weights):
        assert isinstance(gradient, tf.IndexedSlices)


def test_the_first_step_that_is_not_finite_is_remembered():
    m = model()
    m.compile(optimizer=LazyAdam(0.1), steps_per_execution=8)
    features = {key: BATCH[key] for key in ("user_index", "item_index")}
    m.fit(tf.data.Dataset.from_tensors(features).repeat(5), verbose=0, steps_per_epoch=5)
    assert m.first_bad_step.numpy() == -1
    m.user_table.scatter_nd_update([[3]], [[np.nan] * 3])
    m.fit(tf.data.Dataset.from_tensors(features).repeat(5), verbose=0, steps_per_epoch=5)
    assert m.first_bad_step.numpy() == 6


@pytest.mark.parametrize(
    ("arguments", "message"),
    [((0, 5, 3), "at least 1, got 0, 5 and 3"), ((4, 5, 0), "at least 1, got 4, 5 and 0")],
)
def test_sizes_are_checked(arguments, message):
    with pytest.raises(ValueError, match=message):
        HQGNN(*arguments)


def test_item_count_must_fit_the_catalogue():
    with pytest.raises(ValueError, match=r"item_count must have 5 entries, got shape \(3,\)"):
        model(item_count=np.ones(3))


def quantized_model(name="bpr", **kwargs):
    quantizers = {"user_quantizer": LowBitQuantizer(8), "item_quantizer": LowBitQuantizer(1)}
    return model(name, **{**quantizers, **kwargs})


def test_quantizers_round_what_the_loss_sees_and_let_gradients_through():
    m = quantized_model()
    users, items = m.user_table.numpy(), m.item_table.numpy()
    with tf.GradientTape() as tape:
        loss = m.compute_loss(BATCH, training=True)
    u = Codes.quantize(users, 8).dequantize()[[0, 3, 3, 1]]
    v = Codes.quantize(items, 1).dequantize()
    positive, negative = v[[2, 0, 4, 2]], v[[1, 1, 2, 0]]
    expected = np.mean(np.log1p(np.exp(-np.sum(u * (positive - negative), axis=1))))
    np.testing.assert_allclose(loss, expected, rtol=1e-3)  # ranges are stored in float16
    for gradient in tape.gradient(loss, [m.user_table, m.item_table]):
        assert np.abs(tf.convert_to_tensor(gradient)).max() > 0


def test_a_quantized_model_round_trips():
    first = quantized_model(item_quantizer=LowBitQuantizer(2, "per_tensor", estimator="ewgs", delta=0.5))
    config = json.loads(json.dumps(tf_keras.utils.serialize_keras_object(first)))
    second = tf_keras.utils.deserialize_keras_object(config)
    assert second.get_config() == first.get_config()
    assert len(second.trainable_weights) == 3


def test_delta_follows_the_trace_of_the_touched_rows():
    m = quantized_model(user_quantizer=None)
    deltas = m.refresh_deltas(BATCH, QuantizationConfig(bits=1, user_bits=None))
    assert set(deltas) == {"delta_items"}
    # By hand: gradients and trace of the rows that the batch touches, converted to the scale 0 .. 1.
    u = m.user_table.numpy()[[0, 3, 3, 1]].astype(np.float64)
    rows = m.item_table.numpy().astype(np.float64)
    scale = np.abs(rows).mean(axis=1)
    v = np.where(rows >= 0, 1, -1) * scale[:, None]
    i, j = np.array([2, 0, 4, 2]), np.array([1, 1, 2, 0])
    s = 1 / (1 + np.exp(-np.sum(u * (v[i] - v[j]), axis=1)))
    trace = np.mean(s * (1 - s) * 2 * np.sum(u**2, axis=1))
    gradient = np.zeros_like(v)
    for t in range(4):
        gradient[i[t]] -= (1 - s[t]) * u[t] / 4
        gradient[j[t]] += (1 - s[t]) * u[t] / 4
    touched = [0, 1, 2, 4]
    widths = 2 * scale[touched]
    g = gradient[touched] * widths[:, None]
    expected = trace * np.mean(widths**2) / g.size / (3 * g.std())
    np.testing.assert_allclose(deltas["delta_items"], min(expected, 1.8), rtol=1e-4)
    np.testing.assert_allclose(m.item_quantizer.delta, deltas["delta_items"])


def test_probes_agree_with_the_closed_form():
    exact = quantized_model().refresh_deltas(BATCH, QuantizationConfig(bits=1))
    probed = quantized_model().refresh_deltas(
        BATCH, QuantizationConfig(bits=1, trace="hutchinson", trace_probes=2000, trace_tolerance=0.03)
    )
    for name, value in exact.items():
        np.testing.assert_allclose(probed[name], value, rtol=0.1)
