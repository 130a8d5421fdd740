"""The page and the figure: what the cells show, in plain sentences made from the numbers."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import matplotlib
import numpy as np

from benchmarks.cells import ROOT, machines
from benchmarks.estimators.statistics import CONFIDENCE, Comparison, compare, holm
from benchmarks.estimators.variants import BASELINE, VARIANTS

matplotlib.use("agg")
import matplotlib.pyplot as plt

CELLS = ROOT / "benchmarks" / "results" / "estimators.csv"
PAGE = ROOT / "benchmarks" / "estimators.md"
FIGURE = ROOT / "benchmarks" / "results" / "estimators.png"
_GROUP = ("part", "model", "data", "bits")
_PARTS = {
    "scratch": "From scratch, as in the paper: users and items have the same number of bits and one learned range each",
    "distillation": "Distillation: the codes of items learn to rank as a full-precision model does; users have 8 bits",
}
_ABOUT = """# Gradient estimators, compared

This page and its figure are made from [results/estimators.csv](results/estimators.csv) by
`.venv/bin/python -m benchmarks.estimators page`. The cells come from
`.venv/bin/python -m benchmarks.estimators run --work DIR`, which goes on where it stopped.

Every estimator gets the same split, start and batches for a seed, so each difference from `ste` (the straight-through
estimator) is a pair. A difference is the test NDCG of the estimator less that of `ste`, in percent of the latter. The
interval holds the mean difference with 95% confidence (paired t).

