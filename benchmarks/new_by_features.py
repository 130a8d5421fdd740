"""New users and items by their features: `python -m benchmarks.new_by_features --work W [--lightfm PYTHON]`.

A tenth of the items, or users, is left out of training whole, and known by features alone. NDCG@20 is that of their
interactions but ten of each drawn at random, with these rows: those that the ridge regression predicts; those after 1,
2, 5 and 10 of the ten (one hop through the learned map, as `add-items` and `recommend_for_history` make them), alone
and blended with the prediction; LightFM's (WARP, identity and features), sums of feature embeddings. Popularity stands
beside them. New items are ranked among all items, and among the new ones alone, where popularity is random. The ten
aren't ranked for their users. Trainings are kept in W.
"""

from __future__ import annotations

import argparse
import csv
import os
import subprocess
import tempfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import scipy.sparse
import tensorflow as tf

from benchmarks.cold_start import without
from benchmarks.timing import SHARED_DATA, describe_run
from tf_hqgnn.config import Config
from tf_hqgnn.data.feature_table import FeatureTable
from tf_hqgnn.data.loading import load_dataset
from tf_hqgnn.evaluation.full_ranking import evaluate_embeddings, evaluate_popularity
from tf_hqgnn.features.columns import fit_columns
from tf_hqgnn.features.encoder import FeatureEncoder
from tf_hqgnn.features.model import blend, chunks_of
from tf_hqgnn.logs import quieten_libraries
from tf_hqgnn.retrieval.histories import fit_hop_map, hop
from tf_hqgnn.runs.run_directory import RunDirectory
from tf_hqgnn.training.train import train
from tf_hqgnn.types import Interactions, concatenate

_SHARE = 0.1
_K = 20
_COUNTS = (1, 2, 5, 10)
# What is known of whom.
DATA = {
    "ml-100k": ("items.csv,item_features.csv", "genres,year", "user_features.csv", "age,occupation"),
    "lastfm": ("item_features.csv", "attributes", None, None),
    "beauty": ("item_features.csv", "attributes", None, None),
    "toys": ("item_features.csv", "attributes", None, None),
    "sports": ("item_features.csv", "attributes", None, None),
}


def settings(name: str, config: Config) -> Config:
    """The settings of a data set: a tenth for validation, nothing for test."""
    folder = SHARED_DATA / name
    items, item_names, users, user_names = DATA[name]
    values: dict[str, object] = {"data.path": str(folder / "interactions.csv"), "data.split.test": 0.0}
    values["data.items_path"] = ",".join(str(folder / one) for one in items.split(","))
    values["data.item_features"] = item_names
    if users is not None:
        values |= {"data.users_path": str(folder / users), "data.user_features": user_names}
    return config.with_values(values)


