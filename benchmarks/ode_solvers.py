"""Sparse products and time that each solver takes to a relative error of 1e-6: `python -m benchmarks.ode_solvers`."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import scipy.sparse
import scipy.sparse.linalg

from benchmarks.timing import SHARED_DATA, describe_run
from tf_hqgnn.data.interactions import read_interactions
from tf_hqgnn.graph.interaction_graph import InteractionGraph
from tf_hqgnn.graph.propagation import NormalizedAdjacency
from tf_hqgnn.ode.adaptive import solve_adaptive
from tf_hqgnn.ode.exact import series_coefficients
from tf_hqgnn.ode.integrate import solve
from tf_hqgnn.ode.solvers.runge_kutta import Euler, Heun, RungeKutta4

import tensorflow as tf  # isort: skip (after tf_hqgnn, which picks Keras 2)

_TARGET = 1e-6


def reference(adjacency: NormalizedAdjacency, e: np.ndarray, t1: float) -> np.ndarray:
    """SciPy's expm_multiply of d/dt (h, e) = [[A, I], [0, 0]] (h, e)."""
    sparse = adjacency.to_sparse_tensor()
    a = scipy.sparse.csr_matrix((sparse.values.numpy(), sparse.indices.numpy().T), shape=sparse.shape)
    system = scipy.sparse.bmat([[a, scipy.sparse.identity(len(e))], [None, scipy.sparse.csr_matrix(a.shape)]], "csr")
    return scipy.sparse.linalg.expm_multiply(t1 * system, np.concatenate([e, e]), traceA=0.0)[: len(e)]


def fewest_steps(error: Callable[[int], float]) -> int:
    """The smallest number of steps whose error is within the target, by doubling and bisection."""
    high = 1
    while error(high) > _TARGET:
        high *= 2
        if high > 2**12:
            return 0
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if error(middle) > _TARGET else (low, middle)
    return high


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", nargs="?", default=str(SHARED_DATA / "beauty" / "interactions.csv"))
    parser.add_argument("--embedding-dim", type=int, default=64)
    parser.add_argument("--t1", type=float, nargs="+", default=[0.8, 1.8, 3.0])
    arguments = parser.parse_args()
    print(describe_run("benchmarks.ode_solvers"))
    table = read_interactions(arguments.data)
    graph = InteractionGraph.from_interactions(table.interactions, len(table.user_ids), len(table.item_ids))
    e = np.random.default_rng(0).normal(size=(graph.num_nodes, arguments.embedding_dim))
    single, double = graph.normalized_adjacency(), graph.normalized_adjacency(dtype=tf.float64)
    # Errors are measured in float64 on some columns (the equation treats columns alike), time in float32 on all.
    few = e[:, :4]
    table32 = tf.constant(e, tf.float32)
    print(f"{graph.num_nodes:,} nodes, {graph.num_edges:,} edges; time is float32 with {e.shape[1]} dimensions")
    print(f"{'T':>4} {'solver':10}{'steps':>6}{'products':>10}{'error':>10}{'ms':>9}{'ms/exact':>10}")
    for t1 in arguments.t1:
        exact = reference(double, few, t1)

        def error(h: tf.Tensor, exact: np.ndarray = exact) -> float:
            return float(np.linalg.norm(h - exact) / np.linalg.norm(exact))

        rows = []
        count = len(series_coefficients(t1, _TARGET)) - 1
        rows.append(("exact", 0, count, solve(double, tf.constant(few), t1, "exact", 1, _TARGET), _TARGET))
        tolerance, adaptive = _TARGET, solve_adaptive(double, tf.constant(few), t1, _TARGET)
        while error(adaptive.h) > _TARGET:
            tolerance /= 2
            adaptive = solve_adaptive(double, tf.constant(few), t1, tolerance)
        rows.append(("adaptive", 0, int(adaptive.num_evaluations), adaptive.h, tolerance))
        for solver in (RungeKutta4, Heun, Euler):
            name = solver.name
            steps = fewest_steps(lambda n, name=name, t1=t1: error(solve(double, tf.constant(few), t1, name, n)))
            h = solve(double, tf.constant(few), t1, name, steps) if steps else None
            rows.append((name, steps, steps * solver.num_evaluations, h, _TARGET))
        of_exact = 0.0
        for name, steps, products, h, tolerance in rows:
            if h is None:
                print(f"{t1:4} {name:10}{'more than 4096 steps':>40}")
                continue
            times = []
            for _ in range(3):
                start = time.perf_counter()
                solve(single, table32, t1, name, max(steps, 1), tolerance).numpy()
                times.append(time.perf_counter() - start)
            milliseconds = min(times) * 1e3
            of_exact = of_exact or milliseconds  # the first row
            print(
                f"{t1:4} {name:10}{steps or '':>6}{products:10}{error(h):10.1e}{milliseconds:9.1f}"
                f"{milliseconds / of_exact:9.1f}x"
            )


if __name__ == "__main__":
    main()
