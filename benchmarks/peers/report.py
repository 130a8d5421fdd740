"""From peers.csv to a table for each data set and a plot."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

matplotlib.use("agg")
import matplotlib.pyplot as plt

from benchmarks.cells import commits, machines

# The name of our model in the rows.
OURS = "tf_hqgnn"
# Seconds to which the line of ours is drawn.
_END = 1000.0
# Panels in a line of the plot.
_ACROSS = 4
_GROUP = ("data", "model", "config", "epochs_limit", "max_seconds", "refit")
_COLUMNS: dict[str, tuple[str, Callable[[float], str]]] = {
    "Recall@20": ("recall@20", "{:.4f}".format),
    "NDCG@20": ("ndcg@20", "{:.4f}".format),
    "training s": ("seconds", "{:.1f}".format),
    "CPU s": ("cpu_seconds", "{:.1f}".format),
    "s of all fits": ("all_seconds", "{:.1f}".format),
    "fits": ("fits", "{:.0f}".format),
    "peak MiB": ("peak_bytes", lambda value: f"{value / 2**20:,.0f}"),
    "bytes an item": ("item_bytes", "{:,.0f}".format),
}


def report(rows: Sequence[dict[str, str]], plot: Path) -> None:
    """Prints the tables as Markdown and draws the plot."""
    print(markdown(rows))
    _draw(_grouped(rows), plot)


def markdown(rows: Sequence[dict[str, str]]) -> str:
    """A table for each data set: means over seeds, with the standard deviation where there are several."""
    lines = []
    grouped = _grouped(rows)
    for data, keys in itertools.groupby(sorted(grouped), key=lambda key: key[0]):
        found = sorted(((label(key), grouped[key]) for key in keys), key=lambda pair: -_mean(pair[1], "ndcg@20"))
        lines += [f"**{data}**", "", f"| model | {' | '.join(_COLUMNS)} | seeds |"]
        lines.append("| --- |" + " ---: |" * (len(_COLUMNS) + 1))
        for name, of_seeds in found:
            cells = [_cell([float(row[column]) for row in of_seeds], text) for column, text in _COLUMNS.values()]
            lines.append(f"| {name} | {' | '.join(cells)} | {len(of_seeds)} |")
        lines.append("")
    versions = sorted({version for row in rows for version in row["versions"].split(", ")})
    lines.append(machines(rows, "a training"))
    lines.append(f"Versions: {', '.join(versions)}. {commits(rows)}")
    return "\n".join(lines)


def _grouped(rows: Sequence[dict[str, str]]) -> dict[tuple[str, ...], list[dict[str, str]]]:
    grouped: dict[tuple[str, ...], list[dict[str, str]]] = {}
    for row in rows:
        grouped.setdefault(tuple(row[name] for name in _GROUP), []).append(row)
    return grouped


def label(key: tuple[str, ...]) -> str:
    """Such as "implicit-als, refit" for the values of _GROUP."""
    _, model, config, limit, seconds, refit = key
    parts = [f"{model} ({config})" if config else model]
    if limit:
        parts.append(f"at most {limit} epochs")
    if seconds:
        parts.append(f"at most {float(seconds):,.0f} s")
    if refit == "True":
        parts.append("refit")
    return ", ".join(parts)


def _mean(rows: Sequence[dict[str, str]], column: str) -> float:
    return float(np.mean([float(row[column]) for row in rows]))


def _cell(values: Sequence[float], text: Callable[[float], str]) -> str:
    if len(values) == 1 or np.ptp(values) == 0:
        return text(values[0])
    return f"{text(float(np.mean(values)))} ± {text(float(np.std(values, ddof=1)))}"


def _draw(grouped: dict[tuple[str, ...], list[dict[str, str]]], plot: Path) -> None:
    """NDCG against training time, a panel a data set: each row of the tables is a point, models have colours.

    The line is what can be had of ours by then; a peer's points are joined where they are one training, cut earlier.
    """
    panels = sorted({key[0] for key in grouped})
    # Each model keeps its colour and marker in all panels.
    models = sorted({key[1] for key in grouped}, key=lambda name: (name != OURS, name))
    across, down = min(_ACROSS, len(panels)), -(-len(panels) // _ACROSS)
    figure, axes = plt.subplots(down, across, figsize=(4.6 * across, 4.4 * down), squeeze=False, layout="constrained")
    for axis in axes.flat[len(panels) :]:
        axis.remove()
    for axis, data in zip(axes.flat, panels):
        for number, model in enumerate(models):
            points = sorted(
                (_mean(rows, "seconds"), _mean(rows, "ndcg@20"), float(np.std([float(row["ndcg@20"]) for row in rows])))
                for key, rows in grouped.items()
                if key[:2] == (data, model)
            )
            if points:
                _series(axis, points, number, model)
        axis.set_xscale("log")
        axis.set_title(data)
        axis.set_xlabel("training, seconds")
        axis.grid(alpha=0.3)
    for line in axes:
        line[0].set_ylabel("NDCG@20 on test")
    handles = {
        text: handle for axis in axes.flat[: len(panels)] for handle, text in zip(*axis.get_legend_handles_labels())
    }
    figure.legend(handles.values(), handles.keys(), loc="outside right center", fontsize="small")
    figure.savefig(plot, dpi=120)
    plt.close(figure)


def _series(axis: Any, points: Sequence[tuple[float, float, float]], number: int, model: str) -> None:
    # A hundredth of a second at least: popularity takes next to none.
    seconds, values, deviations = np.transpose(points)
    seconds = np.maximum(seconds, 0.01)
    # Ours is number 0, and the only one in black.
    ours, color = model == OURS, "black" if model == OURS else f"C{(number - 1) % 10}"
    if ours:
        reached = np.maximum.accumulate(values)
        axis.step([*seconds, _END], [*reached, reached[-1]], where="post", color=color, lw=1)
    axis.errorbar(
        seconds,
        values,
        yerr=deviations,
        color=color,
        marker="*" if ours else "osD^vPX<>"[number % 9],
        markersize=9 if ours else 6,
        linestyle="-" if len(points) > 1 and not ours else "none",
        capsize=2,
        label=model,
    )
