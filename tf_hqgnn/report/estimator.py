"""What the gradient estimator does while codes are trained, epoch by epoch."""

from __future__ import annotations

import numpy as np

from tf_hqgnn.report.charts import COLORS, Series, line_chart
from tf_hqgnn.report.markup import figure
from tf_hqgnn.types import Float64Array

_SIDES = ("users", "items")
_DELTA = "Delta of the gradient estimator: how much it scales gradients by rounding errors."
_FIGURES = (
    ("flipped", "share of bits", "The share of bits that flip in an epoch: codes that settle flip fewer and fewer."),
    (
        "gradient_change",
        "mean change of gradients",
        "How far the estimator bends gradients, relative to their size. Near 0 it trains as the straight-through "
        "estimator does.",
    ),
)


def estimator_figures(history: dict[str, Float64Array]) -> list[str]:
    """The figures of the columns that there are: flipped bits, the change of gradients, delta, and the trace.

    Args:
      history: the columns of the codes' history.csv, NaN where a cell is empty.
    """
    figures = []
    for name, label, caption in _FIGURES:
        series = _of_sides(history, name)
        if series:
            key = name.replace("_", "-")
            figures.append(figure(line_chart(key, caption, ("epoch", label), series, from_zero=True), caption))
    series = _of_sides(history, "delta")
    if series:
        for side, color in zip(_SIDES, COLORS):
            series += [_line(history, f"delta_{side}_{end}", None, color, ":") for end in ("low", "high")]
        drawn = [one for one in series if len(one.x)]
        spread = " Dotted: where 90% of its values lie." if len(drawn) > len(_of_sides(history, "delta")) else ""
        svg = line_chart("delta", "Delta of the gradient estimator by epoch", ("epoch", "delta"), drawn)
        figures.append(figure(svg, _DELTA + spread))
    return [*figures, *_traces(history)]


def _traces(history: dict[str, Float64Array]) -> list[str]:
    """A figure for each side: users' and items' curvatures may differ by orders of magnitude."""
    figures = []
    for side, color in zip(_SIDES, COLORS):
        trace = _line(history, f"trace_{side}", "trace", color, "-o")
        if not len(trace.x):
            continue
        error = _line(history, f"trace_{side}_error", None, color, ":")
        around = [
            Series(None, trace.x, np.asarray(trace.y) + sign * np.asarray(error.y), color, ":") for sign in (-1, 1)
        ]
        svg = line_chart(f"trace-{side}", f"Trace of the Hessian, {side}", ("epoch", "trace"), [trace, *around])
        caption = f"The trace of the Hessian of the loss at the codes of {side}. Dotted: its standard error."
        figures.append(figure(svg, caption))
    return figures


def _of_sides(history: dict[str, Float64Array], name: str) -> list[Series]:
    lines = [_line(history, f"{name}_{side}", side, color, "-o") for side, color in zip(_SIDES, COLORS)]
    return [line for line in lines if len(line.x)]


def _line(history: dict[str, Float64Array], name: str, label: str | None, color: str, style: str) -> Series:
    """The epochs that have a value."""
    values = history.get(name, np.zeros(0))
    there = np.isfinite(values)
    return Series(label, history["epoch"][: len(values)][there], values[there], color, style)
