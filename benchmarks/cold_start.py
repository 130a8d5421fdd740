"""New users and items without training, against the same ones in training: `python -m benchmarks.cold_start --work W`.

A tenth of the users is left out of training and embedded by its history (`recommend_for_history`); a tenth of the
items is left out and added from its interactions (`tf-hqgnn add-items`). Both are compared with a model that was
trained on everything, by the held-out validation interactions of those users, or with those items: full catalogue,
seen items masked. Trainings are kept in W.
"""

from __future__ import annotations

import argparse
import os
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import scipy.sparse

from benchmarks.peers.comparison import DATA
from benchmarks.timing import describe_run
from tf_hqgnn.config import Config
from tf_hqgnn.data.interactions import InteractionTable
from tf_hqgnn.data.items import rows_of
from tf_hqgnn.data.loading import load_dataset
from tf_hqgnn.data.report import ReadReport
from tf_hqgnn.data.split_dataset import SplitDataset
from tf_hqgnn.evaluation.full_ranking import evaluate_embeddings
from tf_hqgnn.export.bundle import ServingBundle, as_float32
from tf_hqgnn.export.new_items import extend
from tf_hqgnn.graph.interaction_graph import InteractionGraph
from tf_hqgnn.logs import quieten_libraries
from tf_hqgnn.retrieval.histories import hop
from tf_hqgnn.runs.run_directory import RunDirectory
from tf_hqgnn.training.train import train
from tf_hqgnn.types import Interactions

_SHARE = 0.1
_K = 20


def trained(dataset: SplitDataset, config: Config, out: Path) -> ServingBundle:
    """What a training on `dataset` serves; done once."""
    if not out.exists():
        train(dataset, config, out, resume=True)
    return ServingBundle.from_run(RunDirectory.load(out))


def without(dataset: SplitDataset, left_out: np.ndarray, side: str) -> SplitDataset:
    """`dataset` without the training and validation interactions of users or items."""
    parts = (dataset.train, dataset.valid)
    kept = [part.take(~left_out[getattr(part, side)]) for part in parts]
    return replace(dataset, train=kept[0], valid=kept[1])


def quality(dataset: SplitDataset, users: np.ndarray, items: np.ndarray, targets: Interactions) -> float:
    """NDCG@20 of rows, training items of `dataset` masked."""
    graph = InteractionGraph.from_interactions(dataset.train, dataset.num_users, dataset.num_items)
    values = evaluate_embeddings(users, items, targets, graph.seen(), graph.item_degree, (_K,)).values
    return values[f"ndcg@{_K}"]


def compare(name: str, config: Config, work: Path) -> None:
    """Prints the figures of one data set."""
    dataset = load_dataset(DATA[name], config.seed)
    rng = np.random.default_rng(config.seed)
    everything = trained(dataset, config, work / f"{name}-all")
    all_users, all_items = _rows_in_order(everything, dataset)

    new = np.isin(np.arange(dataset.num_users), rng.permutation(dataset.num_users)[: int(_SHARE * dataset.num_users)])
    bundle = trained(without(dataset, new, "user_index"), config, work / f"{name}-users")
    _, items = _rows_in_order(bundle, dataset)
    graph = InteractionGraph.from_interactions(dataset.train, dataset.num_users, dataset.num_items)
    indptr, indices = graph.seen()
    shape = dataset.num_users, dataset.num_items
    taken = scipy.sparse.csr_matrix((np.ones(len(indices), np.float32), indices, indptr), shape)
    users = hop(taken, items) @ bundle.user_hop_map
    targets = dataset.valid.take(new[dataset.valid.user_index])
    _tell(name, "users", quality(dataset, users, items, targets), quality(dataset, all_users, all_items, targets))

    new = np.isin(np.arange(dataset.num_items), rng.permutation(dataset.num_items)[: int(_SHARE * dataset.num_items)])
    bundle = trained(without(dataset, new, "item_index"), config, work / f"{name}-items")
    targets = dataset.valid.take(new[dataset.valid.item_index])
    in_training = quality(dataset, all_users, all_items, targets)
    pairs = dataset.train.take(new[dataset.train.item_index])
    extended = _with_items(bundle, dataset, pairs, new)
    users, items = _rows_in_order(extended, dataset)
    _tell(name, "items", quality(dataset, users, items, targets), in_training)


def _with_items(bundle: ServingBundle, dataset: SplitDataset, pairs: Interactions, new: np.ndarray) -> ServingBundle:
    """`bundle`, which must not know the new items, with them."""
    old = np.flatnonzero(~np.isin(bundle.item_ids, dataset.item_ids[new]))
    known = bundle.seen_matrix()[:, old].tocsr()
    trimmed = replace(
        bundle,
        item_ids=bundle.item_ids[old],
        items=as_float32(bundle.items)[old],
        seen=(known.indptr.astype(np.int64), known.indices.astype(np.int32)),
        item_popularity=bundle.item_popularity[old],
        item_categories=None,
        item_available=None,
    )
    used, item_index = np.unique(pairs.item_index, return_inverse=True)
    log = Interactions(pairs.user_index, item_index.astype(np.int32))
    report = ReadReport(len(pairs), len(pairs), 0, 0)
    table = InteractionTable(dataset.user_ids, dataset.item_ids[used], log, None, report)
    return extend(trimmed, table)[0]


def _rows_in_order(bundle: ServingBundle, dataset: SplitDataset) -> tuple[np.ndarray, np.ndarray]:
    """The rows of users and of items in the order of `dataset`; zeros for what the bundle doesn't know."""
    found = []
    sides = (dataset.user_ids, bundle.user_ids, bundle.users), (dataset.item_ids, bundle.item_ids, bundle.items)
    for ids, known, table in sides:
        values = as_float32(table)
        rows = np.zeros((len(ids), values.shape[1]), np.float32)
        rows[rows_of(ids, known)] = values
        found.append(rows)
    return found[0], found[1]


def _tell(name: str, what: str, found: float, reference: float) -> None:
    print(f"{name:>10}  new {what:<6} NDCG@{_K} {found:.4f}, in training {reference:.4f}: {found / reference:.1%}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--data", nargs="+", choices=tuple(DATA), default=["ml-100k", "beauty"])
    parser.add_argument("--config", type=Path, default=Path("configs/default.yaml"))
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE", help="override a setting")
    arguments = parser.parse_args()
    quieten_libraries()
    print(describe_run("benchmarks.cold_start"), flush=True)
    arguments.work.mkdir(parents=True, exist_ok=True)
    for name in arguments.data:
        compare(name, Config.load(arguments.config, tuple(arguments.set)), arguments.work)


if __name__ == "__main__":
    main()
