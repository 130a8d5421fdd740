"""report.html of a tuning study: what was tried, what it was worth, and which settings matter."""

from __future__ import annotations

import logging
import math
import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

import tf_hqgnn
from tf_hqgnn.config import Config
from tf_hqgnn.config.names import differing_settings
from tf_hqgnn.extras import how_to_install, missing
from tf_hqgnn.files.durable import write_file
from tf_hqgnn.report.charts import CODES, MODEL, POPULARITY, Series, line_chart
from tf_hqgnn.report.markup import figure, number, page, paragraph, plots, section, table, text

if TYPE_CHECKING:
    from tf_hqgnn.tuning.search import TuneResult
    from tf_hqgnn.tuning.study import Trial

log = logging.getLogger(__name__)

# Up to so many different values are each a mark on their axis.
_MARKS = 5


def study_hook(result: TuneResult, start: Config) -> None:
    """Write `report.html` beside best.yaml; where the extra `report` is missing, a line of the log says so.

    Args:
      result: of `tuning.search.tune`.
      start: the configuration that the study began with.
    """
    if missing("report"):
        log.warning("report.html is left out: it needs the package matplotlib: %s", how_to_install("report"))
    else:
        write_file(result.path.with_name("report.html"), render_study(result, start))


def render_study(result: TuneResult, start: Config) -> str:
    """Return the report as one HTML page that loads nothing.

    Args:
      result: of `tuning.search.tune`.
      start: the configuration that the study began with.
    """
    name, monitor = result.path.parent.name, start.evaluation.monitor
    done = [trial for trial in result.trials if trial.outcome.value is not None]
    parts = [
        f"<header><h1>Tuning study {text(name)}</h1></header>\n<main>",
        _headline(result, start),
        section("Trials over time", plots(_progress(done, monitor))),
        section(
            "The metric by each setting",
            paragraph(
                "Each point is a trial; the star is the best one. The search draws more often where trials were good, "
                "so crowded regions are not by themselves evidence.",
                soft=True,
            ),
            plots(*(_by_setting(setting, done, result.best, monitor) for setting in result.best.settings)),
        ),
        _changes(result, start),
        _all_trials(result, monitor),
        "</main>\n",
        _footer(result, start),
    ]
    return page(f"Tuning study {name}", "".join(parts))


def _headline(result: TuneResult, start: Config) -> str:
    monitor, first, best = start.evaluation.monitor, result.trials[0].outcome.value, _value(result.best)
    failed = sum(trial.outcome.value is None for trial in result.trials)
    cards = [(number(best), f"best validation {monitor}, trial {result.best.index}")]
    if first:
        cards.append((number(first), f"settings as they were given ({best / first - 1:+.1%} since)"))
    cards.append((str(len(result.trials)), f"trials, {failed} failed"))
    cards.append((f"{sum(trial.outcome.seconds for trial in result.trials):,.0f} s", "of training, all trials"))
    boxes = "".join(f'<div class="card"><b>{text(value)}</b><span>{text(label)}</span></div>' for value, label in cards)
    note = (
        f"{monitor} is measured on the validation split with float32 embeddings. The best of many trials looks better "
        "there than it is: measure it on the test split once, at the end."
    )
    return f'<div class="cards">{boxes}</div>\n{paragraph(text(note, 400), soft=True)}'


def _progress(done: Sequence[Trial], monitor: str) -> str:
    ordered = sorted(done, key=lambda trial: trial.index)
    indices, values = [trial.index for trial in ordered], [_value(trial) for trial in ordered]
    best = np.maximum.accumulate(values).tolist()
    series = [Series("trial", indices, values, MODEL, "o"), Series("best so far", indices, best, CODES, "-")]
    svg = line_chart("progress", f"{monitor} by trial", ("trial", monitor), series)
    return figure(svg, "Trial 0 is the configuration as it was given.")


def _by_setting(setting: str, done: Sequence[Trial], best: Trial, monitor: str) -> str:
    """A plot of the metric over the values of a setting: over orders of magnitude where they span more than one."""
    values = [trial.settings[setting] for trial in done]
    places, ticks = _places(values)
    points = [_value(trial) for trial in done]
    star = places[values.index(best.settings[setting])]
    series = [
        Series("trial", places, points, POPULARITY, "o"),
        Series("best trial", [star], [_value(best)], CODES, "*"),
    ]
    key = "by-" + "".join(letter if letter.isalnum() else "-" for letter in setting)
    svg = line_chart(key, f"{monitor} by {setting}", (setting, monitor), series, ticks)
    return figure(svg, f"<code>{text(setting)}</code>: best {text(_shown(best.settings[setting]))}.")


def _places(values: Sequence[Any]) -> tuple[list[float], tuple[list[float], list[str]]]:
    """Positions of values on an axis, and its ticks: choices side by side, numbers by size or by their logarithm."""
    if not all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        names = list(dict.fromkeys(map(_shown, values)))
        return [float(names.index(_shown(value))) for value in values], ([float(n) for n in range(len(names))], names)
    low, high = min(values), max(values)
    scale = np.log10 if low > 0 and high > 10 * low else np.asarray
    marks = sorted(set(values))
    if len(marks) > _MARKS:
        places = np.linspace(scale(low), scale(high), 4)
        marks = (10.0**places if scale is np.log10 else places).tolist()
    return scale(values).tolist(), (scale(marks).tolist(), [f"{mark:.3g}" for mark in marks])


def _changes(result: TuneResult, start: Config) -> str:
    differing = differing_settings(start, result.config)
    rows = [
        [text(name), *(text(_shown(value)) for value in pair)]
        for name, pair in differing.items()
        if not name.startswith("tune.")
    ]
    if not rows:
        return section("Settings of the best trial", paragraph("The settings as they were given were the best."))
    return section("Settings of the best trial", table(["setting", "given", "best"], rows))


def _all_trials(result: TuneResult, monitor: str) -> str:
    ordered = sorted(result.trials, key=lambda trial: (-(trial.outcome.value or -math.inf), trial.index))
    names = list(result.best.settings)
    rows = [
        [
            str(trial.index),
            "failed" if trial.outcome.value is None else number(trial.outcome.value),
            number(trial.outcome.seconds, 1),
            *(text(_shown(trial.settings[name])) for name in names),
            text(trial.outcome.reason or "", 200),
        ]
        for trial in ordered
    ]
    failed = any(trial.outcome.reason for trial in result.trials)
    header = ["trial", monitor, "seconds", *names, *(["why it failed"] if failed else [])]
    marked = [place for place, trial in enumerate(ordered) if trial is result.best]
    return section("All trials, the best first", table(header, rows, hits=marked))


def _footer(result: TuneResult, start: Config) -> str:
    command = f"tf-hqgnn train {shlex.quote(str(result.path))} --out RUN_DIR --set data.path={start.data.path or 'LOG'}"
    return (
        f"<footer><p>tf_hqgnn {text(tf_hqgnn.__version__)}, seed {start.seed}.</p>\n"
        f"<p>Train with the best settings: <code>{text(command, 300)}</code></p></footer>\n"
    )


def _value(trial: Trial) -> float:
    return float("nan") if trial.outcome.value is None else trial.outcome.value


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
