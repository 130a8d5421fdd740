"""Products with a graph's adjacency, and solutions of dh/dt = A h + e, against NumPy in float64."""

from __future__ import annotations

import math

import numpy as np

from .draws import Draw, draw_rows
from .execution import Execution
from .wrong import compare

_COLUMNS = 3
_NODES = 100
_TOLERANCE = 1e-4


def check(execution: Execution) -> str:
    """See `checks.check`: some columns over all nodes; over a graph that the device drew, some nodes."""
    settings = execution.program.settings
    names = {array.name for array in execution.program.inputs}
    answer = next(iter(execution.answer().values()))
    if "eigenvector" in names:
        # A v = v, so that h' = h + v from h(0) = v has the solution (2 e^T - 1) v.
        growth = 2 * math.exp(settings["t1"]) - 1
        compare("the solution at an eigenvector", answer, growth * execution.input("eigenvector"), 1e-3)
        return "closed form at an eigenvector"
    rows, columns, factor = (execution.input(name) for name in ("rows", "columns", "factor"))
    h = next(array for array in execution.program.inputs if array.name == "h")
    draw = Draw.from_json(h.source["draw"])
    if execution.program.inputs[0].source["from"] == "group":
        nodes = np.random.default_rng(0).integers(0, len(factor), _NODES)
        expected = [_neighbours(node, rows, columns, factor, draw) for node in nodes]
        compare("the product", answer[nodes], np.array(expected), _TOLERANCE)
        return f"NumPy: {_NODES} nodes"
    chosen = np.linspace(0, settings["dim"] - 1, _COLUMNS).astype(int)
    e = draw_rows(draw, np.arange(len(factor)))[:, chosen].astype(np.float64)

    def product(values: np.ndarray) -> np.ndarray:
        scaled = factor[:, np.newaxis] * values
        sums = [np.bincount(rows, column[columns], minlength=len(factor)) for column in scaled.T]
        return np.stack(sums, axis=1) * factor[:, np.newaxis]

    expected = product(e) if settings["what"] == "product" else solution(product, e, settings["t1"])
    compare(f"the {settings['what']}", answer[:, chosen], expected, _TOLERANCE)
    return f"NumPy: {len(chosen)} columns, all nodes"


def solution(product, e: np.ndarray, t1: float) -> np.ndarray:
    """h(t1) by the power series of the two exponentials, far beyond what float64 tells apart."""
    term, total = e, np.zeros_like(e)
    for k in range(60):
        total = total + (t1**k / math.factorial(k) + t1 ** (k + 1) / math.factorial(k + 1)) * term
        term = product(term)
    return total


def _neighbours(node: int, rows: np.ndarray, columns: np.ndarray, factor: np.ndarray, draw: Draw) -> np.ndarray:
    """The product's row of a node, float64 [d]; entries are in the order of their rows."""
    # Of the same dtype: NumPy would make a copy of all rows.
    entries = slice(*np.searchsorted(rows, np.array([node, node + 1], rows.dtype)))
    neighbours = columns[entries]
    scaled = draw_rows(draw, neighbours).astype(np.float64) * factor[neighbours, np.newaxis]
    return scaled.sum(axis=0) * factor[node]
