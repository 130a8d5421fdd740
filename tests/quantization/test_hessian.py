import doctest

import numpy as np
import pytest
import tensorflow as tf

from tf_hqgnn.losses.bpr import BPR
from tf_hqgnn.quantization import hessian
from tf_hqgnn.quantization.estimators import max_delta
from tf_hqgnn.quantization.hessian import (
    gste_delta,
    hessian_vector_product,
    hutchinson_trace,
    touched_rows,
)

NUM_USERS = 3
USER_INDEX, ITEM_INDEX, NEGATIVE_INDEX = [0, 1, 0, 2], [3, 4, 4, 5], [[4, 5], [5, 3], [6, 6], [3, 4]]


def test_doctests():
    results = doctest.testmod(hessian)
    assert results.attempted
    assert not results.failed


@pytest.fixture
def table():
    """Three users and five items (the last in no triple) of two dimensions, scored in triples that share rows."""
    return tf.constant(np.random.default_rng(0).normal(size=(8, 2)).astype(np.float32))


def triples(table):
    return tf.gather(table, USER_INDEX), tf.gather(table, ITEM_INDEX), tf.gather(table, NEGATIVE_INDEX)


def loss(table):
    return BPR()(*triples(table))


def bpr_hessian_trace(users, items, negatives):
    """Both parts together."""
    of_users, of_items = BPR().hessian_traces(users, items, negatives)
    return of_users + of_items


def explicit_hessian(loss, x):
    with tf.GradientTape(persistent=True) as outer:
        outer.watch(x)
        with tf.GradientTape() as inner:
            inner.watch(x)
            value = loss(x)
        gradient = tf.convert_to_tensor(inner.gradient(value, x))
    size = int(tf.size(x))
    return outer.jacobian(gradient, x, experimental_use_pfor=False).numpy().reshape(size, size)


def test_closed_form_is_the_trace_of_the_explicit_hessian(table):
    matrix = explicit_hessian(loss, table)
    of_users, of_items = BPR().hessian_traces(*triples(table))
    diagonal = np.diag(matrix).reshape(8, 2)
    np.testing.assert_allclose(of_users, diagonal[:NUM_USERS].sum(), rtol=1e-5)
    np.testing.assert_allclose(of_items, diagonal[NUM_USERS:].sum(), rtol=1e-5)
    np.testing.assert_allclose(bpr_hessian_trace(*triples(table)), np.trace(matrix), rtol=1e-5)


def test_explicit_hessian_is_that_of_finite_differences(table):
    """The oracle's oracle: second differences of the loss in float64, without any gradient."""
    x, h = table.numpy().astype(np.float64), 1e-3

    def value(x):
        users, items, negatives = x[USER_INDEX], x[ITEM_INDEX], x[NEGATIVE_INDEX]
        margins = np.einsum("bd,bmd->bm", users, items[:, None] - negatives)
        return np.log1p(np.exp(-margins)).mean()

    trace = 0.0
    for place in np.ndindex(*x.shape):
        step = np.zeros_like(x)
        step[place] = h
        trace += (value(x + step) - 2 * value(x) + value(x - step)) / h**2
    np.testing.assert_allclose(bpr_hessian_trace(*triples(table)), trace, rtol=1e-4)


def test_no_triples():
    empty = tf.zeros([0, 4])
    assert float(bpr_hessian_trace(empty, empty, tf.zeros([0, 1, 4]))) == 0.0


def test_scores_beyond_the_sigmoid_are_flat():
    far = tf.constant([[300.0, 300.0]])
    assert float(bpr_hessian_trace(far, far, -far[:, tf.newaxis])) == 0.0


