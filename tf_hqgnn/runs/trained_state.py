"""What the next day's training and evaluation need of a model: its ids, its tables, and what it has learnt from."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from tf_hqgnn.config import Config
from tf_hqgnn.data.split_dataset import SplitDataset
from tf_hqgnn.files.durable import staged_folder, write_file
from tf_hqgnn.files.reading import read_json
from tf_hqgnn.runs.run_directory import RunDirectory
from tf_hqgnn.runs.tables import FILE, TrainedTables
from tf_hqgnn.types import Float32Array, concatenate

_DATA = "data"
_HELD_OUT = "held_out"
# Not config.yaml, by which a run directory is known; in JSON, since half a YAML may be one, too.
_SETTINGS = "settings.json"
_CURE = "delete this folder of the store: the next training starts cold"


@dataclass(frozen=True, eq=False)
class TrainedState:
    """A model before propagation.

    Args:
      dataset: the ids, in the order of the tables' rows, and the splits that the model was made from; of a refitted
        model the validation interactions are in `train`, which is what it has learnt from.
      users: float32 [U, d], the trained table; NaN in rows that no interaction has taught.
      items: float32 [I, d], likewise.
      held_out: the model that was judged, where this one was refitted on the whole log after that. The next training
        starts from it to be judged, and from this one for what is served.
      config: the settings by which it was made; None where they aren't known.
    """

    dataset: SplitDataset
    users: Float32Array
    items: Float32Array
    held_out: TrainedState | None = None
    config: Config | None = None

    @staticmethod
    def from_run(run: RunDirectory) -> TrainedState:
        """Of a finished run.

        Raises:
          InputError: It has no trained tables.
        """
        tables = run.tables()
        dataset = run.dataset
        served = run.served()
        if served.is_refitted and not run.is_refitted:
            judged = TrainedState(dataset, tables.users, tables.items, config=run.config)
            return replace(TrainedState.from_run(served), held_out=judged)
        if run.config.training.refit is True:
            learnt = concatenate(dataset.train, dataset.valid)
            dataset = replace(dataset, train=learnt, valid=dataset.valid.take(np.zeros(0, np.int64)))
        return TrainedState(dataset, tables.users, tables.items, config=run.config)

    def save(self, directory: Path, judged_model: Path | None = None) -> None:
        """Writes `directory`, which appears complete or not at all; one that is there is replaced.

        Args:
          directory: where to.
          judged_model: the exact SavedModel that knows no held-out interaction, which the next candidate is compared
            with; None keeps none.
        """
        shutil.rmtree(directory, ignore_errors=True)
        with staged_folder(directory) as staged:
            self._write(staged)
            if self.held_out is not None:
                self.held_out._write(staged / _HELD_OUT)
            if judged_model is not None:
                shutil.copytree(judged_model, judged_model_path(staged))

    def _write(self, folder: Path) -> None:
        self.dataset.save(folder / _DATA)
        TrainedTables(self.users, self.items).save(folder)
        if self.config is not None:
            write_file(folder / _SETTINGS, self.config.model_dump_json())

    @staticmethod
    def load(directory: Path) -> TrainedState:
        """Reads what `save` wrote, or a run directory.

        Raises:
          InputError: It is neither.
        """
        # A run has `tables.npz` and `data/`, too, but knows by its settings what it has learnt from.
        if (directory / "config.yaml").is_file() or not (directory / FILE).is_file():
            return TrainedState.from_run(RunDirectory.load(directory))
        judged = directory / _HELD_OUT
        return _read(directory, _read(judged) if judged.is_dir() else None)


def judged_model_path(directory: Path) -> Path:
    """Where `TrainedState.save` puts the SavedModel of the model that was judged."""
    return directory / "judged_model"


def _read(folder: Path, held_out: TrainedState | None = None) -> TrainedState:
    tables = TrainedTables.load(folder)
    # A state of version 0.1 has no settings beside it.
    config = None
    if (folder / _SETTINGS).is_file():
        settings = read_json(folder / _SETTINGS, cure=_CURE)
        config = Config.from_yaml(json.dumps(settings), source=str(folder / _SETTINGS))
    return TrainedState(SplitDataset.load(folder / _DATA), tables.users, tables.items, held_out, config)
