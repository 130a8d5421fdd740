import numpy as np
import pytest
import tensorflow as tf
from closed_form import closed_form

from tf_hqgnn.graph.interaction_graph import InteractionGraph
from tf_hqgnn.ode.integrate import SOLVERS, integrate, solve
from tf_hqgnn.ode.solvers import get_solver
from tf_hqgnn.ode.vector_field import GraphVectorField
from tf_hqgnn.types import Interactions


def random_problem(seed=0, dtype=tf.float64):
    rng = np.random.default_rng(seed)
    log = Interactions(rng.integers(0, 4, 10).astype(np.int32), rng.integers(0, 5, 10).astype(np.int32))
    adjacency = InteractionGraph.from_interactions(log, 5, 6).normalized_adjacency(dtype=dtype)
    dense = tf.sparse.to_dense(adjacency.to_sparse_tensor()).numpy().astype(np.float64)
    return adjacency, dense, rng.normal(size=(11, 3))


@pytest.mark.parametrize("t1", [0.8, 1.8, 3.0])
def test_one_euler_step_is_the_published_lightgode(t1):
    adjacency, dense, e = random_problem()
    h = solve(adjacency, tf.constant(e), t1, "euler", num_steps=1)
    np.testing.assert_allclose(h, (1 + t1) * e + t1 * dense @ e, rtol=1e-12)


@pytest.mark.parametrize("name", ["euler", "heun", "rk4"])
def test_measured_order_is_the_stated_one(name):
    adjacency, dense, e = random_problem()
    exact = closed_form(dense, e, 1.5)
    solver = get_solver(name)
    steps = np.array([8, 16, 32, 64])
    field = GraphVectorField(adjacency, tf.constant(e))
    errors = [np.linalg.norm(integrate(field, tf.constant(e), 1.5, solver, int(n)) - exact) for n in steps]
    slope = -np.polyfit(np.log(steps), np.log(errors), 1)[0]
    assert slope == pytest.approx(solver.order, abs=0.15)


@pytest.mark.parametrize("name", ["euler", "heun", "rk4"])
def test_order_when_the_field_depends_on_time(name):
    # dh/dt = 2 t h: h(1) = e.
    solver, steps = get_solver(name), np.array([16, 32, 64])
    one = tf.ones([], tf.float64)
    errors = [abs(float(integrate(lambda t, h: 2 * t * h, one, 1.0, solver, int(n))) - np.e) for n in steps]
    assert -np.polyfit(np.log(steps), np.log(errors), 1)[0] == pytest.approx(solver.order, abs=0.2)


@pytest.mark.parametrize("name", ["euler", "heun", "rk4"])
def test_stated_number_of_evaluations(name):
    calls = []

    def field(t, h):
        calls.append(t)
        return h

    get_solver(name).step(field, tf.constant(0.0), tf.ones([2]), tf.constant(0.5))
    assert len(calls) == get_solver(name).num_evaluations


@pytest.mark.parametrize("dtype", [tf.float32, tf.float64])
@pytest.mark.parametrize(
    ("name", "num_steps", "tolerance"),
    [("euler", 1000, 6e-3), ("heun", 100, 6e-4), ("rk4", 40, 2e-6), ("exact", 1, 2e-6), ("adaptive", 1, 2e-5)],
)
@pytest.mark.parametrize("t1", [0.8, 3.0])
def test_against_the_matrix_exponential(name, num_steps, tolerance, t1, dtype):
    adjacency, dense, e = random_problem(seed=3, dtype=dtype)
    h = solve(adjacency, tf.constant(e, dtype), t1, name, num_steps, tolerance=1e-6)
    assert h.dtype == dtype
    exact = closed_form(dense, e, t1)
    assert np.linalg.norm(h - exact) / np.linalg.norm(exact) < tolerance


@pytest.mark.parametrize("solver", SOLVERS)
def test_gradient_through_every_solver(solver):
    """H = P(A) e with P(A) symmetric, so the gradient of <g, h> is P(A) g."""
    adjacency, _, e = random_problem(seed=4)
    e, g = tf.constant(e), tf.constant(np.random.default_rng(5).normal(size=e.shape))
    with tf.GradientTape() as tape:
        tape.watch(e)
        h = solve(adjacency, e, 1.2, solver, num_steps=2, tolerance=1e-7)
    np.testing.assert_allclose(tape.gradient(h, e, g), solve(adjacency, g, 1.2, solver, 2, 1e-7), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("solver", SOLVERS)
def test_time_zero_and_zero_embeddings(solver):
    adjacency, _, e = random_problem()
    np.testing.assert_array_equal(solve(adjacency, tf.constant(e), 0.0, solver), e)
    zeros = tf.zeros_like(tf.constant(e))
    np.testing.assert_array_equal(solve(adjacency, zeros, 1.0, solver), zeros)


def test_adaptive_is_as_exact_for_small_embeddings():
    adjacency, _, e = random_problem(dtype=tf.float32)
    e = tf.constant(e, tf.float32)
    small = solve(adjacency, 1e-4 * e, 1.8, "adaptive", tolerance=1e-5) * 1e4
    np.testing.assert_allclose(small, solve(adjacency, e, 1.8, "exact"), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_adaptive_refuses_what_it_could_not_end_with(bad):
    adjacency, _, e = random_problem()
    e[2, 1] = bad
    with pytest.raises(tf.errors.InvalidArgumentError, match="the embeddings hold NaN or infinity"):
        solve(adjacency, tf.constant(e), 1.0, "adaptive")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"solver": "leapfrog"}, "unknown solver 'leapfrog': expected one of none, euler, heun, rk4, exact, adaptive"),
        ({"t1": -1.0}, r"t1 must be a finite number from 0 on, got -1\.0"),
        ({"t1": float("nan")}, "t1 must be a finite number"),
        ({"num_steps": 0}, "num_steps must be at least 1, got 0"),
        ({"tolerance": 0.0}, r"tolerance must be a finite number above 0, got 0\.0"),
    ],
)
def test_settings_are_checked(settings, message):
    adjacency, _, e = random_problem()
    with pytest.raises(ValueError, match=message):
        solve(adjacency, tf.constant(e), **{"t1": 1.0, "solver": "euler", **settings})


def test_get_solver_and_integrate_check_too():
    with pytest.raises(ValueError, match="unknown solver 'exact': expected one of euler, heun, rk4"):
        get_solver("exact")
    with pytest.raises(ValueError, match="num_steps must be at least 1"):
        integrate(lambda t, h: h, tf.ones([1]), 1.0, get_solver("euler"), 0)
