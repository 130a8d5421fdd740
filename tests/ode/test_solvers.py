import numpy as np
import pytest
import tensorflow as tf
from closed_form import closed_form

from tf_hqgnn.config import Config
from tf_hqgnn.graph.interaction_graph import InteractionGraph
from tf_hqgnn.ode.integrate import integrate, solve
from tf_hqgnn.ode.solvers.runge_kutta import Euler, RungeKutta
from tf_hqgnn.ode.solvers.solver import SOLVERS, Solver
from tf_hqgnn.ode.vector_field import GraphVectorField
from tf_hqgnn.training.propagation import propagate_embeddings
from tf_hqgnn.types import InputError, Interactions

RUNGE_KUTTA = [name for name in SOLVERS.names() if issubclass(SOLVERS[name], RungeKutta)]


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


@pytest.mark.parametrize("name", RUNGE_KUTTA)
def test_measured_order_is_the_stated_one(name):
    adjacency, dense, e = random_problem()
    exact = closed_form(dense, e, 1.5)
    solver = SOLVERS[name]()
    steps = np.array([8, 16, 32, 64])
    field = GraphVectorField(adjacency, tf.constant(e))
    errors = [np.linalg.norm(integrate(field, tf.constant(e), 1.5, solver, int(n)) - exact) for n in steps]
    slope = -np.polyfit(np.log(steps), np.log(errors), 1)[0]
    assert slope == pytest.approx(solver.order, abs=0.15)


@pytest.mark.parametrize("name", RUNGE_KUTTA)
def test_order_when_the_field_depends_on_time(name):
    # dh/dt = 2 t h: h(1) = e.
    solver, steps = SOLVERS[name](), np.array([16, 32, 64])
    one = tf.ones([], tf.float64)
    errors = [abs(float(integrate(lambda t, h: 2 * t * h, one, 1.0, solver, int(n))) - np.e) for n in steps]
    assert -np.polyfit(np.log(steps), np.log(errors), 1)[0] == pytest.approx(solver.order, abs=0.2)


@pytest.mark.parametrize("name", RUNGE_KUTTA)
def test_stated_number_of_evaluations(name):
    calls = []

    def field(t, h):
        calls.append(t)
        return h

    SOLVERS[name]().step(field, tf.constant(0.0), tf.ones([2]), tf.constant(0.5))
    assert len(calls) == SOLVERS[name]().num_evaluations


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


@pytest.mark.parametrize("solver", SOLVERS.names())
def test_gradient_through_every_solver(solver):
    """H = P(A) e with P(A) symmetric, so the gradient of <g, h> is P(A) g."""
    adjacency, _, e = random_problem(seed=4)
    e, g = tf.constant(e), tf.constant(np.random.default_rng(5).normal(size=e.shape))
    with tf.GradientTape() as tape:
        tape.watch(e)
        h = solve(adjacency, e, 1.2, solver, num_steps=2, tolerance=1e-7)
    np.testing.assert_allclose(tape.gradient(h, e, g), solve(adjacency, g, 1.2, solver, 2, 1e-7), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("solver", SOLVERS.names())
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
        ({"solver": "leapfrog"}, "unknown solver 'leapfrog': expected one of adaptive, euler, exact, heun, none, rk4"),
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


def test_integrate_checks_too():
    with pytest.raises(ValueError, match="num_steps must be at least 1"):
        integrate(lambda _t, h: h, tf.ones([1]), 1.0, Euler(), 0)


@pytest.mark.parametrize("name", SOLVERS.names())
def test_the_series_is_the_solution(name):
    adjacency, dense, e = random_problem()
    solver = SOLVERS[name]()
    if not solver.has_series:
        with pytest.raises(ValueError, match=f"{name} has no series"):
            solver.series(0.7, 2, 1e-9)
        return
    series = sum(c * np.linalg.matrix_power(dense, k) @ e for k, c in enumerate(solver.series(0.7, 2, 1e-9)))
    np.testing.assert_allclose(solver.solve(adjacency, tf.constant(e), 0.7, 2, 1e-9), series, rtol=1e-6, atol=1e-9)


def test_solvers_describe_themselves():
    texts = {name: SOLVERS[name]().describe(0.25, 1) for name in ("none", "euler", "exact")}
    assert texts == {"none": "none", "euler": "euler to t1 = 0.25 in 1 step", "exact": "exact to t1 = 0.25"}
    assert SOLVERS["rk4"]().describe(1.0, 3) == "rk4 to t1 = 1 in 3 steps"
    assert [name for name in SOLVERS.names() if not SOLVERS[name].propagates] == ["none"]


def test_a_new_solver_is_a_setting_and_solves():
    """A registered class is all it takes: no other module compares names."""

    @SOLVERS.register("twice")
    class Twice(Solver):
        def solve(self, adjacency, e, t1, num_steps, tolerance):
            return 2.0 * e

        def series(self, t1, num_steps, tolerance):
            return np.array([2.0])

    try:
        config = Config.from_yaml("propagation: {solver: twice, t1: 1.0, normalize: false}").propagation
        log = Interactions(np.array([0, 1], np.int32), np.array([0, 1], np.int32))
        graph = InteractionGraph.from_interactions(log, 2, 2)
        table = np.ones((2, 3), np.float32)
        for rows in propagate_embeddings(graph, table, table, config):
            np.testing.assert_array_equal(rows, 2 * table)
    finally:
        SOLVERS.remove("twice")
    with pytest.raises(InputError, match=r"propagation\.solver: expected one of adaptive, .*got 'twice'"):
        Config.from_yaml("propagation: {solver: twice}")
