"""A validation file of whole contexts: `python -m benchmarks.holdout TRAIN.csv --out DIR`, which gets two files.

Of each user, a tenth of the training interactions: one drawn at random, and those with the items most like it
(cosine of the graph's leading singular vectors). A tenth drawn one by one leaves the neighbours of what it takes in
training, and so prefers models that follow each user more closely than a test of another time or place rewards:
Gowalla's standard test is such a one (benchmarks/README.md). Nothing but the training file is looked at.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np

from tf_hqgnn.config import DataConfig
from tf_hqgnn.data.loading import load_dataset
from tf_hqgnn.graph.interaction_graph import InteractionGraph
from tf_hqgnn.initialization import spectral_embeddings

_SHARE = 0.1
_DIM = 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("train", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=2020)
    arguments = parser.parse_args()
    split = {"valid": 0.0, "test": 0.0}
    dataset = load_dataset(DataConfig.model_validate({"path": str(arguments.train), "split": split}), arguments.seed)
    graph = InteractionGraph.from_interactions(dataset.train, dataset.num_users, dataset.num_items)
    held_out = choose(graph, arguments.seed)
    users = np.repeat(np.arange(graph.num_users), graph.user_degree)
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name, rows in (("train", ~held_out), ("valid", held_out)):
        with open(arguments.out / f"{name}.csv", "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["user_id", "item_id"])
            writer.writerows(zip(dataset.user_ids[users[rows]], dataset.item_ids[graph.indices[rows]]))
        print(f"{arguments.out / name}.csv: {np.count_nonzero(rows):,} interactions")


def choose(graph: InteractionGraph, seed: int) -> np.ndarray:
    """Bool [edges], in the order of `graph.indices`: what is held out; at least one of each user with two or more."""
    _, items = spectral_embeddings(graph, min(_DIM, graph.num_users, graph.num_items), seed)
    rng = np.random.default_rng(seed)
    held_out = np.zeros(graph.num_edges, bool)
    for start, end in zip(graph.indptr[:-1], graph.indptr[1:]):
        if end - start < 2:
            continue
        rows = items[graph.indices[start:end]]
        likeness = rows @ rows[rng.integers(end - start)]
        count = max(1, round(_SHARE * (end - start)))
        held_out[start + np.argsort(-likeness, kind="stable")[:count]] = True
    return held_out


if __name__ == "__main__":
    main()
