import doctest

import numpy as np
import pytest
import tensorflow as tf

from tf_hqgnn.quantization import estimators
from tf_hqgnn.quantization.estimators import bounded_delta, max_delta, quantize_range, quantize_unit
from tf_hqgnn.quantization.ranges import row_ranges


def test_doctests():
    results = doctest.testmod(estimators)
    assert results.attempted
    assert not results.failed


def gradient_of(x_n, upstream, num_bits, delta, *, compiled=False):
    x_n, upstream = tf.constant(x_n), tf.constant(upstream)

    def run(x_n, upstream):
        with tf.GradientTape() as tape:
            tape.watch(x_n)
            x_q = quantize_unit(x_n, num_bits, delta)
        return tape.gradient(x_q, x_n, output_gradients=upstream)

    return (tf.function(run, jit_compile=True) if compiled else run)(x_n, upstream).numpy()


@pytest.mark.parametrize("compiled", [False, True])
def test_gradient_by_hand_for_each_sign(compiled):
    cases = [
        (0.7, 2.0, 2.0 * (1 + 0.5 * (0.7 - 1.0))),  # pushed down, away from its level: less
        (0.7, -2.0, -2.0 * (1 + 0.5 * (1.0 - 0.7))),  # pushed up, towards its level: more
        (0.2, 2.0, 2.0 * (1 + 0.5 * 0.2)),
        (0.2, -2.0, -2.0 * (1 - 0.5 * 0.2)),
        (0.2, 0.0, 0.0),
        (1.0, 3.0, 3.0),  # on its level: no error to correct
        (0.0, -3.0, -3.0),
    ]
    x_n, upstream, expected = map(list, zip(*cases))
    got = gradient_of(x_n, upstream, num_bits=1, delta=0.5, compiled=compiled)
    np.testing.assert_allclose(got, expected, rtol=1e-6)


def test_delta_zero_is_straight_through():
    upstream = np.random.default_rng(0).normal(size=50).astype(np.float32)
    x_n = np.linspace(0, 1, 50, dtype=np.float32)
    np.testing.assert_array_equal(gradient_of(x_n, upstream, 3, 0.0), upstream)


def test_delta_per_row():
    x_n, upstream = np.full((2, 1), 0.25, np.float32), np.ones((2, 1), np.float32)
    got = gradient_of(x_n, upstream, 1, tf.constant([[0.0], [1.0]]))
    np.testing.assert_allclose(got, [[1.0], [1.25]])


@pytest.mark.parametrize("num_bits", range(1, 9))
@pytest.mark.parametrize("delta", [1e30, float("inf"), float("nan"), -5.0])
def test_no_delta_turns_a_gradient_around(num_bits, delta):
    x_n = np.linspace(0, 1, 2001, dtype=np.float32)
    for sign in (1.0, -1.0):
        ratio = gradient_of(x_n, np.full_like(x_n, sign), num_bits, delta) * sign
        assert ratio.min() >= 0.099
        assert ratio.max() <= 1.901
        if delta != 1e30:
            np.testing.assert_array_equal(ratio, 1.0)


def test_bound_on_delta():
    assert float(bounded_delta(1e9, 3)) == pytest.approx(max_delta(3))
    assert float(bounded_delta(0.25, 3)) == 0.25
    with pytest.raises(ValueError, match="num_bits must be an integer from 1 to 8, got 0"):
        max_delta(0)


@pytest.mark.parametrize("num_bits", range(1, 9))
def test_forward_is_the_nearest_level(num_bits):
    x_n = np.random.default_rng(0).uniform(size=500).astype(np.float32)
    levels = np.arange(2**num_bits) / (2**num_bits - 1)
    nearest = levels[np.abs(x_n[:, None] - levels).argmin(axis=1)]
    np.testing.assert_allclose(quantize_unit(tf.constant(x_n), num_bits), nearest, atol=1e-6)


def test_gradients_of_the_range_by_hand():
    # Levels 0, 1, 2, 3: below, within (rounded down by .2, up by .4), above.
    x, upstream = tf.constant([[-1.0, 1.2, 1.6, 5.0]]), tf.constant([[1.0, 10.0, 100.0, 1000.0]])
    lower, upper = tf.Variable(0.0), tf.Variable(3.0)
    with tf.GradientTape() as tape:
        tape.watch(x)
        result = quantize_range(x, lower, upper, num_bits=2)
    by_x, by_lower, by_upper = tape.gradient(result, [x, lower, upper], output_gradients=upstream)
    np.testing.assert_allclose(result, [[0, 1, 2, 3]], atol=1e-6)
    np.testing.assert_allclose(by_x, [[0, 10, 100, 0]], rtol=1e-5)
    # With x_n = x / 3 fixed, the result is lower + (upper - lower) x_q; x_n moves by -(1 - x_n) / 3 and -x_n / 3.
    x_n, x_q = np.array([0, 0.4, 1.6 / 3, 1]), np.array([0, 1 / 3, 2 / 3, 1])
    within = np.array([0, 1, 1, 0])
    np.testing.assert_allclose(by_lower, ((1 - x_q - within * (1 - x_n)) * upstream.numpy()).sum(), rtol=1e-4)
    np.testing.assert_allclose(by_upper, ((x_q - within * x_n) * upstream.numpy()).sum(), rtol=1e-4)


@pytest.mark.parametrize("symmetric", [True, False])
def test_eight_bits_keep_half_a_level(symmetric):
    rows = np.random.default_rng(0).normal(size=(200, 64)).astype(np.float32)
    lower, upper = row_ranges(tf.constant(rows), 8, symmetric)
    error = np.abs(quantize_range(tf.constant(rows), lower, upper, 8) - rows)
    assert np.all(error <= (upper - lower) / 255 / 2 + 1e-6)


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("num_bits", [1, 2, 8])
@pytest.mark.parametrize("symmetric", [True, False])
def test_degenerate_rows_have_finite_values_and_gradients(num_bits, symmetric, compiled):
    rows = np.array([[0, 0, 0], [2, 2, 2], [-1e-30, 1e-30, 0], [1e15, -1e15, 1], [0, 0, -3]], np.float32)

    def run(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            result = quantize_range(x, *row_ranges(x, num_bits, symmetric), num_bits, 0.5)
        return result, tape.gradient(result, x)

    result, gradient = (tf.function(run, jit_compile=True) if compiled else run)(tf.constant(rows))
    assert np.isfinite(result).all()
    assert np.isfinite(gradient).all()
    np.testing.assert_array_equal(result[0], np.zeros(3))
    if not symmetric:
        np.testing.assert_allclose(result[1], np.full(3, 2.0))
