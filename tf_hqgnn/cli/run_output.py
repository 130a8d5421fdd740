"""Prints what came of trainings: a table or lines for a reader, or one JSON object for a program."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from tf_hqgnn.cli.terminal import plain, print_table, printable

if TYPE_CHECKING:
    from tf_hqgnn.config import Config
    from tf_hqgnn.data.report import ReadReport
    from tf_hqgnn.quantization.coded_embeddings import CodedEmbeddings
    from tf_hqgnn.report.comparison import Comparison
    from tf_hqgnn.runs.run_directory import Evaluation
    from tf_hqgnn.training.train import TrainResult
    from tf_hqgnn.tuning.search import TuneResult

_Metrics = Mapping[str, float]


def print_read(report: ReadReport) -> None:
    """Print on standard error what became of every row of a log, and what may surprise its owner."""
    for line in report.summary:
        print(printable(line), file=sys.stderr)


def print_trained(result: TrainResult, as_json: bool) -> None:
    """Print the metrics on the validation split as a table on a terminal, and else one JSON object."""
    if as_json or not sys.stdout.isatty():
        print(json.dumps(vars(result) | {"run_dir": str(result.run_dir)}), flush=True)
        return
    title = f"validation split; {result.epochs} epochs, the best is {result.best_epoch}; {result.seconds:,.1f} s"
    if result.valid:
        print_table(title, _metrics_table(result.valid, result.full_precision, result.popularity))
    else:
        print(f"{result.epochs} epochs, {result.seconds:,.1f} s; no interaction was held out to validate by")
    for line in (result.chosen, None if result.refit is None else result.refit["note"]):
        if line:
            print(printable(line))
    print(printable(f"run: {result.run_dir}"))


def print_tuned(settings: Config, result: TuneResult, as_json: bool) -> None:
    """The best trial, and what it changed in `settings`."""
    from tf_hqgnn.tuning.search import changed_settings

    best, start, monitor = result.best, result.trials[0].outcome.value, settings.evaluation.monitor
    changed = changed_settings(settings, result.config)
    failed = sum(trial.outcome.value is None for trial in result.trials)
    if as_json:
        answer = {"best": str(result.path), "trial": best.index, "valid": {monitor: best.outcome.value}}
        answer |= {"start": {monitor: start}, "settings": changed, "trials": len(result.trials), "failed": failed}
        print(json.dumps(answer))
        return
    at_start = "failed" if start is None else f"{start:.4f}"
    print(f"trial {best.index} of {len(result.trials)}: valid {monitor} {best.outcome.value:.4f} (start: {at_start})")
    for name, value in changed.items():
        print(printable(f"{name}: {value}"))
    print(result.path)


def print_evaluation(split: str, found: Evaluation, coded: CodedEmbeddings | None, as_json: bool) -> None:
    """Metrics beside popularity's, and beside full precision's where the model is coded."""
    from tf_hqgnn.quantization.codes import Codes

    served, full = found.metrics, found.full_precision
    if as_json:
        answer: dict[str, Any] = {"split": split, "num_users": served.num_users, "metrics": served.values}
        print(json.dumps(answer if full is None else answer | {"full_precision": full.values}))
        return
    table = _metrics_table(served.values, None if full is None else full.values, found.popularity.values)
    print_table(f"{split} split: {served.num_users} users; {served.num_skipped} more have no {split} items", table)
    if coded is not None:
        print(f"items: {coded.items}")
        print(f"users: {coded.users if isinstance(coded.users, Codes) else 'float32'}")


def print_comparison(found: Comparison, as_json: bool) -> None:
    """Print two runs side by side: settings that differ, then metrics, seconds and bytes."""
    if as_json:
        print(json.dumps(asdict(found)))
        return
    from rich.table import Table

    settings = Table()
    for column in ("setting", *found.runs):
        settings.add_column(plain(column))
    for name, pair in found.settings.items():
        settings.add_row(plain(name), *(plain(json.dumps(value)) for value in pair))
    title = "settings that differ" if found.settings else "no setting differs"
    print_table(title, settings)
    table = Table()
    for column in ("validation", *found.runs, "ratio"):
        table.add_column(plain(column), justify="left" if column == "validation" else "right")
    for name, (first, second) in found.metrics.items():
        table.add_row(name, *("-" if one is None else f"{one:.4f}" for one in (first, second)), _ratio(first, second))
    table.add_row("epochs", *found.epochs, "")
    table.add_row("seconds", *(f"{one:,.1f}" for one in found.seconds), _ratio(*found.seconds))
    for name, pair in (("bytes per user", found.user_bytes), ("bytes per item", found.item_bytes)):
        table.add_row(name, *(f"{one:g}" for one in pair), _ratio(*pair))
    print_table("metrics on the validation split, and what they cost", table)
    if not found.same_data:
        print("the runs have other users, items or splits, so their metrics can't be compared: train both on the same")


def _ratio(first: float | None, second: float | None) -> str:
    """The second value as a share of the first."""
    return f"{second / first:.1%}" if first and second is not None else "-"


def _metrics_table(served: _Metrics, full: _Metrics | None, popularity: _Metrics) -> Any:
    """Metrics beside popularity's, and beside full precision's where the model is coded."""
    from rich.table import Table

    table = Table()
    columns = ("metric", "model") if full is None else ("metric", "full precision", "coded", "ratio")
    for column in (*columns, "popularity"):
        table.add_column(column, justify="left" if column == "metric" else "right")
    for name, value in served.items():
        cells = [f"{value:.4f}"]
        if full is not None:
            cells = [f"{full[name]:.4f}", *cells, _ratio(full[name], value)]
        table.add_row(plain(name), *cells, f"{popularity[name]:.4f}")
    return table
