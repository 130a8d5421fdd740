"""The trained tables of a run, before any propagation: `tables.npz`, which every run has."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tf_hqgnn.files.durable import staged_file
from tf_hqgnn.files.reading import read_arrays
from tf_hqgnn.runs.untrained import Untrained
from tf_hqgnn.types import Float32Array, InputError

FILE = "tables.npz"


@dataclass(frozen=True, eq=False)
class TrainedTables:
    """Embeddings as training left them.

    Args:
      users: float32 [U, d]; NaN in rows that no interaction has taught.
      items: float32 [I, d], likewise.

    Example:
      >>> import tempfile
      >>> tables = TrainedTables(np.ones((2, 3), np.float32), np.full((1, 3), np.nan, np.float32))
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     tables.save(Path(folder))
      ...     TrainedTables.load(Path(folder)).untrained().items.tolist()
      [True]
    """

    users: Float32Array
    items: Float32Array

    @staticmethod
    def of(users: Float32Array, items: Float32Array, untrained: Untrained) -> TrainedTables:
        """The tables of a model.

        Args:
          users: float32 [U, d].
          items: float32 [I, d].
          untrained: the rows that no interaction has taught.
        """
        pairs = ((users, untrained.users), (items, untrained.items))
        return TrainedTables(*(np.where(mask[:, np.newaxis], np.float32(np.nan), table) for table, mask in pairs))

    def untrained(self) -> Untrained:
        """The rows that no interaction has taught."""
        return Untrained(np.isnan(self.users).any(axis=1), np.isnan(self.items).any(axis=1))

    def filled(self) -> tuple[Float32Array, Float32Array]:
        """The tables with zeros in place of NaN."""
        return np.nan_to_num(self.users), np.nan_to_num(self.items)

    def save(self, folder: Path) -> None:
        """Writes `tables.npz` into a folder."""
        with staged_file(folder / FILE) as staged:
            np.savez(staged, user=self.users, item=self.items)

    @staticmethod
    def load(folder: Path) -> TrainedTables:
        """Reads `tables.npz`, or what runs of version 0.1 have in its place.

        Raises:
          InputError: The folder has neither, or the file is damaged.
        """
        if (folder / FILE).is_file():
            arrays = read_arrays(folder / FILE, "user", "item", cure="train again")
            return TrainedTables(arrays["user"], arrays["item"])
        return _from_checkpoint(folder)


def _from_checkpoint(folder: Path) -> TrainedTables:
    """Version 0.1 kept the tables in the last checkpoint alone, of the refit if there was one."""
    for checkpoints in (folder / "refit" / "checkpoints", folder / "checkpoints"):
        files = sorted(checkpoints.glob("epoch-*/weights.npz"))
        if not files:
            continue
        arrays = read_arrays(files[-1], cure="train again")
        names = next((names for names in (("best_0", "best_1"), ("weight_0", "weight_1")) if names[0] in arrays), ())
        if len(names) == 2:
            served = read_arrays(folder / "embeddings.npz", "untrained_user", "untrained_item", cure="train again")
            untrained = Untrained(served["untrained_user"], served["untrained_item"])
            return TrainedTables.of(arrays[names[0]], arrays[names[1]], untrained)
    raise InputError(
        f"{folder} has no trained tables ({FILE}), which a warm start, a push and Beam need: version 0.1 "
        "trained it, and its checkpoint is gone or there were no epochs; train again"
    )
