"""Each rival's gradient against its paper's equation in NumPy, and against what the equation stands for."""

import numpy as np
import pytest
import tensorflow as tf

from tf_hqgnn.layers.low_bit_quantizer import LowBitQuantizer
from tf_hqgnn.quantization.estimators import quantize_unit
from tf_hqgnn.quantization.gradient_estimators.estimator import ESTIMATORS

RANDOM = np.random.default_rng(0)
X_N = np.concatenate([RANDOM.uniform(size=300), [0.0, 0.25, 0.5, 0.75, 1.0]]).astype(np.float32)
UPSTREAM = RANDOM.normal(size=X_N.size).astype(np.float32)


def slopes(name, x_n, num_bits, delta=0.0, upstream=None, compiled=False):
    """dL/dx_n over dL/dx_q."""
    x_n = tf.constant(x_n, tf.float32)
    upstream = tf.ones_like(x_n) if upstream is None else tf.constant(upstream, tf.float32)

    def run(x_n):
        with tf.GradientTape() as tape:
            tape.watch(x_n)
            x_q = quantize_unit(x_n, num_bits, delta, ESTIMATORS[name]())
        return tape.gradient(x_q, x_n, output_gradients=upstream) / upstream

    return (tf.function(run, jit_compile=True) if compiled else run)(x_n).numpy()


def levels(x_n, num_bits):
    steps = 2**num_bits - 1
    return np.floor(x_n.astype(np.float64) * steps + 0.5) / steps


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("num_bits", [1, 2, 4])
def test_ewgs_is_its_equation(num_bits, compiled):
    expected = 1 + 0.7 * np.sign(UPSTREAM) * (X_N - levels(X_N, num_bits))
    got = slopes("ewgs", X_N, num_bits, 0.7, UPSTREAM, compiled)
    np.testing.assert_allclose(got, expected, rtol=1e-4)


@pytest.mark.parametrize("name", ["ste", "lsq", "stochastic"])
def test_these_are_straight_through(name):
    np.testing.assert_allclose(slopes(name, X_N, 2, 0.0, UPSTREAM), 1.0, rtol=1e-5)


def reste_by_the_authors(z, o):
    """The derivative of sign(z) |z|^(1/o) as the released code has it: flat within 0.1 of the threshold."""
    outer = (1 / o) * np.abs(z) ** ((1 - o) / o)
    return np.where(np.abs(z) <= 0.1, 0.1 ** (1 / o) / 0.1, outer)


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("o", [1.0, 1.5, 3.0])
def test_reste_at_one_bit_is_the_derivative_of_the_root_of_the_sign(o, compiled):
    z = np.array([-1.0, -0.7, -0.2, -0.05, 0.03, 0.3, 0.9, 1.0])
    got = slopes("reste", (z + 1) / 2, 1, o - 1, compiled=compiled)
    np.testing.assert_allclose(got, reste_by_the_authors(z, o), rtol=1e-4)


def test_reste_outside_of_the_flat_part_is_the_slope_of_finite_differences():
    z, o, h = np.array([-0.9, -0.4, 0.15, 0.5, 0.99]), 3.0, 1e-6

    def root(z):
        return np.sign(z) * np.abs(z) ** (1 / o)

    np.testing.assert_allclose(slopes("reste", (z + 1) / 2, 1, 2.0), (root(z + h) - root(z - h)) / (2 * h), rtol=1e-4)


@pytest.mark.parametrize("num_bits", [1, 2, 3, 8])
@pytest.mark.parametrize("delta", [0.5, 2.0, 9.0])
def test_reste_climbs_a_whole_level_between_two_levels(num_bits, delta):
    """The mean slope is 1, whatever the power: what it stands for still ends at the next level."""
    middles = (np.arange(200_000) + 0.5) / 200_000
    assert slopes("reste", middles / (2**num_bits - 1), num_bits, delta).mean() == pytest.approx(1, rel=2e-3)


def test_restes_power_grows_from_that_of_ste():
    layer = LowBitQuantizer(1, estimator="reste")
    layer.build([None, 4])
    powers = []
    for progress in (0.0, 0.5, 1.0):
        layer.set_progress(progress)
        powers.append(1 + float(layer.delta))
    # The released code: o = 1 + (1 - cos(pi/2 epoch/epochs)) (o_end - 1).
    np.testing.assert_allclose(powers, [1.0, 1 + (1 - np.sqrt(0.5)) * 2, 3.0], rtol=1e-6)


