"""report.html: everything to know of a training run in one file that loads nothing."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import numpy as np

import tf_hqgnn
from tf_hqgnn.report.accuracy import accuracy
from tf_hqgnn.report.curves import training_curves
from tf_hqgnn.report.discrepancy import discrepancy
from tf_hqgnn.report.examples import examples
from tf_hqgnn.report.markup import page, text
from tf_hqgnn.report.overview import headline, metrics, settings
from tf_hqgnn.report.validation_sample import ValidationSample
from tf_hqgnn.runs.run_directory import RunDirectory, partial_path


def write_report(run: RunDirectory, path: Path, trained: tuple[np.ndarray, np.ndarray] | None = None) -> None:
    """Writes the report of `run` to `path`, which appears complete or not at all.

    The same run gives the same bytes, whether it still has its unfinished name or not. Everything is measured on the
    validation split; test interactions are counted, and otherwise not looked at.

    Args:
      run: finished, or about to be renamed.
      path: of the HTML file.
      trained: float32 [U, d] and [I, d], the tables of the best epoch before propagation; read from the run's last
        checkpoint if None.

    Raises:
      OSError: `path` can't be written.
    """
    content = render_report(run, trained)
    staged = path.with_name(f".tmp-{path.name}")
    staged.write_text(content, encoding="utf-8", newline="\n")
    os.replace(staged, path)


def render_report(run: RunDirectory, trained: tuple[np.ndarray, np.ndarray] | None = None) -> str:
    """The HTML of `write_report`."""
    finished = run.path.name.removesuffix(partial_path(Path("x")).name[1:])
    sample = ValidationSample.draw(run)
    parts = [
        f"<header><h1>Training run {text(finished)}</h1></header>\n<main>",
        headline(run),
        metrics(run),
        training_curves(run),
        "" if sample is None else accuracy(sample),
        discrepancy(run, trained),
        examples(run),
        settings(run.config),
        "</main>\n",
        _footer(run, finished),
    ]
    return page(f"Training run {finished}", "".join(parts))


def _footer(run: RunDirectory, name: str) -> str:
    best = f", of which {run.metrics['best_epoch']} was the best" if run.metrics["valid"] else ""
    command = f"tf-hqgnn evaluate {shlex.quote(name)}"
    return (
        f"<footer><p>tf_hqgnn {text(tf_hqgnn.__version__)}, seed {run.config.seed}, {run.metrics['epochs']} epochs"
        f"{best}, {run.metrics['seconds']:,.1f} seconds.</p>\n"
        f"<p>Metrics on the test split, for the end: <code>{text(command)}</code></p></footer>\n"
    )