The p values are corrected for all comparisons on this page (Holm); the differences in recall aren't tested. "Would be
found" is how large a mean difference has to be for such a test to find it in 80% of all repetitions, without the
correction. "Bends gradients by" is the mean of |dL/dx_n - g| relative to g, for items, over all epochs: an estimator
that bends gradients by less than 1% is `ste` in all but name. "Bits that flip" is the share of the bits of items that
differ from one epoch to the next. The epoch of each training is chosen by validation NDCG at the same cut-off.
"""
_WORDS = {
    "ewgs": "`ewgs` has a fixed delta of .2 (2^bits - 1)",
    "gste": "`gste` is HQ-GNN's estimator",
    "gste-averaged": "`gste-averaged` takes the mean delta of 4 batches",
    "gste-column": "`gste-column` has a delta for each column",
    "gste-fitted": "`gste-fitted` fits the scales of items to the teacher's scores at the end",
    "gste-order": "`gste-order` learns the order of the teacher's first 50 items only",
    "gste-row": "`gste-row` has a delta for each row",
    "lsq": "`lsq` scales the gradient of the learned range only, which Adam undoes",
    "reste": "`reste` ends at the power 3",
    "stochastic": "`stochastic` rounds at random while it trains",
}


@dataclass(frozen=True)
class Result:
    """One estimator in one group of cells, beside the baseline.

    Args:
      group: part, model, data set and bits.
      variant: the estimator.
      test: what the paired differences on the test split say, in percent.
      recall: the same of test recall.
      valid: the mean difference of NDCG on the validation split, in percent.
      ndcg: the mean test NDCG.
      bent: the mean relative change of gradients.
      flipped: the mean share of bits of items that flip in an epoch.
      p_value: corrected; set once all are known.
    """

    group: tuple[str, ...]
    variant: str
    test: Comparison
    recall: Comparison
    valid: float
    ndcg: float
    bent: float
    flipped: float
    p_value: float

    @property
    def differs(self) -> bool:
        """Whether the corrected test tells it from the baseline."""
        return self.p_value < 1 - CONFIDENCE


def results_of(rows: Sequence[Mapping[str, str]]) -> list[Result]:
    """Every estimator with at least two pairs in a group, in the order of the page."""
    cells = {(*(row[name] for name in _GROUP), row["variant"], row["seed"]): row for row in rows}
    groups = sorted({key[:4] for key in cells}, key=lambda group: (list(_PARTS).index(group[0]), *group[1:]))
    found = []
    for group, variant in itertools.product(groups, VARIANTS):
        seeds = sorted(key[5] for key in cells if key[:5] == (*group, variant) and (*group, BASELINE, key[5]) in cells)
        if variant == BASELINE or len(seeds) < 2:
            continue
        own, base = ([cells[(*group, name, seed)] for seed in seeds] for name in (variant, BASELINE))
        test, recall, valid = (
            [100 * (float(a[column]) / float(b[column]) - 1) for a, b in zip(own, base)]
            for column in ("test_ndcg", "test_recall", "valid_ndcg")
        )
        ndcg = float(np.mean([float(row["test_ndcg"]) for row in own]))
        bent, flipped = (
            float(np.mean([float(row[name]) for row in own])) for name in ("gradient_change_items", "flipped_items")
        )
        tested = compare(test)
        found.append(
            Result(group, variant, tested, compare(recall), float(np.mean(valid)), ndcg, bent, flipped, tested.p_value)
        )
    corrected = holm([result.p_value for result in found])
    return [replace(result, p_value=p_value) for result, p_value in zip(found, corrected)]


def markdown(rows: Sequence[Mapping[str, str]]) -> str:
    """The page."""
    results = results_of(rows)
    parts = [_ABOUT, *_conclusions(results), "![Differences from ste with their intervals](results/estimators.png)\n"]
    for part, of_part in itertools.groupby(results, key=lambda result: result.group[0]):
        parts.append(f"## {_PARTS[part]}\n")
        for group, of_group in itertools.groupby(of_part, key=lambda result: result.group):
            parts += _group(group, list(of_group), rows)
    parts += [f"{machines(rows, 'cells')} The commit and the settings of every cell stand in the CSV."]
    return "\n".join(parts) + "\n"


def _conclusions(results: Sequence[Result]) -> list[str]:
    better = [result for result in results if result.differs and result.test.mean > 0]
    worse = [result for result in results if result.differs and result.test.mean < 0]
    lines = ["## What holds, and what doesn't\n"]
    for verb, which in (("better", better), ("worse", worse)):
        if which:
            named = "; ".join(f"`{one.variant}` in {_name(one.group)} ({_interval(one.test)})" for one in which)
            lines.append(f"- {verb.capitalize()} than `ste`, after the correction: {named}.")
        else:
            lines.append(f"- No estimator is {verb} than `ste` beyond what chance explains.")
    return [*lines, *(f"- {_sentence(result)}" for result in results if result.variant == "gste"), ""]


def _sentence(result: Result) -> str:
    """What can be said of one estimator in one group."""
    if result.differs:
        verdict = "is better than" if result.test.mean > 0 else "is worse than"
    else:
        verdict = "can't be told from"
    return (
        f"`{result.variant}` {verdict} `ste` in {_name(result.group)}: {_interval(result.test)} over "
        f"{result.test.number} seeds, where {result.test.visible:.1f}% would have been found; it bends gradients by "
        f"{100 * result.bent:.1f}%."
    )


def _group(group: tuple[str, ...], results: list[Result], rows: Sequence[Mapping[str, str]]) -> list[str]:
    own = [row for row in rows if tuple(row[name] for name in _GROUP) == group]
    base = [row for row in own if row["variant"] == BASELINE]
    mean, spread = (f([float(row["test_ndcg"]) for row in base]) for f in (np.mean, np.std))
    lines = [
        f"### {_name(group)}\n",
        f"`ste`: test NDCG@{base[0]['k']} {mean:.4f} ± {spread:.4f} over {len(base)} seeds, "
        f"{float(base[0]['bytes_per_item']):.1f} bytes an item.\n",
        "| estimator | seeds | test NDCG | difference, % (95% interval) | p, corrected | would be found, % "
        "| difference in recall, % | bends gradients by, % | bits that flip, % | "
        "difference on validation, % |",
        "| --- " * 10 + "|",
    ]
    lines += [
        f"| {one.variant} | {one.test.number} | {one.ndcg:.4f} | {_interval(one.test)} | {one.p_value:.3f} | "
        f"{one.test.visible:.1f} | {_interval(one.recall)} | {100 * one.bent:.1f} | {100 * one.flipped:.1f} | "
        f"{one.valid:+.1f} |"
        for one in results
    ]
    # Means over other seeds can't be compared.
    most = max(result.test.number for result in results)
    best = max((result for result in results if result.test.number == most), key=lambda result: result.valid)
    chosen = best.variant if best.valid > 0 else BASELINE
    words = "; ".join(_WORDS[one.variant] for one in results)
    return [*lines, f"\nOver {most} seeds, validation prefers `{chosen}`. {words[0].upper()}{words[1:]}.\n"]


def _interval(found: Comparison) -> str:
    return f"{found.mean:+.2f} ({found.low:+.2f} to {found.high:+.2f})"


def _name(group: tuple[str, ...]) -> str:
    part, model, data, bits = group
    return f"{part}, {model}, {data}, {bits} bit{'' if bits == '1' else 's'}"


def draw(results: Sequence[Result], path: Path) -> None:
    """Draws a panel for each group: the mean difference of every estimator, and its interval."""
    groups = list(dict.fromkeys(result.group for result in results))
    figure, axes = plt.subplots(1, len(groups), figsize=(3.2 * len(groups), 3.2), squeeze=False, layout="constrained")
    for axis, group in zip(axes[0], groups):
        own = [result for result in results if result.group == group]
        for place, one in enumerate(reversed(own)):
            axis.plot([one.test.low, one.test.high], [place, place], color="C0", linewidth=2)
            axis.plot(one.test.mean, place, "o", color="C3" if one.differs else "C0")
        axis.axvline(0.0, color="black", linewidth=1)
        axis.set_yticks(range(len(own)), [f"{one.variant} ({one.test.number})" for one in reversed(own)])
        axis.set_title(
            f"{group[0]}, {group[1]}\n{group[2]}, {group[3]} bit{'' if group[3] == '1' else 's'}", fontsize=9
        )
        axis.set_xlabel("test NDCG against ste, %")
    figure.savefig(path, dpi=110, metadata={"Software": None})
    plt.close(figure)


def read(path: Path) -> list[dict[str, str]]:
    """The cells of a CSV."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def write_page(cells: Path) -> None:
    """Writes the page and the figure.

    Args:
      cells: the CSV.
    """
    rows = read(cells)
    results = results_of(rows)
    if not results:
        raise SystemExit(f"{cells} has no estimator beside {BASELINE} with two seeds: run comes first")
    PAGE.write_text(markdown(rows), encoding="utf-8")
    draw(results, FIGURE)
