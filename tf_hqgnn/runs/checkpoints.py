"""Checkpoints of a training run: each a folder that is whole or absent, whenever the process dies."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np

_PREFIX = "epoch-"


class CheckpointStore:
    """Folders `epoch-00007/` with `weights.npz` and `state.json`, written to a hidden name and renamed.

    Args:
      directory: made if absent; leftovers of interrupted writes in it are removed.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        for leftover in directory.glob(".tmp-*"):
            shutil.rmtree(leftover)

    def epochs(self) -> list[int]:
        """Epochs that have a checkpoint, in order."""
        return sorted(int(path.name[len(_PREFIX) :]) for path in self.directory.glob(f"{_PREFIX}*"))

    def save(self, epoch: int, weights: dict[str, np.ndarray], state: dict[str, Any]) -> None:
        """Writes the checkpoint of `epoch`, then removes the others."""
        staged = self.directory / f".tmp-{_PREFIX}{epoch:05d}"
        shutil.rmtree(staged, ignore_errors=True)
        staged.mkdir()
        with open(staged / "weights.npz", "wb") as file:
            np.savez(file, **weights)
            file.flush()
            os.fsync(file.fileno())
        (staged / "state.json").write_text(json.dumps(state), encoding="utf-8")
        staged.rename(self._path(epoch))
        for other in self.epochs():
            if other != epoch:
                shutil.rmtree(self._path(other))

    def load(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Weights and state of the last checkpoint.

        Raises:
          FileNotFoundError: There is none.
        """
        epochs = self.epochs()
        if not epochs:
            raise FileNotFoundError(f"no checkpoint in {self.directory}")
        folder = self._path(epochs[-1])
        with np.load(folder / "weights.npz", allow_pickle=False) as arrays:
            weights = dict(arrays)
        return weights, json.loads((folder / "state.json").read_text(encoding="utf-8"))

    def _path(self, epoch: int) -> Path:
        return self.directory / f"{_PREFIX}{epoch:05d}"
