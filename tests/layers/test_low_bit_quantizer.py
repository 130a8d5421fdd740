import doctest

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from tf_hqgnn.layers import low_bit_quantizer
from tf_hqgnn.layers.low_bit_quantizer import LowBitQuantizer
from tf_hqgnn.losses.bpr import BPR
from tf_hqgnn.quantization.estimators import max_delta
from tf_hqgnn.quantization.hessian import gste_delta

SETTINGS = [("per_row", True), ("per_row", False), ("per_tensor", True), ("per_tensor", False)]


@pytest.fixture
def rows():
    return np.random.default_rng(0).normal(size=(7, 16)).astype(np.float32)


def test_doctests():
    results = doctest.testmod(low_bit_quantizer)
    assert results.attempted
    assert not results.failed


def test_config_holds_every_setting():
    layer = LowBitQuantizer(3, "per_tensor", False, "ewgs", delta=0.25, initial_range=2.0)
    again = tf_keras.layers.deserialize(tf_keras.layers.serialize(layer))
    for name in ("num_bits", "mode", "symmetric", "estimator", "initial_delta", "initial_range"):
        assert getattr(again, name) == getattr(layer, name)
    assert again.compute_output_shape([None, 16]).as_list() == [None, 16]


@pytest.mark.parametrize("num_bits", range(1, 9))
@pytest.mark.parametrize(("mode", "symmetric"), SETTINGS)
def test_returns_what_its_codes_stand_for(mode, symmetric, num_bits, rows):
    layer = LowBitQuantizer(num_bits, mode, symmetric)
    if mode == "per_tensor":
        layer.adapt_range(rows)
    coded, result = layer.encode(rows), layer(rows).numpy()
    # A value halfway between levels may fall to either side of it when the range becomes float16.
    close = np.abs(coded.dequantize() - result) <= 2.0**-10 * np.abs(rows).max() * 3
    assert close.mean() > 0.97
    half_a_level = np.subtract(*layer.ranges(tf.constant(rows))[::-1]) / (2**num_bits - 1) / 2
    assert np.all(np.abs(coded.dequantize() - result) <= 2.01 * half_a_level + 0.01)
    assert len(coded.scale) == (7 if mode == "per_row" else 1)
    assert (coded.offset is None) == symmetric


def test_encodes_before_the_first_call(rows):
    assert LowBitQuantizer(4, "per_tensor").encode(rows).dequantize().max() == 1.0


@pytest.mark.parametrize(("mode", "symmetric"), SETTINGS)
def test_eight_bits_are_within_half_a_level(mode, symmetric, rows):
    layer = LowBitQuantizer(8, mode, symmetric)
    if mode == "per_tensor":
        layer.adapt_range(rows)
    lower, upper = layer.ranges(tf.constant(rows))
    within = np.clip(rows, lower, upper)
    assert np.all(np.abs(layer(rows) - within) <= (upper - lower) / 510 + 1e-6)
    assert np.mean(within == rows) > 0.98


def test_range_starts_at_three_deviations(rows):
    layer = LowBitQuantizer(4, "per_tensor", symmetric=False)
    layer.adapt_range(rows + 5)
    np.testing.assert_allclose(layer.beta, 5 + rows.mean() + 3 * rows.std(), rtol=1e-5)
    np.testing.assert_allclose(layer.alpha, 5 + rows.mean() - 3 * rows.std(), rtol=1e-5)
    symmetric = LowBitQuantizer(4, "per_tensor")
    symmetric.adapt_range(rows)
    np.testing.assert_allclose(symmetric.beta, 3 * np.sqrt(np.square(rows).mean()), rtol=1e-5)


def test_crossed_range_comes_back(rows):
    layer = LowBitQuantizer(2, "per_tensor", symmetric=False)
    layer.build(rows.shape)
    layer.alpha.assign(0.5)
    layer.beta.assign(-0.5)
    with tf.GradientTape() as tape:
        value = tf.reduce_sum(tf.square(layer(rows) - rows))
    # Wider is better, for rows that reach past it: alpha, now the upper end, grows by descent.
    by_alpha, by_beta = tape.gradient(value, [layer.alpha, layer.beta])
    assert by_alpha < 0 < by_beta


