"""Deltas per table, column and row, averaged over batches, and a scale that is learned beside the range."""

import doctest

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from tf_hqgnn.layers import quantizer_probe
from tf_hqgnn.layers.low_bit_quantizer import LowBitQuantizer
from tf_hqgnn.layers.quantizer_probe import QuantizerProbe, gradient_change

RANDOM = np.random.default_rng(0)
ROWS = RANDOM.normal(size=(6, 4)).astype(np.float32)
GRADIENTS = RANDOM.normal(size=(6, 4)).astype(np.float32)
DIAGONAL = RANDOM.uniform(0.1, 1.0, size=(6, 4)).astype(np.float32)


def test_doctests():
    results = doctest.testmod(quantizer_probe)
    assert results.attempted
    assert not results.failed


def deltas_by_hand(delta_per, num_bits=1):
    """max(0, (Tr(H) / N) / (3 std(g))) of each part, on the scale 0 .. 1 of ranges 2 mean |y| wide."""
    widths = 2 * np.abs(ROWS).mean(axis=1, keepdims=True)
    curvature, g = DIAGONAL * widths**2, GRADIENTS * widths
    axis = {"table": None, "column": 0, "row": 1}[delta_per]
    found = curvature.mean(axis=axis, keepdims=delta_per == "row") / (3 * g.std(axis=axis, keepdims=delta_per == "row"))
    return np.minimum(found, 1.8 * (2**num_bits - 1))


