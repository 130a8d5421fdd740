"""What a log says besides who took what, used and ignored: `python -m benchmarks.log_signals --out log_signals.csv`.

Each signal of MovieLens-100K has candidates, the first of which ignores it, and that stand or fall by the same held-out
interactions: random splits for ratings, splits by time for age. The best candidate by mean validation NDCG@20 over the
seeds is chosen, and its test NDCG@20 is compared with that of ignoring the signal. Done cells aren't measured again.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import pandas as pd

from benchmarks.cells import Cells, commit, commits, machine
from benchmarks.timing import SHARED_DATA, describe_run
from tf_hqgnn.config import Config
from tf_hqgnn.config.presets import find_config
from tf_hqgnn.data.any_log import read_log
from tf_hqgnn.data.loading import make_dataset, split_log
from tf_hqgnn.data.report import BadRowLog
from tf_hqgnn.logs import quieten_libraries
from tf_hqgnn.runs.run_directory import RunDirectory
from tf_hqgnn.training.train import train

_METRIC = "ndcg@20"
_KEY = ("signal", "candidate", "seed")
_COLUMNS = (*_KEY, "valid", "test", "machine", "commit")


@dataclass(frozen=True)
class Candidate:
    """A way to use a signal.

    Args:
      settings: those that differ from the benchmark's.
      weigh: ratings -> weights; None for no column of weights.
    """

    settings: Mapping[str, Any] = field(default_factory=dict)
    weigh: Callable[[pd.Series], pd.Series] | None = None


_LIKED = {"data.min_rating": 4}
_TEMPORAL = {"data.split.method": "temporal"}


def _disliked(below: float, weight: float) -> Candidate:
    return Candidate({**_LIKED, "data.negative_rating": below, "loss.dislike_weight": weight})


def _half_life(days: float | None) -> Candidate:
    return Candidate({**_TEMPORAL, "data.half_life_days": days})


SIGNALS: dict[str, dict[str, Candidate]] = {
    "ratings as weights": {
        "ignored": Candidate(),
        "rating": Candidate(weigh=lambda rating: rating),
        "rating squared": Candidate(weigh=lambda rating: rating**2),
        "2 to the rating": Candidate(weigh=lambda rating: 2.0**rating),
    },
    "ratings below 3 as dislikes": {
        "ignored": Candidate(_LIKED),
        "never recommended": _disliked(3, 0.0),
        "pushed away, weight 0.03": _disliked(3, 0.03),
        "pushed away, weight 0.1": _disliked(3, 0.1),
        "pushed away, weight 0.3": _disliked(3, 0.3),
        "pushed away, weight 1": _disliked(3, 1.0),
    },
    "half-life": {
        "ignored": _half_life(None),
        **{f"{days} days": _half_life(days) for days in (5, 10, 20, 40, 80)},
    },
}


def measure(candidate: Candidate, config: Config, seed: int) -> dict[str, float]:
    """NDCG@20 on validation and test of a training."""
    config = config.with_values({"seed": seed, "training.refit": False, **candidate.settings})
    log = pd.read_csv(SHARED_DATA / "ml-100k" / "interactions.csv")
    if candidate.weigh is not None:
        log["weight"] = candidate.weigh(log["rating"]).astype(float)
    table = read_log(log, "log", config.data, BadRowLog()).table
    dataset = make_dataset(*split_log(table, config.data, seed))
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        train(dataset, config, out)
        run = RunDirectory.load(out)
        return {split: run.evaluate(split, (20,)).metrics.values[_METRIC] for split in ("valid", "test")}


def markdown(rows: list[dict[str, str]]) -> str:
    """Every candidate, as means over the seeds, and its test metric against that of ignoring the signal."""
    header = ["signal", "used as", "valid NDCG@20", "test NDCG@20", "test, against ignoring it"]
    lines = [f"| {' | '.join(header)} |", "| --- | --- | --- | --- | --- |"]
    for signal in dict.fromkeys(row["signal"] for row in rows):
        of_signal = [row for row in rows if row["signal"] == signal]
        values = {}
        for name in dict.fromkeys(row["candidate"] for row in of_signal):
            cells = sorted((row for row in of_signal if row["candidate"] == name), key=lambda row: row["seed"])
            values[name] = np.array([[float(row["valid"]), float(row["test"])] for row in cells])
        best = max(values, key=lambda name: values[name][:, 0].mean())
        for name, figures in values.items():
            valid, test = figures.mean(axis=0)
            gain = ""
            if name != "ignored" and len(figures) == len(values["ignored"]):
                ratios = figures[:, 1] / values["ignored"][:, 1] - 1
                gain = f"{ratios.mean():+.1%} ({ratios.min():+.1%} to {ratios.max():+.1%})"
            shown = f"**{name}**" if name == best else name
            lines.append(f"| {signal} | {shown} | {valid:.4f} | {test:.4f} | {gain} |")
    seeds = sorted({row["seed"] for row in rows}, key=int)
    note = f"Means over the seeds {', '.join(seeds)}; in bold what validates best. {commits(rows)}"
    return "\n".join([*lines, "", note])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="default", help="preset or file of settings")
    parser.add_argument("--signals", nargs="+", default=list(SIGNALS), choices=list(SIGNALS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--out", type=Path, required=True, help="CSV that gets a row for each training")
    arguments = parser.parse_args()
    quieten_libraries()
    print(describe_run("benchmarks.log_signals"), flush=True)
    config = Config.load(find_config(arguments.config))
    cells = Cells(arguments.out, _KEY, _COLUMNS)
    for seed in arguments.seeds:
        for signal in arguments.signals:
            for name, candidate in SIGNALS[signal].items():
                key = {"signal": signal, "candidate": name, "seed": seed}
                if key in cells:
                    continue
                found = {split: f"{value:.5f}" for split, value in measure(candidate, config, seed).items()}
                cells.add({**key, **found, "machine": machine(), "commit": commit()})
                print(*key.values(), *found.values(), flush=True)
    print(markdown(cells.rows))


if __name__ == "__main__":
    main()
