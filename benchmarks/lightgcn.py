"""LightGCN of tf_hqgnn and of RecBole on the same split with the same budget: `python -m benchmarks.lightgcn`.

Needs RecBole's environment, `make .venv-recbole/.installed`. For each data set: a split, a timing part in which the two
take turns of a few epochs, then both train to the end, one after the other. The best rows of both (by validation
NDCG@20) are judged by tf_hqgnn.evaluation.metrics, and RecBole's by its own code as well.
"""

from __future__ import annotations

import argparse
import csv
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

from benchmarks.recbole import peer
from benchmarks.recbole.turns import TURN, take_turns
from benchmarks.timing import SHARED_DATA, describe_run
from tf_hqgnn.config import Config
from tf_hqgnn.data.loading import load_dataset
from tf_hqgnn.data.split_dataset import SplitDataset
from tf_hqgnn.evaluation.full_ranking import evaluate_embeddings
from tf_hqgnn.training.train import train
from tf_hqgnn.types import concatenate

import tensorflow as tf  # isort: skip

_CONFIG = Path(__file__).resolve().parent.parent / "configs" / "hqgnn_lightgcn.yaml"
_K_CORE = {"ml-100k": 0, "beauty": 5}
_QUALITY = ("valid NDCG@20", "test Recall@20", "test NDCG@20")


def judge(dataset: SplitDataset, users: np.ndarray, items: np.ndarray) -> dict[str, float]:
    """The metrics that both sides are compared by: full ranking, what was seen before masked."""
    popularity = np.bincount(dataset.train.item_index, minlength=dataset.num_items)
    known = concatenate(dataset.train, dataset.valid)
    valid, test = (
        evaluate_embeddings(users, items, targets, seen.to_csr(dataset.num_users), popularity, (20,)).values
        for targets, seen in ((dataset.valid, dataset.train), (dataset.test, known))
    )
    return dict(zip(_QUALITY, (valid["ndcg@20"], test["recall@20"], test["ndcg@20"])))


def train_ours(dataset: SplitDataset, config: Config, folder: Path) -> dict[str, Any]:
    """One row of the table."""
    result = train(dataset, config, folder / "run")
    with np.load(result.run_dir / "embeddings.npz") as arrays:
        quality = judge(dataset, arrays["user"], arrays["item"])
    return {"epochs": result.epochs, "best epoch": result.best_epoch, **quality, "total s": result.seconds}


def train_recbole(dataset: SplitDataset, folder: Path) -> tuple[dict[str, Any], dict[str, float]]:
    """One row of the table, and the same metrics as RecBole reports them."""
    result, users, items = peer.fit(folder)
    row = {"epochs": result["epochs"], "best epoch": result["best_epoch"], **judge(dataset, users, items)}
    valid, test = result["own"]["valid"], result["own"]["test"]
    own = dict(zip(_QUALITY, (valid["ndcg@20"], test["recall@20"], test["ndcg@20"])))
    return {**row, "total s": result["fit_seconds"]}, own


def compare(name: str, config: Config, repetitions: int) -> list[dict[str, Any]]:
    """Both sides on one data set: two rows of the table."""
    dataset = load_dataset(config.data, config.seed)
    sizes = f"{dataset.num_users:,} users, {dataset.num_items:,} items, {len(dataset.train):,} train"
    print(f"\n{name}: {sizes}, {len(dataset.valid):,} valid, {len(dataset.test):,} test")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        peer.prepare(dataset, config, folder / "recbole")
        _tell(f"{name}: taking turns (seconds ours/RecBole)")
        seconds = take_turns(dataset, config, folder / "recbole", repetitions)
        _tell(f"{name}: training ours to the end")
        ours = train_ours(dataset, config, folder)
        _tell(f"{name}: training RecBole's to the end")
        theirs, own = train_recbole(dataset, folder / "recbole")
    rows = [{"data": name, "model": "tf_hqgnn", **ours}, {"data": name, "model": "RecBole", **theirs}]
    for row, side in zip(rows, ("ours", "RecBole")):
        for what, sides in seconds.items():
            (best, processor), (median, _) = sides[side].min(axis=0), np.median(sides[side], axis=0)
            row |= {f"{what} s best": best, f"{what} s median": median, f"{what} CPU s best": processor}
    report(rows, own)
    return rows


def report(rows: list[dict[str, Any]], own: dict[str, float]) -> None:
    """Prints the table of one data set and the ratios."""
    columns = [key for key in rows[0] if key not in ("data", "model")]
    header = ["", *(row["model"] for row in rows), "ratio"]
    print("".join(f"{text:>22}" if n == 0 else f"{text:>12}" for n, text in enumerate(header)))
    for key in columns:
        digits = 4 if key in _QUALITY else 0 if "epoch" in key else 2
        first, second = (row[key] for row in rows)
        print(f"{key:>22}{first:12.{digits}f}{second:12.{digits}f}{first / second:12.3f}")
    difference = max(abs(rows[1][key] - own[key]) for key in _QUALITY)
    print(f"RecBole's own code gives its model {', '.join(f'{key} {own[key]:.4f}' for key in _QUALITY)}: ", end="")
    print(f"at most {difference:.1e} from the figures above", flush=True)


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", choices=_K_CORE, default=list(_K_CORE))
    parser.add_argument("--config", default=str(_CONFIG), help="settings of both sides")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE", help="override a setting")
    parser.add_argument("--epochs", type=int, help="at most; the config's by default")
    parser.add_argument("--seed", type=int, default=2020, help="of the split and of both trainings")
    parser.add_argument("--repetitions", type=int, default=5, help=f"turns of {TURN} epochs for the times")
    parser.add_argument("--threads", type=int, help="of both sides; default: all cores")
    parser.add_argument("--out", type=Path, help="CSV to write")
    arguments = parser.parse_args()
    peer.check_environment()
    if arguments.threads:
        tf.config.threading.set_intra_op_parallelism_threads(arguments.threads)
        os.environ["OMP_NUM_THREADS"] = str(arguments.threads)
    print(describe_run("benchmarks.lightgcn"), flush=True)
    rows = []
    for name in arguments.data:
        path = SHARED_DATA / name / "interactions.csv"
        overrides = [
            f"data.path={path}",
            f"data.k_core={_K_CORE[name]}",
            f"seed={arguments.seed}",
            "quantization.bits=null",
        ]
        overrides += arguments.set
        if arguments.epochs:
            overrides.append(f"training.max_epochs={arguments.epochs}")
        rows += compare(name, Config.load(arguments.config, tuple(overrides)), arguments.repetitions)
    if arguments.out:
        with arguments.out.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, fieldnames=list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)


if __name__ == "__main__":
    main()
