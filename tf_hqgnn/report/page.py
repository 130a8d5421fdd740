"""report.html: everything to know of a training run in one file that loads nothing."""

from __future__ import annotations

import logging
import shlex
from pathlib import Path

import tf_hqgnn
from tf_hqgnn.extras import how_to_install, missing
from tf_hqgnn.files.durable import write_file
from tf_hqgnn.report.accuracy import accuracy
from tf_hqgnn.report.curves import training_curves
from tf_hqgnn.report.discrepancy import discrepancy
from tf_hqgnn.report.examples import examples
from tf_hqgnn.report.markup import page, text
from tf_hqgnn.report.overview import headline, metrics, settings
from tf_hqgnn.report.race import race
from tf_hqgnn.report.validation_sample import ValidationSample
from tf_hqgnn.runs.run_directory import RunDirectory, partial_path
from tf_hqgnn.types import Float32Array

log = logging.getLogger(__name__)


def write_report(run: RunDirectory, path: Path, trained: tuple[Float32Array, Float32Array] | None = None) -> None:
    """Write the report of `run` to `path`, which appears complete or not at all.

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
    write_file(path, content)


def report_hook(run: RunDirectory) -> None:
    """Write `report.html` into the folder of a run; where the extra `report` is missing, a line of the log says so."""
    if missing("report"):
        log.warning("report.html is left out: it needs the package matplotlib: %s", how_to_install("report"))
    else:
        write_report(run, run.path / "report.html")


def render_report(run: RunDirectory, trained: tuple[Float32Array, Float32Array] | None = None) -> str:
    """Return the HTML of a run's report."""
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
        race(run),
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
