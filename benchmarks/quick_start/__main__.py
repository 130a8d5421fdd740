"""Lines, seconds, peak memory and NDCG@20, from a DataFrame to 20 items for every user.

    .venv/bin/python -m benchmarks.quick_start [--data ml-100k gowalla]

MovieLens 100K: a random tenth of each user's interactions is held out; Gowalla: the standard split. Every snippet of
snippets.py has a process of its own, with the library's own settings; the peers' Python is .venv-quick-start, made with
requirements.lock beside this file. One judge for all.
"""

from __future__ import annotations

import argparse
import ast
import inspect
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.quick_start.snippets import IMPORTS
from benchmarks.timing import SHARED_DATA, describe_run
from tf_hqgnn.config import DataConfig, SplitConfig
from tf_hqgnn.data.loading import load_dataset
from tf_hqgnn.data.split_dataset import SplitDataset
from tf_hqgnn.evaluation.metrics import ranking_metrics

ROOT = Path(__file__).resolve().parents[2]
PEERS = ROOT / ".venv-quick-start" / "bin" / "python"
HEADER = "| data | library | lines | import s | seconds | CPU s | peak MiB | NDCG@20 |"


def count_lines(function: Callable[..., object]) -> int:
    """The statements of a function, which stand on a line each."""
    (tree,) = ast.parse(inspect.getsource(function)).body
    return len(tree.body)


def load(data: str) -> SplitDataset:
    """The log, divided into what is learnt from and what is held out."""
    folder = SHARED_DATA / data
    if (folder / "train.csv").exists():
        paths = {"train_path": str(folder / "train.csv"), "test_path": str(folder / "test.csv")}
        return load_dataset(DataConfig(**paths, split=SplitConfig(valid=0)), 2020)
    split = SplitConfig(valid=0, test=0.1)
    return load_dataset(DataConfig(path=str(folder / "interactions.csv"), split=split), 2020)


def ndcg(dataset: SplitDataset, table: pd.DataFrame) -> float:
    """NDCG@20 of recommendations with the columns user_id, rank and item_id."""
    rows = [{int(one): row for row, one in enumerate(ids)} for ids in (dataset.user_ids, dataset.item_ids)]
    table = table[(table["rank"] <= 20) & (table["item_id"] >= 0)]
    top = np.full((dataset.num_users, 20), -1, np.int32)
    users, items = table["user_id"].map(rows[0]).to_numpy(), table["item_id"].map(rows[1]).to_numpy()
    top[users, table["rank"].to_numpy() - 1] = items
    relevant, popularity = dataset.test.to_csr(dataset.num_users), np.ones(dataset.num_items)
    return ranking_metrics(top, relevant, [20], dataset.num_items, popularity).values["ndcg@20"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", default=["ml-100k", "gowalla"])
    arguments = parser.parse_args()
    if not PEERS.exists():
        sys.exit(f"{PEERS.relative_to(ROOT)} isn't there: `make .venv-quick-start/.installed` makes it")
    print(describe_run("benchmarks.quick_start"), HEADER, "| --- | --- " + "| ---: " * 6 + "|", sep="\n", flush=True)
    for data in arguments.data:
        dataset = load(data)
        with tempfile.TemporaryDirectory() as folder:
            log, out = Path(folder) / "log.csv", Path(folder) / "out.csv"
            train = dataset.train
            pairs = {"user_id": dataset.user_ids[train.user_index], "item_id": dataset.item_ids[train.item_index]}
            pd.DataFrame(pairs).to_csv(log, index=False)
            for snippet in IMPORTS:
                name = snippet.__name__
                python = sys.executable if name.startswith("tf_hqgnn") else str(PEERS)
                # implicit has threads of its own, and says so.
                threads = {} if name.startswith("tf_hqgnn") else {"OPENBLAS_NUM_THREADS": "1"}
                done = subprocess.run(
                    [python, "-m", "benchmarks.quick_start.measure", name, str(log), str(out)],
                    env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", **threads},
                    cwd=ROOT,
                    check=True,
                    stdout=subprocess.PIPE,
                    text=True,
                )
                found = json.loads(done.stdout.splitlines()[-1])
                cells = " | ".join(f"{found[name]:.1f}" for name in ("import_seconds", "seconds", "cpu_seconds"))
                cells += f" | {found['peak_mib']:,.0f}"
                quality = ndcg(dataset, pd.read_csv(out))
                print(f"| {data} | {name} | {count_lines(snippet)} | {cells} | {quality:.4f} |", flush=True)


if __name__ == "__main__":
    main()
