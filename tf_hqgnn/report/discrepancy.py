"""How far propagation moves embeddings from what was trained: LightGODE's embedding discrepancy, by depth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from tf_hqgnn.graph.propagation import sparse_product
from tf_hqgnn.ode.exact import series_coefficients
from tf_hqgnn.report.charts import COLORS, Series, line_chart
from tf_hqgnn.report.markup import figure, paragraph, plots, section
from tf_hqgnn.runs.run_directory import RunDirectory
from tf_hqgnn.types import Float32Array, Float64Array, FloatArray, InputError, IntArray

_HOPS = 4
_TIMES = 17
_LONGEST_TIME = 8.0
_TOLERANCE = 1e-4
_SAMPLED_NODES = 2000  # of the users and of the items
# The adjacency takes 100 bytes an edge while it is made: beyond this the diagnostics cost more than they tell.
MAX_EDGES = 20_000_000


@dataclass(frozen=True)
class Discrepancy:
    """Mean of 1 - cos(h, e) over sampled users (first) and over items, each with a training interaction.

    Args:
      hops: float64 [2, 5], of h = A^k e for k = 0..4.
      times: float64 [m], along the ODE; empty where the run has none.
      along_time: float64 [2, m], of the exact h(t).
      served: float64 [2], of the rows of this run, in full precision.
    """

    hops: Float64Array
    times: Float64Array
    along_time: Float64Array
    served: Float64Array


def measure(run: RunDirectory, trained: tuple[Float32Array, Float32Array]) -> Discrepancy:
    """Propagates the trained tables hop by hop, and keeps the rows of a sample.

    All h(t) = sum_k c_k(t) A^k e are made of the same few products, of which only sampled rows are kept.

    Args:
      run: its graph and its settings.
      trained: float32 [U, d] and [I, d], before propagation.

    Reference: LightGODE (arXiv 2407.18910) compares trained with convolved embeddings; the series is `ode.exact`'s.
    """
    graph, propagation = run.graph, run.config.propagation
    e = tf.constant(np.concatenate(trained), tf.float32)
    if propagation.normalize:
        e = tf.math.l2_normalize(e, axis=-1)
    rng = np.random.default_rng(run.config.seed)
    rows = [_draw(rng, graph.user_degree), _draw(rng, graph.item_degree)]
    nodes = np.concatenate([rows[0], graph.num_users + rows[1]])
    sizes = [len(rows[0])]
    times, coefficients = np.zeros(0), np.zeros((0, _HOPS + 1))
    adjacency = graph.normalized_adjacency()
    if propagation.make_solver().propagates and propagation.t1 > 0:
        times = np.linspace(0, min(2 * propagation.t1, _LONGEST_TIME), _TIMES)
        series = [series_coefficients(t, _TOLERANCE, adjacency.norm_bound) for t in times]
        width = max(_HOPS + 1, *(len(one) for one in series))
        coefficients = np.array([np.pad(one, (0, width - len(one))) for one in series])
    powers, power = [tf.gather(e, nodes).numpy()], e
    for _ in range(coefficients.shape[1] - 1):
        power = sparse_product(adjacency, power)
        powers.append(tf.gather(power, nodes).numpy())
    stacked = np.stack(powers).astype(np.float64)  # [K + 1, n, d]

    def distances(h: Float32Array) -> list[float]:
        """Of users and of items; NaN where there is none."""
        return [float(part.mean()) if len(part) else float("nan") for part in np.split(_distance(h, stacked[0]), sizes)]

    served = np.concatenate([run.user_embeddings[rows[0]], run.item_embeddings[rows[1]]])
    comparable = served.shape[1] == stacked.shape[2]
    return Discrepancy(
        hops=np.array([distances(h) for h in stacked[: _HOPS + 1]]).T,
        times=times,
        along_time=np.array([distances(np.tensordot(c, stacked, 1)) for c in coefficients]).reshape(-1, 2).T,
        served=np.array(distances(served.astype(np.float64)) if comparable else [np.nan, np.nan]),
    )


def discrepancy(run: RunDirectory, trained: tuple[Float32Array, Float32Array] | None) -> str:
    """The section; `trained` is what the best epoch's tables were, those of the run if None."""
    title = "Embedding discrepancy"
    if run.config.model.encoder_choice().mixes_dimensions:
        # Such as NGCF: A^k e isn't what it computes, nor is a distance to e defined.
        return ""
    if run.graph.num_edges > MAX_EDGES:
        return section(title, paragraph(f"Left out: the graph has more than {MAX_EDGES:,} interactions."))
    if trained is None:
        try:
            trained = run.tables().filled()
        except InputError:
            return section(title, paragraph("Left out: the run has no trained tables."))
    found, names = measure(run, trained), ("users", "items")
    label = "mean of 1 - cos(h, e)"
    series = [Series(who, range(_HOPS + 1), one, color) for who, one, color in zip(names, found.hops, COLORS)]
    svg = line_chart("hops", f"{label} by hops, users and items", ("hops k", label), series)
    figures = [figure(svg, "After k hops alone, h = A<sup>k</sup> e.")]
    propagation = run.config.propagation
    if len(found.times):
        series = [Series(who, found.times, one, color) for who, one, color in zip(names, found.along_time, COLORS)]
        if propagation.t1 <= found.times[-1]:
            stars = zip(names, found.served, COLORS)
            series += [Series(f"{who}, served", [propagation.t1], [float(y)], color, "*") for who, y, color in stars]
        svg = line_chart("time", f"{label} by time, users and items", ("time t", label), series)
        caption = (
            f"Along the ODE dh/dt = A h + e, solved exactly; the stars are the rows of this run "
            f"({propagation.solver}, t1 = {propagation.t1:g})."
        )
        figures.append(figure(svg, caption))
    note = (
        f"How far propagation turns embeddings away from the trained e: 0 is the same direction, 1 a right angle. "
        f"Means over up to {_SAMPLED_NODES:,} users and as many items with training interactions."
    )
    return section(title, paragraph(note, soft=True), plots(*figures))


def _draw(rng: np.random.Generator, degree: IntArray) -> IntArray:
    """Ascending rows with a neighbour, at most `_SAMPLED_NODES`: the others don't move."""
    rows = np.flatnonzero(degree)
    return rows if len(rows) <= _SAMPLED_NODES else np.sort(rng.choice(rows, _SAMPLED_NODES, replace=False))


def _distance(h: FloatArray, e: FloatArray) -> FloatArray:
    """1 - cos of each row; a row of zeros is at a right angle to everything."""
    norms = np.linalg.norm(h, axis=1) * np.linalg.norm(e, axis=1)
    distance: FloatArray = 1 - np.einsum("nd,nd->n", h, e) / np.where(norms > 0, norms, 1.0)
    return distance
