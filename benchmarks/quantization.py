"""Ablation of the low-bit codes: `python -m benchmarks.quantization run --work DIR`, then `... report --work DIR`.

Data set x bits x {post-training, STE, EWGS with a fixed delta, GSTE, fitted} x {one range per tensor, a scale per
row}, for several seeds. `fitted` is the default: GSTE from codes that discrete least squares has fitted to the scores
first, which it does at 1 and 2 bits with a scale per row; the other ways start from rounded rows. A seed decides the
split, the training and the codes. The full-precision model of each data set and seed is trained once and kept in DIR;
every cell becomes a row of DIR/cells.csv as soon as it is done, and is not done again: the same call goes on where the
last one stopped, and calls for parts (`--data`, `--seeds`, `--bits`, `--ways`, `--modes`) add up.

Models: `lightgode` (configs/default.yaml, codes learned by distillation), `lightgcn` (configs/hqgnn_lightgcn.yaml,
codes learned by its own loss, as in HQ-GNN).
"""

from __future__ import annotations

import argparse
import csv
import itertools
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import matplotlib
import numpy as np

from benchmarks.cells import ROOT, Cells, commit, machine
from benchmarks.estimators.variants import DATA as LOGS
from tf_hqgnn import __version__
from tf_hqgnn.config import Config, QuantizationConfig
from tf_hqgnn.data.loading import load_dataset
from tf_hqgnn.evaluation.full_ranking import evaluate_embeddings
from tf_hqgnn.logs import quieten_libraries
from tf_hqgnn.models.factory import make_model
from tf_hqgnn.models.hqgnn import HQGNN
from tf_hqgnn.runs.checkpoints import CheckpointStore
from tf_hqgnn.runs.run_directory import RunDirectory
from tf_hqgnn.training.callbacks import restore_weights
from tf_hqgnn.training.coding import make_codes
from tf_hqgnn.training.train import train

matplotlib.use("agg")
import matplotlib.pyplot as plt

