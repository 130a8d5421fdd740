"""How training went: the files history.csv as plots."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from tf_hqgnn.report.charts import CODES, COLORS, MODEL, Series, line_chart
from tf_hqgnn.report.estimator import estimator_figures
from tf_hqgnn.report.markup import figure, number, plots, section
from tf_hqgnn.report.validation_sample import K
from tf_hqgnn.runs.run_directory import RunDirectory
from tf_hqgnn.types import Float64Array

_NDCG = f"valid_ndcg@{K}"


def training_curves(run: RunDirectory) -> str:
    """Loss and validation NDCG by epoch, and those of the codes' training if it has any."""
    history = read_history(run.path / "history.csv")
    figures = [*(_history_curves(run, history) if history else ()), *_propagations(run)]
    return (section("Training", plots(*figures)) if figures else "") + _coding_curves(run)


def _history_curves(run: RunDirectory, history: dict[str, Float64Array]) -> list[str]:
    epoch, best = history["epoch"], run.metrics["best_epoch"]
    marked = (float(best), f"best epoch, {best}") if _NDCG in history else None
    figures = [_curve("loss", history, "loss", "training loss", "Loss of the training batches.", marked)]
    if _NDCG in history:
        kept = history[_NDCG][epoch == best]
        caption = f"NDCG@{K} on the validation split" + (f"; the best is {number(kept[0])}." if len(kept) else ".")
        figures.append(_curve("valid", history, _NDCG, f"NDCG@{K}", caption, marked))
    if {"train_seconds", "validation_seconds"} <= history.keys():
        figures.append(_seconds(history))
    return figures


def _seconds(history: dict[str, Float64Array]) -> str:
    """Seconds of an epoch and of its validation."""
    # The first epoch compiles, which would make all others a line on the axis.
    shown = slice(1 if len(history["epoch"]) > 2 and history["epoch"][0] == 1 else 0, None)
    series = [
        Series(label, history["epoch"][shown], history[name][shown], color)
        for label, name, color in zip(("training", "validation"), ("train_seconds", "validation_seconds"), COLORS)
    ]
    svg = line_chart("seconds", "Seconds of each epoch", ("epoch", "seconds"), series, from_zero=True)
    median = [number(float(np.median(one.y)), 2) for one in series]
    caption = f"Seconds of an epoch; medians {median[0]} (training) and {median[1]} (validation)."
    if shown.start:
        caption += f" Left out: the first, {number(history['train_seconds'][0], 1)} s with compilation."
    return figure(svg, caption)


def _propagations(run: RunDirectory) -> list[str]:
    """The monitor by time of the propagations that were tried after training."""
    monitor = run.config.evaluation.monitor
    label = monitor.replace("ndcg", "NDCG")
    path = run.path / "propagation.csv"
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    series = []
    for solver, color in zip(("euler", "exact"), COLORS):
        # No propagation is where all begin.
        tried = {float(row["t1"]): float(row[f"valid_{monitor}"]) for row in rows if row["solver"] in (solver, "none")}
        times = sorted(tried)
        series.append(Series(solver, times, [tried[t1] for t1 in times], color))
    found = run.config.propagation
    marked = (found.t1 if found.make_solver().propagates else 0.0, f"served: {found.solver}")
    svg = line_chart("propagation", f"{label} by time of propagation", ("time t1", label), series, marked=marked)
    caption = (
        f"{label} of the same trained tables after other propagations, on the validation split or a sample of it. "
        "No training depends on the propagation, so this search is free."
    )
    return [figure(svg, caption)]


def _coding_curves(run: RunDirectory) -> str:
    history = read_history(run.path / "quantization" / "history.csv") if run.coded else {}
    if not history:
        return ""
    figures = []
    if _NDCG in history:
        series = [Series("codes", history["epoch"], history[_NDCG], CODES)]
        full = (run.metrics.get("full_precision") or {}).get(f"ndcg@{K}")
        if full is not None:
            series.append(Series("float32", history["epoch"], [full] * len(history["epoch"]), MODEL, "--"))
        svg = line_chart("coded-valid", f"NDCG@{K} of the codes by epoch", ("epoch", f"NDCG@{K}"), series)
        figures.append(figure(svg, f"NDCG@{K} of the codes on the validation split, as they learn."))
    elif "loss" in history:
        figures.append(_curve("coded-loss", history, "loss", "loss", "Loss of the codes."))
    figures += estimator_figures(history)
    return section("Training of the codes", plots(*figures)) if figures else ""


def _curve(
    key: str,
    history: dict[str, Float64Array],
    name: str,
    label: str,
    caption: str,
    marked: tuple[float, str] | None = None,
) -> str:
    series = [Series(label, history["epoch"], history[name])]
    svg = line_chart(f"curve-{key}", f"{label} by epoch", ("epoch", label), series, marked=marked)
    return figure(svg, caption)


def read_history(path: Path) -> dict[str, Float64Array]:
    """The columns of a history.csv as float64, NaN where a cell is empty; nothing if there is no row or no file."""
    if not path.is_file():
        return {}
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    if not rows:
        return {}
    return {name: np.array([float(row[name] or "nan") for row in rows]) for name in rows[0]}
