"""Checkpoints of a training run: each a folder that is whole or absent, whenever the process or the machine dies."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from tf_hqgnn.files.durable import make_folder, remove_staged, staged_folder
from tf_hqgnn.files.reading import read_arrays, read_json
from tf_hqgnn.types import Array, InputError

_PREFIX = "epoch-"
# The last one, and the one to go back to where that is damaged.
_KEPT = 2
log = logging.getLogger(__name__)


class CheckpointStore:
    """Folders `epoch-00007/` with `weights.npz` and `state.json`, written to a hidden name, synced and renamed.

    Args:
      directory: made if absent; leftovers of interrupted writes in it are removed.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        make_folder(directory)
        remove_staged(directory)

    def epochs(self) -> list[int]:
        """Epochs that have a checkpoint, in order."""
        names = (path.name[len(_PREFIX) :] for path in self.directory.glob(f"{_PREFIX}*"))
        return sorted(int(name) for name in names if name.isdecimal())

    def save(self, epoch: int, weights: dict[str, Array], state: dict[str, Any]) -> None:
        """Writes the checkpoint of `epoch`, then removes all but the last two."""
        path = self._path(epoch)
        # A damaged one of that epoch, after which training went on from the one before.
        shutil.rmtree(path, ignore_errors=True)
        with staged_folder(path) as staged:
            np.savez(staged / "weights.npz", **weights)
            (staged / "state.json").write_text(json.dumps(state), encoding="utf-8")
        for other in self.epochs()[:-_KEPT]:
            shutil.rmtree(self._path(other))

    def load(self) -> tuple[dict[str, Array], dict[str, Any]]:
        """Weights and state of the last checkpoint that isn't damaged.

        Raises:
          FileNotFoundError: There is none.
          InputError: All are damaged.
        """
        damaged: list[str] = []
        for epoch in reversed(self.epochs()):
            folder = self._path(epoch)
            try:
                weights = read_arrays(folder / "weights.npz", cure="an earlier checkpoint is needed")
                state = read_json(folder / "state.json", cure="an earlier checkpoint is needed")
            except InputError as error:
                log.warning("%s", error)
                damaged.append(folder.name)
                continue
            return weights, state
        if damaged:
            raise InputError(
                f"{self.directory}: every checkpoint is damaged ({', '.join(damaged)}); delete this folder to train "
                "from the start"
            )
        raise FileNotFoundError(f"no checkpoint in {self.directory}")

    def _path(self, epoch: int) -> Path:
        return self.directory / f"{_PREFIX}{epoch:05d}"