DATA = {name: LOGS[name] for name in ("ml-100k", "beauty", "gowalla")}
MODELS = {"lightgode": ("default.yaml", "distillation"), "lightgcn": ("hqgnn_lightgcn.yaml", "fine_tuning")}
WAYS = ("post-training", "ste", "ewgs", "gste", "fitted")
MODES = ("per_tensor", "per_row")
BITS = (1, 2, 4, 8)
_KEY = ("data", "model", "seed", "bits", "way", "mode")
_COLUMNS = (
    *_KEY,
    "bytes_per_item",
    "valid_ndcg@20",
    "test_ndcg@20",
    "full_valid_ndcg@20",
    "full_test_ndcg@20",
    "delta_users",
    "delta_items",
    "settings",
    "seconds",
    "version",
    "commit",
    "machine",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("run", "report"))
    parser.add_argument("--work", type=Path, required=True, help="folder of models, cells.csv and the plot")
    parser.add_argument("--data", nargs="+", choices=tuple(DATA), default=list(DATA))
    parser.add_argument("--models", nargs="+", choices=tuple(MODELS), default=["lightgode"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[2020, 2021, 2022])
    parser.add_argument("--bits", nargs="+", type=int, choices=BITS, default=list(BITS))
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--modes", nargs="+", choices=MODES, default=list(MODES))
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE", help="of how codes are made")
    arguments = parser.parse_args()
    quieten_libraries()
    arguments.work.mkdir(parents=True, exist_ok=True)
    cells = Cells(arguments.work / "cells.csv", _KEY, _COLUMNS)
    if arguments.command == "report":
        report(cells, arguments.work / "quantization.png")
        return
    for model, data, seed in itertools.product(arguments.models, arguments.data, arguments.seeds):
        wanted = [
            {"data": data, "model": model, "seed": seed, "bits": bits, "way": way, "mode": mode}
            for bits, way, mode in itertools.product(arguments.bits, arguments.ways, arguments.modes)
            if way != "fitted" or (model == "lightgode" and mode == "per_row" and bits <= 2)
        ]
        missing = [key for key in wanted if key not in cells]
        if missing:
            bench = Bench(arguments.work / f"{model}-{data}-{seed}", model, data, seed, tuple(arguments.set))
            for key in missing:
                row = key | bench.measure(key["bits"], key["way"], key["mode"])
                cells.add(row)
                tell(row)


def tell(row: dict[str, Any]) -> None:
    ratio = row["test_ndcg@20"] / row["full_test_ndcg@20"]
    print(*(row[name] for name in _KEY), f"{ratio:.1%} of full precision, {row['seconds']:.0f} s", flush=True)


class Bench:
    """One data set, model and seed: the full-precision model, and what becomes of it in codes.

    Args:
      run_dir: of the full-precision training; made if absent, gone on with if unfinished.
      model: of MODELS.
      data: of DATA.
      seed: of the split and the training.
      overrides: of the settings by which codes are made.
    """

    def __init__(self, run_dir: Path, model: str, data: str, seed: int, overrides: tuple[str, ...]) -> None:
        file, self._method = MODELS[model]
        self._overrides = overrides
        chosen = (*DATA[data], f"seed={seed}", "quantization.bits=null")
        if not run_dir.exists():
            config = Config.load(ROOT / "configs" / file, chosen)
            train(load_dataset(config.data, seed), config, run_dir, resume=True)
        self._config = Config.load(ROOT / "configs" / file, (*chosen, *overrides))
        self._run = RunDirectory.load(run_dir)
        self._full = {split: self._run.evaluate(split, (20,)).metrics.values for split in ("valid", "test")}

    def measure(self, bits: int, way: str, mode: str) -> dict[str, Any]:
        """Makes the codes of one cell and judges them."""
        run = self._run
        values = self._config.quantization.model_dump() | {"bits": bits, "mode": mode, "method": self._method}
        if way != "fitted":
            values["distillation"] |= {"fit_rounds": 0}
            # A value halfway between two levels has its gradient changed by a tenth.
            estimator = {"estimator": way, "delta": 0.2 * (2**bits - 1) if way == "ewgs" else 0.0}
            values |= {"method": "post_training"} if way == "post-training" else estimator
        config = self._config.model_copy(update={"quantization": QuantizationConfig.model_validate(values)})
        folder = run.path.with_name(f"{run.path.name}-{bits}-{way}-{mode}")
        began = time.monotonic()
        coded = make_codes(
            self._model(),
            run.user_embeddings,
            run.item_embeddings,
            run.dataset.train,
            run.graph,
            config,
            self._validate,
            folder,
        )
        seconds = time.monotonic() - began
        found = replace(run, config=config, coded=coded)
        judged = {f"{split}_ndcg@20": found.evaluate(split, (20,)).metrics.values["ndcg@20"] for split in self._full}
        return {
            **judged,
            **{f"full_{split}_ndcg@20": values["ndcg@20"] for split, values in self._full.items()},
            **_last_deltas(folder / "history.csv"),
            "settings": " ".join(self._overrides),
            "bytes_per_item": coded.items.bytes_per_item,
            "seconds": seconds,
            "version": __version__,
            "commit": commit(),
            "machine": machine(),
        }

    def _model(self) -> HQGNN:
        """The trained model, for methods that train it on."""
        model = make_model(self._config, self._run.graph)
        weights, _ = CheckpointStore(self._run.path / "checkpoints").load()
        for variable, value in zip(model.trainable_weights, restore_weights(model, weights)):
            variable.assign(value)
        return model

    def _validate(self, users: np.ndarray, items: np.ndarray) -> dict[str, float]:
        run = self._run
        return evaluate_embeddings(
            users, items, run.dataset.valid, run.graph.seen(), run.graph.item_degree, (20,)
        ).values


def _last_deltas(path: Path) -> dict[str, float]:
    if not path.exists():
        return {"delta_users": 0.0, "delta_items": 0.0}
    with path.open(newline="", encoding="utf-8") as file:
        *_, last = csv.DictReader(file)
    return {name: float(last.get(name, 0.0)) for name in ("delta_users", "delta_items")}


def report(cells: Cells, plot: Path) -> None:
    """Prints the table as Markdown and draws the plot."""
    if not cells.rows:
        sys.exit("no cells yet: `run` comes first")
    print(markdown(cells.rows))
    _plot(*_ratios(cells.rows), plot)
    print(f"\n{plot}", file=sys.stderr)


def markdown(rows: Sequence[Mapping[str, str]]) -> str:
    """The table: means and standard deviations over seeds."""
    ratios, size = _ratios(rows)
    lines = [
        "Test NDCG@20, percent of the same model in full precision: mean ± standard deviation (seeds)",
        "",
        f"| model | data | bits | range | bytes an item | {' | '.join(WAYS)} |",
        "| --- " * 4 + "| ---: " + "| --- " * len(WAYS) + "|",
    ]
    for group, keys in itertools.groupby(sorted(ratios), key=lambda key: key[:4]):
        found = {key[4]: ratios[key] for key in keys}
        values = [f"{max(size[(*group, way)] for way in found):.0f}", *(_cell(found.get(way, [])) for way in WAYS)]
        lines.append(f"| {' | '.join([*group, *values])} |")
    return "\n".join(lines)


def _ratios(
    rows: Sequence[Mapping[str, str]],
) -> tuple[dict[tuple[str, ...], list[float]], dict[tuple[str, ...], float]]:
    """By (model, data, bits, mode, way): a ratio for each seed, and the bytes of an item."""
    ratios: dict[tuple[str, ...], list[float]] = {}
    size: dict[tuple[str, ...], float] = {}
    for row in rows:
        key = tuple(row[name] for name in ("model", "data", "bits", "mode", "way"))
        ratios.setdefault(key, []).append(float(row["test_ndcg@20"]) / float(row["full_test_ndcg@20"]))
        size[key] = float(row["bytes_per_item"])
    return ratios, size


def _plot(ratios: dict[tuple[str, ...], list[float]], size: dict[tuple[str, ...], float], path: Path) -> None:
    panels = sorted({key[:2] for key in ratios})
    figure, axes = plt.subplots(1, len(panels), figsize=(4.6 * len(panels), 4), squeeze=False, layout="constrained")
    for axis, panel in zip(axes[0], panels):
        _draw(axis, {key[2:]: (size[key], values) for key, values in ratios.items() if key[:2] == panel})
        axis.set_title(" on ".join(panel))
    axes[0][0].set_ylabel("NDCG@20 / full precision")
    axes[0][-1].legend(fontsize="small")
    figure.savefig(path, dpi=120)


def _cell(values: list[float]) -> str:
    if not values:
        return ""
    deviation = f" ± {100 * np.std(values, ddof=1):.1f}" if len(values) > 1 else ""
    return f"{100 * np.mean(values):.1f}{deviation} ({len(values)})"


def _draw(axis: Any, found: dict[tuple[str, ...], tuple[float, list[float]]]) -> None:
    axis.axhline(1.0, color="black", linewidth=1, label="full precision")
    for mode, way in itertools.product(MODES, WAYS):
        points = sorted((size, values) for (_, m, w), (size, values) in found.items() if (m, w) == (mode, way))
        if points:
            axis.errorbar(
                [size for size, _ in points],
                [np.mean(values) for _, values in points],
                yerr=[np.std(values) for _, values in points],
                color=f"C{WAYS.index(way)}",
                linestyle="-" if mode == "per_row" else ":",
                marker="o" if mode == "per_row" else "x",
                markersize=4,
                capsize=2,
                label=f"{way}, {mode.replace('_', ' ')}",
            )
    axis.set_xscale("log", base=2)
    sizes = np.log2([size for size, _ in found.values()])
    axis.set_xticks(2.0 ** np.arange(np.floor(sizes.min()), np.ceil(sizes.max()) + 1))
    axis.xaxis.set_major_formatter("{x:.0f}")
    axis.set_xlabel("bytes an item")


if __name__ == "__main__":
    main()