@pytest.mark.parametrize("delta_per", ["table", "column", "row"])
def test_delta_of_each_part_is_its_formula(delta_per):
    layer = LowBitQuantizer(1, delta_per=delta_per)
    layer.build(ROWS.shape)
    found = layer.refresh_delta(ROWS, GRADIENTS, tf.constant(DIAGONAL), index=tf.range(6))
    np.testing.assert_allclose(found, deltas_by_hand(delta_per), rtol=1e-4)
    np.testing.assert_allclose(layer.delta, deltas_by_hand(delta_per), rtol=1e-4)


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("delta_per", ["column", "row"])
def test_every_part_bends_its_gradients_by_its_own_delta(delta_per, jit_compile):
    layer = LowBitQuantizer(1, delta_per=delta_per)
    layer.build([9, 4])
    index = np.array([8, 3, 3, 0, 1, 5])
    deltas = RANDOM.uniform(0, 1.5, size=layer.delta.shape).astype(np.float32)
    layer.delta.assign(deltas)

    def gradient(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            result = layer(x, index=index)
        return tape.gradient(result, x, output_gradients=tf.constant(GRADIENTS))

    got = tf.function(gradient, jit_compile=jit_compile)(tf.constant(ROWS))
    straight = LowBitQuantizer(1, estimator="ste")
    with tf.GradientTape() as tape:
        x = tf.constant(ROWS)
        tape.watch(x)
        result = straight(x)
    by_ste = tape.gradient(result, x, output_gradients=tf.constant(GRADIENTS))
    reach = np.abs(ROWS).mean(axis=1, keepdims=True)
    x_n = np.clip((ROWS + reach) / (2 * reach), 0, 1)
    of_rows = deltas[index] if delta_per == "row" else deltas
    # What the estimator adds goes through x_n, which depends on the row's own range, too: d x_n / d y and / d reach.
    added = GRADIENTS * of_rows * np.sign(GRADIENTS) * (x_n - (x_n >= 0.5)) * 2 * reach
    within = np.abs(ROWS) <= reach
    by_reach = (added * within * -ROWS / (2 * reach**2)).sum(axis=1, keepdims=True) * np.sign(ROWS) / 4
    np.testing.assert_allclose(got, by_ste + added * within / (2 * reach) + by_reach, atol=1e-5)


def test_rows_without_an_index_are_straight_through():
    layer = LowBitQuantizer(2, "per_tensor", delta_per="row")
    layer.build([6, 4])
    layer.delta.assign(tf.ones([6, 1]))
    x = tf.constant(ROWS / 9)
    with tf.GradientTape() as tape:
        tape.watch(x)
        result = layer(x)
    np.testing.assert_allclose(tape.gradient(result, x), 1.0, rtol=1e-5)


def test_rows_that_no_batch_touched_keep_their_delta():
    layer = LowBitQuantizer(1, delta_per="row")
    layer.build([9, 4])
    layer.delta.assign(tf.fill([9, 1], 0.5))
    gradients = GRADIENTS.copy()
    gradients[2] = 0
    # Places that are left over repeat the first row without any gradient.
    probe = QuantizerProbe(layer, finds_delta=True)
    probe.add(tf.constant(ROWS), tf.constant(gradients), tf.constant(DIAGONAL), index=tf.constant([7, 1, 7, 0, 3, 4]))
    probe.finish("items")
    expected = np.full((9, 1), 0.5)
    expected[[7, 1, 0, 3, 4]] = deltas_by_hand("row")[[0, 1, 3, 4, 5]]
    np.testing.assert_allclose(layer.delta, expected, rtol=1e-4)


@pytest.mark.parametrize("delta_per", ["table", "column", "row"])
def test_delta_is_the_mean_over_batches_and_its_spread_is_told(delta_per):
    layer = LowBitQuantizer(1, delta_per=delta_per)
    layer.build(ROWS.shape)
    probe = QuantizerProbe(layer, finds_delta=True)
    for factor in (0.5, 1.0, 1.5):
        probe.add(ROWS, GRADIENTS, tf.constant(factor * DIAGONAL), standard_error=9.0, index=tf.range(6))
    logs = probe.finish("items")
    expected = deltas_by_hand(delta_per)
    np.testing.assert_allclose(layer.delta, expected, rtol=1e-4)
    assert logs["delta_items"] == pytest.approx(expected.mean(), rel=1e-4)
    spread = expected * np.array([0.5, 1.0, 1.5]) if delta_per == "table" else expected
    named = [logs[f"delta_items_{name}"] for name in ("low", "median", "high")]
    np.testing.assert_allclose(named, np.quantile(spread, (0.05, 0.5, 0.95)), rtol=1e-4)
    change = gradient_change(layer, tf.constant(ROWS), tf.constant(GRADIENTS), tf.range(6))
    assert logs["gradient_change_items"] == pytest.approx(float(change), rel=1e-5) != 0
    assert logs["trace_items"] == pytest.approx(DIAGONAL.sum(), rel=1e-5)
    assert logs["trace_items_error"] == pytest.approx(0.5 * DIAGONAL.sum() / np.sqrt(3), rel=1e-4)


def test_one_batch_tells_the_error_of_its_probes():
    layer = LowBitQuantizer(1)
    probe = QuantizerProbe(layer, finds_delta=True)
    probe.add(tf.constant(ROWS), tf.constant(GRADIENTS), tf.constant(3.0), standard_error=0.25)
    assert probe.finish("users")["trace_users_error"] == 0.25


def test_change_of_gradients_by_hand():
    layer = LowBitQuantizer(2, "per_tensor", estimator="ewgs", delta=0.9)
    layer.build(ROWS.shape)
    x_n = np.clip((ROWS + 1) / 2, 0, 1)
    errors = np.abs(x_n - np.floor(3 * x_n + 0.5) / 3)
    expected = (np.abs(GRADIENTS) * 0.9 * errors).mean() / np.abs(GRADIENTS).mean()
    assert expected > 0.02
    found = gradient_change(layer, tf.constant(ROWS), tf.constant(GRADIENTS))
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    straight = LowBitQuantizer(2, "per_tensor", estimator="ste")
    straight.build(ROWS.shape)
    assert float(gradient_change(straight, tf.constant(ROWS), tf.constant(GRADIENTS))) == 0.0


@pytest.mark.parametrize("symmetric", [True, False])
def test_output_scale_starts_at_the_least_squares_fit_and_is_what_is_stored(symmetric):
    layer = LowBitQuantizer(2, "per_tensor", symmetric, estimator="ste", output_scale=True)
    layer.adapt_range(ROWS)
    lower, upper = (float(end) for end in layer.ranges(tf.constant(ROWS)))
    levels = 2 * np.floor(3 * np.clip((ROWS - lower) / (upper - lower), 0, 1) + 0.5) / 3 - 1
    fit = np.linalg.lstsq(levels.reshape(-1, 1), ROWS.ravel(), rcond=None)[0][0]
    np.testing.assert_allclose(layer.scale, fit, rtol=1e-4)
    np.testing.assert_allclose(layer(ROWS), fit * levels, rtol=1e-4)
    np.testing.assert_allclose(layer.encode(ROWS).dequantize(), layer(ROWS), rtol=1e-3)
    layer.scale.assign(-0.7)
    np.testing.assert_allclose(layer.encode(ROWS).dequantize(), 0.7 * levels, rtol=1e-3)


def test_output_scale_and_range_have_gradients_of_their_own():
    layer = LowBitQuantizer(1, "per_tensor", estimator="ste", output_scale=True, initial_range=2.0)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(layer(ROWS) * GRADIENTS)
    by_scale, by_range = tape.gradient(loss, [layer.scale, layer.beta])
    np.testing.assert_allclose(by_scale, (np.where(ROWS >= 0, 1, -1) * GRADIENTS).sum(), rtol=1e-4)
    # Straight-through: scale (2 x_n - 1) with x_n = (x / beta + 1) / 2, so that d / d beta is -scale x / beta^2.
    within = np.abs(ROWS) < 2
    np.testing.assert_allclose(by_range, (-2 * ROWS / 4 * within * GRADIENTS).sum(), rtol=1e-3)


def test_settings_survive_the_config():
    layer = LowBitQuantizer(2, "per_tensor", estimator="ewgs", delta=1.5, delta_per="row", output_scale=True, seed=7)
    again = tf_keras.layers.deserialize(tf_keras.layers.serialize(layer))
    assert again.get_config() == layer.get_config()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: LowBitQuantizer(delta_per="item"), "delta_per must be one of table, column, row, got 'item'"),
        (lambda: LowBitQuantizer(output_scale=True), "output_scale needs mode per_tensor"),
        (lambda: LowBitQuantizer(delta_per="row").build([None, 3]), "delta_per row needs the number of rows"),
        (lambda: LowBitQuantizer(delta_per="column").refresh_delta(ROWS, GRADIENTS, 1.0), "needs the diagonal"),
        (lambda: LowBitQuantizer(delta_per="row").refresh_delta(ROWS, GRADIENTS, DIAGONAL), "needs the index"),
        (lambda: QuantizerProbe(LowBitQuantizer(), True).add(ROWS, GRADIENTS), "gste needs the curvature"),
        (
            lambda: QuantizerProbe(LowBitQuantizer(delta_per="row"), True).add(ROWS, GRADIENTS, DIAGONAL),
            "needs the index",
        ),
    ],
)
def test_what_cannot_be_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