def test_hessian_vector_product(table):
    v = np.random.default_rng(1).normal(size=(8, 2)).astype(np.float32)
    expected = explicit_hessian(loss, table) @ v.ravel()
    got = hessian_vector_product(loss, table, tf.constant(v))
    np.testing.assert_allclose(got.numpy().ravel(), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("how", ["eager", "graph", "xla"])
def test_hutchinson_agrees_with_the_closed_form(table, how):
    def estimate(table, seed):
        return hutchinson_trace(loss, table, num_probes=probes, tolerance=0.0, seed=seed)

    # Eagerly, a probe takes 20 ms.
    probes = 100 if how == "eager" else 400
    if how != "eager":
        estimate = tf.function(estimate, jit_compile=how == "xla")
    got = estimate(table, tf.constant(3))
    assert int(got.num_probes) == probes
    error = float(got.trace) - float(bpr_hessian_trace(*triples(table)))
    assert abs(error) < 3 * float(got.standard_error)
    # The variance of v'Hv is twice the squared off-diagonal elements.
    matrix = explicit_hessian(loss, table)
    variance = 2 * (np.square(matrix).sum() - np.square(np.diag(matrix)).sum())
    np.testing.assert_allclose(got.standard_error, np.sqrt(variance / probes), rtol=0.3)


def test_unbiased_over_seeds(table):
    estimate = tf.function(lambda seed: hutchinson_trace(loss, table, num_probes=2, seed=seed).trace)
    values = np.array([estimate(tf.constant(seed)) for seed in range(300)])
    error = values.mean() - float(bpr_hessian_trace(*triples(table)))
    assert abs(error) < 3 * values.std() / np.sqrt(300)
    assert values.std() > 0


def coupled(x):
    """A Hessian of trace -8 with off-diagonal elements of +-0.05."""
    flat = tf.reshape(x, [-1])
    return -tf.reduce_sum(flat**2) + 0.025 * tf.square(tf.reduce_sum(flat)) - 0.025 * tf.reduce_sum(flat**2)


def test_stops_by_the_absolute_value_of_a_negative_trace():
    x = tf.zeros([2, 2])
    got = hutchinson_trace(coupled, x, num_probes=1000, tolerance=0.005)
    assert 2 < int(got.num_probes) < 1000
    assert float(got.standard_error) <= 0.005 * abs(float(got.trace))
    assert abs(float(got.trace) + 8.0) < 4 * float(got.standard_error)
    finer = hutchinson_trace(coupled, x, num_probes=1000, tolerance=0.0025)
    assert int(finer.num_probes) > int(got.num_probes)


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("constant", [lambda x: tf.reduce_sum(2.0 * x), lambda _x: tf.constant(1.0)])
def test_no_curvature(constant, compiled):
    got = tf.function(lambda x: hutchinson_trace(constant, x), jit_compile=compiled)(tf.ones([3, 2]))
    assert [float(part) for part in got] == [0.0, 0.0, 2.0]


def test_rows_to_sum_over(table):
    mask = np.arange(8) < NUM_USERS
    summed = tf.function(lambda mask: hutchinson_trace(loss, table, num_probes=300, tolerance=0.0, row_mask=mask))
    got = summed(tf.constant(mask))
    of_users, _ = BPR().hessian_traces(*triples(table))
    assert abs(float(got.trace - of_users)) < 3 * float(got.standard_error)
    nothing = summed(tf.zeros([8], tf.bool))
    assert float(nothing.trace) == 0.0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_probes": 1}, "num_probes must be at least 2.*got 1"),
        ({"tolerance": -0.1}, "tolerance must be >= 0, got -0.1"),
        ({"tolerance": float("nan")}, "tolerance must be >= 0, got nan"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        hutchinson_trace(tf.reduce_sum, tf.zeros([1, 1]), **settings)


def test_touched_rows(table):
    with tf.GradientTape() as tape:
        tape.watch(table)
        value = loss(table)
    assert touched_rows(tape.gradient(value, table)).numpy().tolist() == [True] * 7 + [False]


def test_delta_by_its_formula():
    g = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)
    expected = (5.0 / 80) / (3 * g.std())
    np.testing.assert_allclose(gste_delta(5.0, tf.constant(g), 4), expected, rtol=1e-5)
    untouched = np.concatenate([g, np.zeros((1000, 4), np.float32)])
    np.testing.assert_allclose(gste_delta(5.0, tf.constant(untouched), 4), expected, rtol=1e-5)
    assert float(gste_delta(-5.0, tf.constant(g), 4)) == 0.0


@pytest.mark.parametrize("factor", [1e-30, 1e30])
def test_delta_of_extreme_gradients(factor):
    g = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)
    np.testing.assert_allclose(
        gste_delta(np.float32(5 * factor), tf.constant(g * np.float32(factor)), 4), gste_delta(5.0, g, 4), rtol=1e-4
    )


@tf.function(jit_compile=True, reduce_retracing=True)
def compiled_delta(trace, gradients):
    return gste_delta(trace, gradients, num_bits=2)


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize(
    "gradients",
    [
        np.zeros((3, 2)),
        np.ones((3, 2)),
        np.ones((1, 1)),
        np.full((1, 2), 1e-45),
        np.array([[3e38, -3e38], [0, 0]]),
        np.array([[1e-38, 0.0]]),
        np.array([[np.inf, 1.0]]),
        np.array([[np.nan, 1.0]]),
        np.zeros((0, 2)),
        np.zeros((2, 0)),
    ],
)
def test_no_input_makes_delta_nan_or_unbounded(gradients, compiled):
    for trace in (0.0, 1.0, -1.0, 1e-45, 3e38, np.inf, -np.inf, np.nan):
        arguments = tf.constant(trace, tf.float32), tf.constant(gradients, tf.float32)
        delta = float(compiled_delta(*arguments) if compiled else gste_delta(*arguments, num_bits=2))
        assert 0.0 <= delta <= np.float32(max_delta(2))
        if not np.isfinite(trace) or not gradients.any() or not np.isfinite(gradients).all():
            assert delta == 0.0


def test_gradients_that_do_not_vary_give_the_bound():
    assert float(gste_delta(1.0, tf.ones([3, 2]), 1)) == pytest.approx(max_delta(1))
