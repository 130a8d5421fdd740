"""tf_hqgnn in a process of its own, as its peers: `python -m benchmarks.peers.ours JOB`."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

from benchmarks.peers.job import Job, K, Split, versions_of
from benchmarks.peers.models import chooses
from tf_hqgnn import __version__
from tf_hqgnn.config import Config
from tf_hqgnn.data.split_dataset import SplitDataset
from tf_hqgnn.logs import quieten_libraries
from tf_hqgnn.runs.run_directory import RunDirectory
from tf_hqgnn.training.train import TrainResult, train
from tf_hqgnn.types import Interactions


def main() -> None:
    quieten_libraries()
    job = Job.load(Path(sys.argv[1]))
    split = Split.load(job.split)
    epochs = () if job.epochs is None else (f"training.max_epochs={job.epochs}",)
    # Other models' refits are jobs of their own.
    refit = f"training.refit={str(job.settings.get('refit', False)).lower()}"
    config = Config.load(job.settings["config"], (f"seed={job.seed}", *job.settings["set"], *epochs, refit))
    dataset = dataset_of(split, chooses(config))
    shutil.rmtree(job.folder / "run", ignore_errors=True)
    shutil.rmtree(job.folder / "run.partial", ignore_errors=True)
    with job.measure():
        # A page of plots is no part of training.
        result = train(dataset, config, job.folder / "run")
    run = RunDirectory.load(result.run_dir)
    users, items = run.user_embeddings, run.item_embeddings
    item_bytes = 4.0 * items.shape[1]
    if run.coded is not None:
        users, items = run.coded.dequantize()
        item_bytes = run.coded.items.bytes_per_item
    job.save_rows(users, items)
    propagation = run.config.propagation
    found = [f"propagation.{name}={getattr(propagation, name)}" for name in ("solver", "t1", "num_steps")]
    shutil.rmtree(result.run_dir)
    job.finish(
        item_bytes=item_bytes,
        versions=versions_of("tensorflow", "numpy", tf_hqgnn=__version__),
        epochs=result.epochs,
        best_epoch=result.best_epoch,
        # A refit has no validation split to search on.
        found={"set": [*job.settings["set"], *found]},
        **_of_race(result),
    )


def dataset_of(split: Split, with_valid: bool) -> SplitDataset:
    """What a training is given: never the test split, and validation only where something is chosen by it."""
    parts = {name: Interactions(*np.ascontiguousarray(pairs.T)) for name, pairs in split.parts.items()}
    nothing = parts["test"].take(np.zeros(0, np.int64))
    valid = parts["valid"] if with_valid else nothing
    return SplitDataset(_ids(split.num_users), _ids(split.num_items), parts["train"], valid, nothing)


def _of_race(result: TrainResult) -> dict[str, Any]:
    """What a race chose, and the validation metric of what it trained before any refit."""
    if result.chosen is None:
        return {}
    return {"valid": result.valid[f"ndcg@{K}"], "settings": {"chosen": result.chosen}}


def _ids(count: int) -> np.ndarray:
    """Sorted, so that rows stay what they are."""
    return np.array([f"{row:09d}" for row in range(count)], object)


if __name__ == "__main__":
    main()
