"""What the next day's training and evaluation need of a model: its ids, its tables, and what it has learnt from."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from tf_hqgnn.data.split_dataset import SplitDataset
from tf_hqgnn.files.durable import staged_folder
from tf_hqgnn.runs.run_directory import RunDirectory
from tf_hqgnn.runs.tables import FILE, TrainedTables
from tf_hqgnn.types import Float32Array, concatenate

_DATA = "data"


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
    users: Float32Array
    items: Float32Array

    @staticmethod
    def from_run(run: RunDirectory) -> TrainedState:
        """Of a finished run.

        Raises:
          InputError: It has no trained tables.
        """
        tables = run.tables()
        dataset = run.dataset
        if run.config.training.refit:
            learnt = concatenate(dataset.train, dataset.valid)
            dataset = replace(dataset, train=learnt, valid=dataset.valid.take(np.zeros(0, np.int64)))
        return TrainedState(dataset, tables.users, tables.items)

    def save(self, directory: Path) -> None:
        """Writes `directory`, which appears complete or not at all; one that is there is replaced."""
        shutil.rmtree(directory, ignore_errors=True)
        with staged_folder(directory) as staged:
            self.dataset.save(staged / _DATA)
            TrainedTables(self.users, self.items).save(staged)

    @staticmethod
    def load(directory: Path) -> TrainedState:
        """Reads what `save` wrote, or a run directory.

        Raises:
          InputError: It is neither.
        """
        # A run has `tables.npz` and `data/`, too, but knows by its settings what it has learnt from.
        if (directory / "config.yaml").is_file() or not (directory / FILE).is_file():
            return TrainedState.from_run(RunDirectory.load(directory))
        tables = TrainedTables.load(directory)
        return TrainedState(SplitDataset.load(directory / _DATA), tables.users, tables.items)
