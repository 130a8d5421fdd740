"""A validation file of whole contexts: `python -m benchmarks.holdout TRAIN.csv --out DIR`, which gets two files.

Of each user, a tenth of the training interactions: one drawn at random, and those with the items most like it
(cosine of the graph's leading singular vectors). A tenth drawn one by one leaves the neighbours of what it takes in
training, and so prefers models that follow each user more closely than a test of another time or place rewards:
Gowalla's standard test is such a one (benchmarks/README.md). Nothing but the training file is looked at.
"""

from __future__ import annotations

import argparse
import csv
from dataclasses import replace
from pathlib import Path

import numpy as np

from tf_hqgnn.config import DataConfig, ModelConfig
from tf_hqgnn.data.loading import load_dataset
from tf_hqgnn.data.split_dataset import SplitDataset
from tf_hqgnn.graph.interaction_graph import InteractionGraph
from tf_hqgnn.graph.unit_rows import unit_rows
from tf_hqgnn.models.initialization import spectral_embeddings
from tf_hqgnn.types import Interactions

_SHARE = 0.1
# The graph's own adjacency.
_SPECTRAL = ModelConfig(
    embedding_dim=64, spectral_user_exponent=0.5, spectral_item_exponent=0.5, spectral_power=1.0, spectral_iterations=2
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("train", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=2020)
    arguments = parser.parse_args()
    split = {"valid": 0.0, "test": 0.0}
    dataset = load_dataset(DataConfig.model_validate({"path": str(arguments.train), "split": split}), arguments.seed)
    dataset = hold_out_contexts(dataset, arguments.seed)
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name, part in (("train", dataset.train), ("valid", dataset.valid)):
        with (arguments.out / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["user_id", "item_id"])
            writer.writerows(zip(dataset.user_ids[part.user_index], dataset.item_ids[part.item_index]))
        print(f"{arguments.out / name}.csv: {len(part):,} interactions")


def hold_out_contexts(dataset: SplitDataset, seed: int) -> SplitDataset:
    """`dataset` with a part of its training interactions, each once, as validation interactions."""
    graph = InteractionGraph.from_interactions(dataset.train, dataset.num_users, dataset.num_items)
    users = np.repeat(np.arange(graph.num_users, dtype=np.int32), graph.user_degree)
    held_out = choose(graph, seed)
    train, valid = (Interactions(users[rows], graph.indices[rows]) for rows in (~held_out, held_out))
    return replace(dataset, train=train, valid=valid)


def choose(graph: InteractionGraph, seed: int) -> np.ndarray:
    """Bool [edges], in the order of `graph.indices`: what is held out; at least one of each user with two or more."""
    items = unit_rows(spectral_embeddings(graph, _SPECTRAL, seed)[1])
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
