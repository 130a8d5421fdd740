import math
from fractions import Fraction

import numpy as np
import pytest
import tensorflow as tf
from closed_form import closed_form
from hypothesis import given, settings
from hypothesis import strategies as st

from tf_hqgnn.graph.interaction_graph import InteractionGraph
from tf_hqgnn.ode.exact import series_coefficients, solve_exact
from tf_hqgnn.types import Interactions


def tail(t1, norm_bound, first, last=200):
    """sum_(first <= k < last) c_k L^k in rational arithmetic, without any rounding."""
    t, bound = Fraction(t1), Fraction(norm_bound)
    terms = range(first, last)
    return sum((t**k / math.factorial(k) + t ** (k + 1) / math.factorial(k + 1)) * bound**k for k in terms)


@pytest.mark.parametrize("norm_bound", [1.0, 2.5, 0.5])
@pytest.mark.parametrize("tolerance", [1e-1, 1e-3, 1e-6, 1e-12])
@pytest.mark.parametrize("t1", [0.0, 0.01, 0.8, 1.8, 3.0, 10.0])
def test_fewest_terms_that_the_tail_allows(t1, tolerance, norm_bound):
    coefficients = series_coefficients(t1, tolerance, norm_bound)
    expected = [float(Fraction(t1) ** k / math.factorial(k) + Fraction(t1) ** (k + 1) / math.factorial(k + 1))
                for k in range(len(coefficients))]  # fmt: skip
    np.testing.assert_allclose(coefficients, expected, rtol=1e-12)
    assert tail(t1, norm_bound, len(coefficients)) <= tolerance
    assert len(coefficients) == 1 or tail(t1, norm_bound, len(coefficients) - 1) > tolerance


def test_hop_weights_of_the_paper_notes():
    coefficients = series_coefficients(3.0, 1e-6)
    np.testing.assert_allclose(coefficients[:6] / coefficients[0], [1, 1.88, 2.25, 1.97, 1.35, 0.76], atol=0.006)


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_bound_is_never_violated(data):
    num_users, num_items = data.draw(st.integers(1, 6)), data.draw(st.integers(1, 6))
    cell = st.tuples(st.integers(0, num_users - 1), st.integers(0, num_items - 1))
    log = data.draw(st.lists(cell, max_size=20))
    users, items = (np.array([pair[n] for pair in log], np.int32) for n in (0, 1))
    t1 = data.draw(st.floats(0, 5))
    tolerance = data.draw(st.sampled_from([1e-1, 1e-3, 1e-6, 1e-9]))
    exponent = data.draw(st.sampled_from([0.0, 0.25, 0.5, 0.8]))
    graph = InteractionGraph.from_interactions(Interactions(users, items), num_users, num_items)
    adjacency = graph.normalized_adjacency(exponent, tf.float64)
    dense = tf.sparse.to_dense(adjacency.to_sparse_tensor()).numpy()
    e = np.random.default_rng(data.draw(st.integers(0, 99))).normal(size=(graph.num_nodes, 2))
    exact = closed_form(dense, e, t1)
    error = np.linalg.norm(solve_exact(adjacency, tf.constant(e), t1, tolerance) - exact)
    # float64's rounding, of both sides, grows with the solution.
    assert error <= tolerance * np.linalg.norm(e) + 1e-12 * np.linalg.norm(exact)


@pytest.mark.parametrize("tolerance", [1e-2, 1e-5])
def test_bound_is_reached_by_the_first_eigenvector(tolerance):
    rng = np.random.default_rng(0)
    log = Interactions(rng.integers(0, 4, 12).astype(np.int32), rng.integers(0, 5, 12).astype(np.int32))
    graph = InteractionGraph.from_interactions(log, 4, 5)
    adjacency = graph.normalized_adjacency(dtype=tf.float64)
    e = np.sqrt(np.concatenate([graph.user_degree, graph.item_degree]))[:, None]
    error = solve_exact(adjacency, tf.constant(e), 1.8, tolerance) - closed_form(
        tf.sparse.to_dense(adjacency.to_sparse_tensor()).numpy(), e, 1.8
    )
    bound = float(tail(1.8, 1, len(series_coefficients(1.8, tolerance))))
    assert np.linalg.norm(error) / np.linalg.norm(e) == pytest.approx(bound, rel=1e-6)


@pytest.mark.parametrize("t1", [0.8, 1.8, 3.0])
def test_float32_at_one_in_a_million(t1):
    rng = np.random.default_rng(1)
    log = Interactions(rng.integers(0, 40, 400).astype(np.int32), rng.integers(0, 50, 400).astype(np.int32))
    graph = InteractionGraph.from_interactions(log, 40, 50)
    e = rng.normal(size=(90, 8))
    exact = closed_form(
        tf.sparse.to_dense(graph.normalized_adjacency(dtype=tf.float64).to_sparse_tensor()).numpy(), e, t1
    )
    h = solve_exact(graph.normalized_adjacency(), tf.constant(e, tf.float32), t1, tolerance=1e-6)
    assert h.dtype == tf.float32
    assert np.linalg.norm(h - exact) / np.linalg.norm(exact) < 1e-6
    # Asking for more than float32 can hold only adds terms.
    finer = solve_exact(graph.normalized_adjacency(), tf.constant(e, tf.float32), t1, tolerance=1e-30)
    assert np.linalg.norm(finer - exact) / np.linalg.norm(exact) < 1e-6


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((-1.0, 1e-6), r"t1 must be a finite number from 0 on, got -1\.0"),
        ((float("inf"), 1e-6), "t1 must be a finite number from 0 on, got inf"),
        ((1.0, 0.0), r"tolerance must be a finite number above 0, got 0\.0"),
        ((1.0, float("nan")), "tolerance must be a finite number above 0, got nan"),
        ((51.0, 1e-6), "t1 times the norm bound of the adjacency is 51, at most 50 can be solved; lower t1"),
        ((1.0, 1e-6, 100.0), "t1 times the norm bound of the adjacency is 100"),
    ],
)
def test_errors(arguments, message):
    with pytest.raises(ValueError, match=message):
        series_coefficients(*arguments)