@pytest.mark.parametrize("num_bits", [1, 2, 4])
def test_lsq_divides_the_gradient_of_the_range_only(num_bits):
    rows = RANDOM.normal(size=(6, 5)).astype(np.float32)
    found = {}
    for estimator in ("ste", "lsq"):
        layer = LowBitQuantizer(num_bits, "per_tensor", estimator=estimator)
        layer.adapt_range(rows / 2)
        x = tf.constant(rows)
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.reduce_sum(tf.sin(layer(x)))
        found[estimator] = tape.gradient(loss, [x, layer.beta])
    np.testing.assert_array_equal(found["lsq"][0], found["ste"][0])
    q_p = {1: 1, 2: 1, 4: 7}[num_bits]
    np.testing.assert_allclose(found["lsq"][1], found["ste"][1] / np.sqrt(30 * q_p), rtol=1e-5)


@pytest.mark.parametrize("num_bits", [1, 4])
def test_lsqs_gradient_of_the_step_is_its_equation(num_bits):
    """d(v_q)/ds is round(v/s) - v/s within the range and its end beyond, times 1 / sqrt(N Q)."""
    rows = RANDOM.normal(size=(6, 5)).astype(np.float32)
    layer = LowBitQuantizer(num_bits, "per_tensor", estimator="lsq", initial_range=1.2)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(layer(tf.constant(rows)))
    got = tape.gradient(loss, layer.beta)
    # Levels are odd multiples of half a step: -+ s/2 at 1 bit, and the range ends at (2^b - 1) / 2 steps.
    end = (2**num_bits - 1) / 2
    step = 1.2 / end
    units = rows.astype(np.float64) / step
    rounded = np.clip(np.floor(units + end + 0.5) - end, -end, end)
    by_step = np.where(np.abs(units) < end, rounded - units, np.sign(units) * end).sum()
    q_p = {1: 1, 4: 7}[num_bits]
    np.testing.assert_allclose(got, by_step / end / np.sqrt(30 * q_p), rtol=1e-4)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_stochastic_rounding_is_right_on_average_and_only_between_neighbours(jit_compile):
    layer = LowBitQuantizer(2, "per_tensor", estimator="stochastic", seed=3)
    x = np.linspace(-1, 1, 31).astype(np.float32)[np.newaxis]
    rounded = tf.function(lambda step: layer(tf.constant(x), step=step), jit_compile=jit_compile)
    drawn = np.stack([rounded(tf.constant(step)) for step in range(400)])
    gap = 2 / 3
    assert np.all(np.abs(drawn - x) < gap + 1e-5)
    # Five standard errors of a coin with the variance p (1 - p) at most.
    np.testing.assert_allclose(drawn.mean(axis=0), x, atol=5 * gap * 0.5 / np.sqrt(400))
    np.testing.assert_array_equal(drawn[:, 0, [0, -1]], np.tile([[-1.0, 1.0]], (400, 1)))


def test_stochastic_rounding_follows_from_seed_and_step_and_is_not_served():
    x = tf.constant(RANDOM.uniform(-1, 1, size=(20, 8)), tf.float32)
    first, again, other = (LowBitQuantizer(1, "per_tensor", estimator="stochastic", seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first(x, step=5), again(x, step=5))
    assert np.any(first(x, step=5) != first(x, step=6))
    assert np.any(first(x, step=5) != other(x, step=5))
    np.testing.assert_array_equal(first(x), np.where(x.numpy() >= 0, 1.0, -1.0))
    np.testing.assert_allclose(first.encode(x).dequantize(), first(x), rtol=1e-3)


@pytest.mark.parametrize("name", ESTIMATORS.names())
def test_no_estimator_turns_a_gradient_around(name):
    rule = ESTIMATORS[name]()
    for num_bits in range(1, 9):
        for sign in (-1.0, 1.0):
            slope = slopes(name, X_N, num_bits, rule.max_delta(num_bits) * 10, np.full_like(X_N, sign))
            assert np.isfinite(slope).all()
            assert slope.min() > 0
