"""What a mix of trained rows with EASE is worth, and what of it fits in columns: `python -m benchmarks.mixed`.

The scores of both are divided by their deviation for each user, and EASE's are multiplied by the weight
(`tf_hqgnn.training.ease_columns`). A weight is to be chosen by validation.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

from benchmarks.peers.comparison import DATA
from benchmarks.timing import describe_run
from tf_hqgnn.config import Config
from tf_hqgnn.config.presets import find_config
from tf_hqgnn.data.loading import load_dataset
from tf_hqgnn.data.split_dataset import SplitDataset
from tf_hqgnn.evaluation.full_ranking import evaluate_embeddings
from tf_hqgnn.graph.ease import ease_rows
from tf_hqgnn.graph.interaction_graph import InteractionGraph
from tf_hqgnn.logs import quieten_libraries
from tf_hqgnn.runs.run_directory import RunDirectory
from tf_hqgnn.training.ease_columns import Rows, mixed
from tf_hqgnn.training.train import train
from tf_hqgnn.types import concatenate

_REGULARIZATION = 250.0
_WEIGHTS = (0.15, 0.3, 0.6)
_COLUMNS = (64, 192, 1024)


def _judged(dataset: SplitDataset, rows: Rows) -> str:
    popularity = np.bincount(dataset.train.item_index, minlength=dataset.num_items)
    found = []
    for targets, parts in ((dataset.valid, [dataset.train]), (dataset.test, [dataset.train, dataset.valid])):
        seen = concatenate(*parts)
        graph = InteractionGraph.from_interactions(seen, dataset.num_users, dataset.num_items)
        found.append(evaluate_embeddings(*rows, targets, graph.seen(), popularity, (20,)).values)
    valid, test = found
    return f"{valid['ndcg@20']:.4f} | {test['recall@20']:.4f} | {test['ndcg@20']:.4f}"


def measure(data: str, preset: str, seed: int) -> None:
    """Prints the rows of one log."""
    dataset = load_dataset(DATA[data], seed)
    config = Config.load(find_config(preset), (f"seed={seed}", "quantization.bits=null"))
    with tempfile.TemporaryDirectory() as folder:
        run = RunDirectory.load(train(dataset, config, Path(folder) / "run").run_dir)
        ours = run.user_embeddings, run.item_embeddings
    graph = InteractionGraph.from_interactions(dataset.train, dataset.num_users, dataset.num_items)
    print(f"| {data} | {seed} | `{preset}` | {_judged(dataset, ours)} |", flush=True)
    for columns in _COLUMNS:
        other = ease_rows(graph.seen(), dataset.num_items, columns, _REGULARIZATION, seed)
        print(f"| {data} | {seed} | EASE in {columns} columns | {_judged(dataset, other)} |", flush=True)
        for weight in _WEIGHTS:
            what = f"both, {columns} columns, times {weight}"
            print(f"| {data} | {seed} | {what} | {_judged(dataset, mixed(ours, other, weight))} |", flush=True)


def main() -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.mixed", description=__doc__)
    parser.add_argument("--data", nargs="+", choices=tuple(DATA), default=["ml-100k", "lastfm"])
    parser.add_argument("--preset", default="movielens")
    parser.add_argument("--seeds", nargs="+", type=int, default=[2020])
    options = parser.parse_args()
    quieten_libraries()
    print(describe_run("benchmarks.mixed"), flush=True)
    print(
        "| log | seed | rows | valid NDCG@20 | test Recall@20 | test NDCG@20 |\n| --- | --- | --- | --- | --- | --- |"
    )
    for data in options.data:
        for seed in options.seeds:
            measure(data, options.preset, seed)


if __name__ == "__main__":
    main()
