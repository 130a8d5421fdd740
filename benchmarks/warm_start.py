"""Day after day, started from yesterday's model and from nothing: `python -m benchmarks.warm_start --work W`.

MovieLens-100K by time: the log is cut into days of equally many interactions, and the model of day t has days 1..t.
A tenth of each user's interactions is for validation and a tenth for testing, the same on every day, so that no model
has learnt from what judges one that starts from it. Each day is trained three times: cold as the settings say, cold
from random rows, and warm from the model of the day before, which itself was started warm. "To equal" is what it took
to come within 1% of the first one's best validation NDCG@20, before any search over propagations. Trainings are kept
in W, figures in W/warm_start.csv.
"""

from __future__ import annotations

import argparse
import csv
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

from benchmarks.peers.comparison import DATA
from benchmarks.timing import describe_run
from tf_hqgnn.config import Config
from tf_hqgnn.data.interactions import InteractionTable, read_interactions
from tf_hqgnn.data.split_dataset import SplitDataset
from tf_hqgnn.data.splits import TEST, TRAIN, VALID, split_random
from tf_hqgnn.logs import quieten_libraries
from tf_hqgnn.runs.run_directory import RunDirectory
from tf_hqgnn.runs.trained_state import TrainedState
from tf_hqgnn.training.train import train
from tf_hqgnn.types import Interactions

_METRIC = "ndcg@20"
_CLOSE = 0.99
_COLUMNS = ("day", "start", "epochs", "seconds", "epochs to equal", "seconds to equal", "valid", "test")


def day_dataset(table: InteractionTable, day_of: np.ndarray, part: np.ndarray, day: int) -> SplitDataset:
    """Days 1..`day`, with the users and items that occur in them; `part` says what each interaction is for."""
    pairs = table.interactions
    so_far = day_of <= day
    users, items = np.unique(pairs.user_index[so_far]), np.unique(pairs.item_index[so_far])
    train_part, valid, test = (
        Interactions(
            np.searchsorted(users, pairs.user_index[rows]).astype(np.int32),
            np.searchsorted(items, pairs.item_index[rows]).astype(np.int32),
        )
        for rows in (so_far & (part == code) for code in (TRAIN, VALID, TEST))
    )
    return SplitDataset(table.user_ids[users], table.item_ids[items], train_part, valid, test)


def run(dataset: SplitDataset, config: Config, out: Path, before: Path | None) -> RunDirectory:
    """A training, done once."""
    if not out.exists():
        state = None if before is None else TrainedState.from_run(RunDirectory.load(before))
        train(dataset, config, out, resume=True, state=state)
    return RunDirectory.load(out)


def history(run: RunDirectory) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Epochs, seconds of training and validation up to each, and validation NDCG@20."""
    with (run.path / "history.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    # train_seconds are those of the validated epoch; with evaluate_every=1 that is all of them.
    seconds = np.cumsum([float(row["train_seconds"]) + float(row["validation_seconds"]) for row in rows])
    return (
        np.array([int(row["epoch"]) for row in rows]),
        seconds,
        np.array([float(r[f"valid_{_METRIC}"]) for r in rows]),
    )


def figures(day: int, start: str, run: RunDirectory, goal: float) -> dict[str, str | int]:
    """A row of the table."""
    epochs, seconds, valid = history(run)
    reached = np.flatnonzero(valid >= goal)
    first = reached[0] if len(reached) else None
    return {
        "day": day,
        "start": start,
        "epochs": int(epochs[-1]),
        "seconds": f"{run.metrics['seconds']:.1f}",
        "epochs to equal": "never" if first is None else int(epochs[first]),
        "seconds to equal": "never" if first is None else f"{seconds[first]:.1f}",
        "valid": f"{run.metrics['valid'][_METRIC]:.4f}",
        "test": f"{run.evaluate('test', (20,)).metrics.values[_METRIC]:.4f}",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--days", type=int, default=10, help="in which the log is cut")
    parser.add_argument("--first", type=int, default=5, help="the first day with a model to start from is the next")
    parser.add_argument("--config", type=Path, default=Path("configs/default.yaml"))
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE", help="override a setting")
    arguments = parser.parse_args()
    quieten_libraries()
    print(describe_run("benchmarks.warm_start"), flush=True)
    arguments.work.mkdir(parents=True, exist_ok=True)
    config = Config.load(arguments.config, ("training.evaluate_every=1", "training.patience=10", *arguments.set))
    random = config.model_copy(update={"model": config.model.model_copy(update={"initializer": "random"})})
    table = read_interactions(str(DATA["ml-100k"].path))
    if table.interactions.timestamp is None:
        raise ValueError("the log has no time")
    order = np.argsort(np.argsort(table.interactions.timestamp, kind="stable"))
    day_of = 1 + order * arguments.days // len(table)
    rows = []
    before = arguments.work / f"cold-{arguments.first}"
    part = split_random(table, 0.1, 0.1, config.seed)
    run(day_dataset(table, day_of, part, arguments.first), config, before, None)
    for day in range(arguments.first + 1, arguments.days + 1):
        dataset = day_dataset(table, day_of, part, day)
        cold = run(dataset, config, arguments.work / f"cold-{day}", None)
        scratch = run(dataset, random, arguments.work / f"random-{day}", None)
        warm = run(dataset, config, arguments.work / f"warm-{day}", before)
        before = warm.path
        goal = _CLOSE * float(history(cold)[2].max())
        starts = {f"cold ({config.model.initializer})": cold, "cold (random)": scratch, "warm": warm}
        rows += [figures(day, start, one, goal) for start, one in starts.items()]
        for row in rows[-len(starts) :]:
            print("  ".join(f"{name} {value}" for name, value in row.items()), flush=True)
    with (arguments.work / "warm_start.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, _COLUMNS)
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