class Study:
    """One side of one data set: who is new, a model without them, and how its rows are judged."""

    def __init__(self, name: str, side: str, config: Config, work: Path) -> None:
        self.name, self.side = name, side
        dataset = load_dataset(config.data, config.seed)
        number = getattr(dataset, f"num_{side}s")
        rng = np.random.default_rng(config.seed)
        self.new = np.zeros(number, bool)
        self.new[rng.permutation(number)[: int(_SHARE * number)]] = True
        self.dataset = without(dataset, self.new, f"{side}_index")
        out = work / f"{name}-{side}s-{config.seed}"
        if not out.exists():
            train(self.dataset, config, out, resume=True)
        self.run = RunDirectory.load(out)
        everything = concatenate(dataset.train, dataset.valid)
        theirs = everything.take(self.new[getattr(everything, f"{side}_index")])
        # The other side must have been trained, or nothing can be said.
        known = np.zeros(dataset.num_users if side == "item" else dataset.num_items, bool)
        other = "user" if side == "item" else "item"
        known[getattr(self.dataset.train, f"{other}_index")] = True
        theirs = theirs.take(known[getattr(theirs, f"{other}_index")])
        first = first_ones(getattr(theirs, f"{side}_index"), max(_COUNTS), rng)
        self.first, self.targets = theirs.take(first), theirs.take(~first)
        self.seen = concatenate(self.dataset.train, self.dataset.valid, self.first)

    def quality(self, users: np.ndarray, items: np.ndarray, among_new: bool = False) -> float:
        """NDCG@20; `among_new` ranks the new items alone."""
        targets, seen = self.targets, self.seen
        if among_new:
            place = np.cumsum(self.new) - 1
            items = items[self.new]
            targets, seen = (
                Interactions(part.user_index[rows], place[part.item_index[rows]].astype(np.int32))
                for part in (targets, seen)
                for rows in [self.new[part.item_index]]
            )
        csr = seen.to_csr(len(users))
        values = evaluate_embeddings(users, items, targets, csr, np.ones(len(items)), (_K,)).values
        return values[f"ndcg@{_K}"]

    def popularity(self) -> float:
        """NDCG@20 of what most users took."""
        csr = self.seen.to_csr(self.dataset.num_users)
        degree = np.bincount(self.dataset.train.item_index, minlength=self.dataset.num_items)
        return evaluate_popularity(self.targets, csr, degree, (_K,)).values[f"ndcg@{_K}"]

    def rows(self, new_rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Rows of users and items, those of the new ones replaced."""
        users, items = self.run.user_embeddings, self.run.item_embeddings
        side = users if self.side == "user" else items
        found = np.where(self.new[:, np.newaxis], new_rows, side)
        return (found, items) if self.side == "user" else (users, found)


def first_rows(
    neighbours: scipy.sparse.csr_matrix, others: np.ndarray, hop_map: np.ndarray, count: int, seed: int
) -> np.ndarray:
    """Rows as they would be after `count` interactions, drawn at random from `neighbours` [n, m]; float32 [n, d]."""
    rng = np.random.default_rng((seed, count))
    matrix = neighbours.tocsr().copy()
    places = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    order = np.lexsort((rng.random(len(places)), places))
    rank = np.empty(len(places), np.int64)
    rank[order] = np.arange(len(places)) - matrix.indptr[:-1][places]
    matrix.data = (rank < count).astype(np.float32)
    matrix.eliminate_zeros()
    rows: np.ndarray = hop(matrix, others) @ hop_map
    return rows


def first_ones(owner: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Bool: `count` entries of each owner, drawn at random."""
    order = np.lexsort((rng.random(len(owner)), owner))
    starts = np.searchsorted(owner[order], np.arange(owner.max(initial=0) + 1))
    chosen = np.zeros(len(owner), bool)
    chosen[order] = np.arange(len(owner)) - starts[owner[order]] < count
    return chosen


def study(name: str, side: str, config: Config, work: Path, lightfm: Path | None, epochs: int) -> list[dict[str, str]]:
    """The figures of one side of a data set."""
    one = Study(name, side, config, work)
    dataset, run = one.dataset, one.run
    model = getattr(run.features, f"{side}s")
    table = getattr(dataset, f"{side}_features")
    predicted, known = model.predict(table)
    noise = np.random.default_rng(config.seed).normal(size=predicted.shape).astype(np.float32)
    found: dict[str, tuple[np.ndarray, np.ndarray]] = {"random": one.rows(noise), "ridge": one.rows(predicted)}
    shape = (dataset.num_users, dataset.num_items)
    parts = {kind: (part.user_index, part.item_index) for kind, part in (("t", dataset.train), ("f", one.first))}
    pairs, first = (
        scipy.sparse.csr_matrix((np.ones(len(both[0]), np.float32), both), shape) for both in parts.values()
    )
    others = run.item_embeddings
    if side == "item":
        pairs, first, others = pairs.T.tocsr(), first.T.tocsr(), run.user_embeddings
    own = run.user_embeddings if side == "user" else run.item_embeddings
    hop_map = fit_hop_map(pairs, others, own)
    for count in _COUNTS:
        rows = first_rows(first, others, hop_map, count, config.seed)
        counts = np.minimum(np.diff(first.indptr), count)
        found[f"{count} alone"] = one.rows(rows)
        found[f"{count} blended"] = one.rows(np.where(known[:, None], blend(predicted, rows, counts), rows))
    if lightfm is not None:
        found["LightFM"] = _lightfm(one, lightfm, config, work, epochs)
    about = {"data": name, "side": side, "new": str(one.new.sum()), "interactions": str(len(one.targets))}
    about["users"] = str(len(np.unique(one.targets.user_index)))
    results = [about | {"rows": "popularity", "ndcg": f"{one.popularity():.4f}", "among_new": ""}]
    for what, (users, items) in found.items():
        among = f"{one.quality(users, items, among_new=True):.4f}" if side == "item" else ""
        results.append(about | {"rows": what, "ndcg": f"{one.quality(users, items):.4f}", "among_new": among})
    for result in results:
        print("  ".join(f"{value:>12}" for value in result.values()), flush=True)
    print(f"  {model.describe()}", flush=True)
    return results


def _lightfm(one: Study, python: Path, config: Config, work: Path, epochs: int) -> tuple[np.ndarray, np.ndarray]:
    dataset = one.dataset
    arrays: dict[str, np.ndarray] = {
        "user_index": dataset.train.user_index,
        "item_index": dataset.train.item_index,
        "dim": np.array(config.model.embedding_dim),
        "seed": np.array(config.seed),
        "epochs": np.array(epochs),
    }
    for side, number in (("user", dataset.num_users), ("item", dataset.num_items)):
        trained = np.zeros(number, bool)
        trained[arrays[f"{side}_index"]] = True
        arrays[f"{side}_trained"] = trained
        arrays[f"{side}_features"] = encoded(getattr(dataset, f"{side}_features"), trained)
    source, out = (work / f"lightfm-{one.name}-{one.side}-{name}.npz" for name in ("in", "out"))
    np.savez(source, **arrays)
    driver = Path(__file__).parent / "lightfm" / "driver.py"
    subprocess.run([str(python), str(driver), str(source), str(out)], check=True)
    rows = np.load(out)
    source.unlink()
    return rows["user"], rows["item"]


def encoded(table: FeatureTable | None, trained: np.ndarray) -> np.ndarray:
    """The numbers that the ridge regression has, float32 [n, F], but not centred."""
    if table is None:
        return np.zeros((len(trained), 0), np.float32)
    encoder = FeatureEncoder(fit_columns(table.take(trained))[0])
    return np.concatenate(
        [encoder.call(tf.constant(pairs, tf.string))[0].numpy() for pairs in chunks_of(table.pairs())]
    )


def trained_rows(name: str, config: Config) -> None:
    """Prints test NDCG@20 of a model without features, and of one whose rows of few interactions they help."""
    figures = []
    for used in (config, config.with_values({"data.item_features": [], "data.user_features": []})):
        used = used.with_values({"data.split.test": _SHARE})
        with tempfile.TemporaryDirectory() as folder:
            result = train(load_dataset(used.data, used.seed), used, Path(folder) / "run")
            found = RunDirectory.load(result.run_dir).evaluate("test", (_K,)).metrics.values[f"ndcg@{_K}"]
        worths = {side: about["worth"] for side, about in (result.features or {}).items()}
        figures.append(f"test {found:.4f}, valid {result.valid[f'ndcg@{_K}']:.4f} {worths or 'without features'}")
    print(f"{name:>12}  {'  '.join(reversed(figures))}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--data", nargs="+", choices=tuple(DATA), default=list(DATA))
    parser.add_argument("--config", type=Path, default=Path("configs/default.yaml"))
    parser.add_argument("--seed", type=int, default=2020)
    parser.add_argument("--lightfm", type=Path, help="Python of .venv-lightfm")
    parser.add_argument("--epochs", type=int, default=30, help="of LightFM")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE", help="override a setting")
    parser.add_argument("--trained", action="store_true", help="instead: what features add to rows that are trained")
    arguments = parser.parse_args()
    quieten_libraries()
    print(describe_run("benchmarks.new_by_features"), flush=True)
    arguments.work.mkdir(parents=True, exist_ok=True)
    config = Config.load(arguments.config, (f"seed={arguments.seed}", *arguments.set))
    results = []
    for name in arguments.data:
        own = settings(name, config)
        if arguments.trained:
            trained_rows(name, own)
            continue
        for side in ("item", "user") if own.data.users_path else ("item",):
            results += study(name, side, own, arguments.work, arguments.lightfm, arguments.epochs)
    if not results:
        return
    with (arguments.work / f"new_by_features-{arguments.seed}.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, results[0])
        writer.writeheader()
        writer.writerows(results)


if __name__ == "__main__":
    main()
