"""Seconds of an epoch of training and of a full-ranking validation: `python -m benchmarks.training [DATA.csv]`."""

from __future__ import annotations

import argparse
import csv
import os
import platform
import statistics
import tempfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from tf_hqgnn.config import Config
from tf_hqgnn.data.loading import load_dataset
from tf_hqgnn.training.train import train

_ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "data", nargs="?", default=str(_ROOT.parent / "shared" / "data" / "beauty" / "interactions.csv")
    )
    parser.add_argument("--config", default=str(_ROOT / "configs" / "lightgode.yaml"))
    parser.add_argument("--epochs", type=int, default=8)
    arguments = parser.parse_args()
    overrides = (f"data.path={arguments.data}", f"training.max_epochs={arguments.epochs}")
    config = Config.load(arguments.config, overrides)
    dataset = load_dataset(config.data, config.seed)
    with tempfile.TemporaryDirectory() as folder:
        result = train(dataset, config, Path(folder) / "run")
        with (result.run_dir / "history.csv").open(encoding="utf-8") as file:
            rows = list(csv.DictReader(file))[1:]  # the first epoch compiles
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores; {dataset.num_users} users, ", end="")
    print(f"{dataset.num_items} items, {len(dataset.train)} train; batch {config.training.batch_size}, ", end="")
    print(f"{config.model.embedding_dim} dimensions; {len(rows)} epochs after the first")
    for name, what in (("train_seconds", "training epoch"), ("validation_seconds", "propagation + full ranking")):
        seconds = [float(row[name]) for row in rows]
        print(f"{what:>28}: best {min(seconds):.2f} s, median {statistics.median(seconds):.2f} s")


if __name__ == "__main__":
    main()
