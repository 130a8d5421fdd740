"""What the next day's training and evaluation need of a model: its ids, its tables, and what it has learnt from."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from tf_hqgnn.data.split_dataset import SplitDataset
from tf_hqgnn.report.discrepancy import read_trained
from tf_hqgnn.run_directory import RunDirectory
from tf_hqgnn.types import InputError, concatenate

_DATA = "data"
_TABLES = "tables.npz"


@dataclass(frozen=True, eq=False)
class TrainedState:
    """A model before propagation.

    Args:
      dataset: the ids, in the order of the tables' rows, and the splits that the model was made from; of a refitted
        model the validation interactions are in `train`, which is what it has learnt from.
      users: float32 [U, d], the trained table; NaN in rows that no interaction has taught.
      items: float32 [I, d], likewise.
    """

    dataset: SplitDataset
    users: np.ndarray
    items: np.ndarray

    @staticmethod
    def from_run(run: RunDirectory) -> TrainedState:
        """Of a finished run.

        Raises:
          InputError: Its checkpoint with the trained tables is gone.
        """
        tables = read_trained(run)
        if tables is None:
            raise InputError(
                f"{run.path} has no checkpoint with trained tables (checkpoints/epoch-*/weights.npz), which a warm "
                "start needs; keep that folder, or set training.warm_start to another run"
            )
        dataset = run.dataset
        if run.config.training.refit:
            learnt = concatenate(dataset.train, dataset.valid)
            dataset = replace(dataset, train=learnt, valid=dataset.valid.take(np.zeros(0, np.int64)))
        with np.load(run.path / "embeddings.npz", allow_pickle=False) as arrays:
            untrained = arrays["untrained_user"], arrays["untrained_item"]
        taught = (np.where(mask[:, np.newaxis], np.nan, table) for mask, table in zip(untrained, tables))
        return TrainedState(dataset, *taught)

    def save(self, directory: Path) -> None:
        """Writes `directory`, which appears complete or not at all; one that is there is replaced."""
        partial = directory.with_name(f".tmp-{directory.name}")
        for leftover in (partial, directory):
            shutil.rmtree(leftover, ignore_errors=True)
        partial.mkdir(parents=True)
        self.dataset.save(partial / _DATA)
        np.savez(partial / _TABLES, user=self.users, item=self.items)
        os.rename(partial, directory)

    @staticmethod
    def load(directory: Path) -> TrainedState:
        """Reads what `save` wrote, or a run directory.

        Raises:
          InputError: It is neither.
        """
        if not (directory / _TABLES).is_file():
            return TrainedState.from_run(RunDirectory.load(directory))
        with np.load(directory / _TABLES, allow_pickle=False) as arrays:
            users, items = arrays["user"], arrays["item"]
        return TrainedState(SplitDataset.load(directory / _DATA), users, items)