@pytest.mark.parametrize("estimator", ["ste", "gste", "ewgs"])
@pytest.mark.parametrize("jit_compile", [False, True])
def test_estimators_differ_by_delta_only(estimator, jit_compile, rows):
    layer = LowBitQuantizer(1, "per_tensor", estimator=estimator, delta=1.2 if estimator == "ewgs" else 0.0)
    layer.build(rows.shape)
    if estimator == "gste":
        layer.delta.assign(0.8)

    def gradient(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            result = layer(x)
        return tape.gradient(result, x)

    got = tf.function(gradient, jit_compile=jit_compile)(tf.constant(rows))
    delta = {"ste": 0.0, "gste": 0.8, "ewgs": 1.2}[estimator]
    x_n = (rows + 1) / 2
    expected = np.where(np.abs(rows) <= 1, 1 + delta * (x_n - (x_n >= 0.5)), 0.0)
    np.testing.assert_allclose(got, expected, atol=1e-5)


def test_delta_follows_the_hessian_per_tensor(rows):
    layer = LowBitQuantizer(3, "per_tensor", initial_range=2.0)
    gradients = np.random.default_rng(1).normal(size=rows.shape).astype(np.float32)
    delta = layer.refresh_delta(rows, gradients, 3.0)
    # On the scale 0 .. 1, of a range 4 wide, a slope is 4 times as steep, a curvature 16 times.
    np.testing.assert_allclose(delta, (16 * 3.0 / rows.size) / (3 * 4 * gradients.std()), rtol=1e-5)
    assert float(layer.delta) == float(delta)


def test_delta_follows_the_hessian_per_row_over_touched_rows(rows):
    layer = LowBitQuantizer(1, "per_row")
    gradients = np.random.default_rng(1).normal(size=rows.shape).astype(np.float32)
    gradients[5:] = 0.0
    widths = 2 * np.abs(rows[:5]).mean(axis=1, keepdims=True)
    expected = gste_delta(3.0 * np.square(widths).mean(), tf.constant(gradients[:5] * widths), 1)
    np.testing.assert_allclose(layer.refresh_delta(rows, gradients, 3.0), expected, rtol=1e-5)


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("mode", ["per_row", "per_tensor"])
def test_refreshing_never_makes_nan(mode, jit_compile):
    layer = LowBitQuantizer(2, mode)
    layer.build([None, 3])
    refresh = tf.function(layer.refresh_delta, jit_compile=jit_compile)
    for rows in (np.zeros((1, 3)), np.ones((4, 3)), np.full((1, 3), 1e30)):
        for gradients in (np.zeros_like(rows), np.ones_like(rows), np.full_like(rows, np.nan)):
            for trace in (0.0, 1e30, np.nan):
                refresh(*(tf.constant(value, tf.float32) for value in (rows, gradients, trace)))
                assert 0.0 <= float(layer.delta) <= np.float32(max_delta(2))


def test_trains_a_table_to_rank_with_one_bit():
    """One-bit rows, trained by BPR with a refreshed delta, come to rank the items as asked."""
    rng = np.random.default_rng(0)
    users, items = (tf.Variable(rng.normal(size=(6, 16)).astype(np.float32)) for _ in range(2))
    quantizer = LowBitQuantizer(1)
    everyone, own = np.arange(6), np.arange(6)
    others = np.array([[j for j in range(6) if j != i] for i in range(6)])
    optimizer = tf_keras.optimizers.Adam(0.05)

    def scored():
        coded_users, coded_items = quantizer(users), quantizer(items)
        return coded_users, tf.gather(coded_items, own), tf.gather(coded_items, others), coded_items

    deltas = []
    first = None
    for _ in range(60):
        with tf.GradientTape() as tape:
            coded_users, positive, negative, coded_items = scored()
            value = BPR()(coded_users, positive, negative)
        by_code, *by_table = tape.gradient(value, [coded_items, users, items])
        _, of_items = BPR().hessian_traces(coded_users, positive, negative)
        deltas.append(float(quantizer.refresh_delta(items, by_code, of_items)))
        optimizer.apply_gradients(zip(by_table, [users, items]))
        first = float(value) if first is None else first
    assert float(value) < first / 4
    assert all(0 < delta <= max_delta(1) for delta in deltas)
    scores = quantizer(users).numpy() @ quantizer.encode(items.numpy()).dequantize().T
    np.testing.assert_array_equal(scores.argmax(axis=1), everyone)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_bits": 9}, "num_bits must be an integer from 1 to 8, got 9"),
        ({"mode": "per_column"}, "mode must be one of per_tensor, per_row, got 'per_column'"),
        (
            {"estimator": "unknown"},
            "expected one of ewgs, gste, lsq, reste, ste, stochastic",
        ),
        ({"estimator": "ewgs"}, "ewgs needs delta above 0"),
        ({"estimator": "ewgs", "num_bits": 1, "delta": 1.9}, "at most 1.8 at 1 bits.*got 1.9"),
        ({"estimator": "ste", "delta": 0.1}, "delta is a setting of the estimator ewgs, got 0.1 for ste"),
        ({"initial_range": 0.0}, "initial_range must be positive and finite, got 0.0"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        LowBitQuantizer(**settings)


def test_bad_calls(rows):
    with pytest.raises(ValueError, match="only mode per_tensor has a learned range"):
        LowBitQuantizer().adapt_range(rows)
    for useless in (np.zeros((2, 3)), np.array([[np.nan, 1.0]])):
        with pytest.raises(ValueError, match="rows of different finite values are needed to choose a range"):
            LowBitQuantizer(mode="per_tensor").adapt_range(useless)
    with pytest.raises(ValueError, match="only the estimator gste has a delta that follows the Hessian, this is ste"):
        LowBitQuantizer(estimator="ste").refresh_delta(rows, rows, 1.0)
