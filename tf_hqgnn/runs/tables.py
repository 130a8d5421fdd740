"""The trained tables of a run, before any propagation: `tables.npz`, which every run has."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tf_hqgnn.runs.untrained import Untrained
from tf_hqgnn.types import InputError

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

    users: np.ndarray
    items: np.ndarray

    @staticmethod
    def of(users: np.ndarray, items: np.ndarray, untrained: Untrained) -> TrainedTables:
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

    def filled(self) -> tuple[np.ndarray, np.ndarray]:
        """The tables with zeros in place of NaN."""
        return np.nan_to_num(self.users), np.nan_to_num(self.items)

    def save(self, folder: Path) -> None:
        """Writes `tables.npz` into a folder."""
        np.savez(folder / FILE, user=self.users, item=self.items)

    @staticmethod
    def load(folder: Path) -> TrainedTables:
        """Reads `tables.npz`, or what runs of version 0.1 have in its place.

        Raises:
          InputError: The folder has neither.
        """
        if (folder / FILE).is_file():
            with np.load(folder / FILE, allow_pickle=False) as arrays:
                return TrainedTables(arrays["user"], arrays["item"])
        return _from_checkpoint(folder)


def _from_checkpoint(folder: Path) -> TrainedTables:
    """Version 0.1 kept the tables in the last checkpoint alone, of the refit if there was one."""
    for checkpoints in (folder / "refit" / "checkpoints", folder / "checkpoints"):
        files = sorted(checkpoints.glob("epoch-*/weights.npz"))
        if not files:
            continue
        with np.load(files[-1], allow_pickle=False) as arrays:
            names = next(
                (names for names in (("best_0", "best_1"), ("weight_0", "weight_1")) if names[0] in arrays), ()
            )
            if len(names) == 2:
                # Only these two: the optimizer's state beside them is twice as large.
                tables = [arrays[name] for name in names]
                with np.load(folder / "embeddings.npz", allow_pickle=False) as served:
                    untrained = Untrained(served["untrained_user"], served["untrained_item"])
                return TrainedTables.of(tables[0], tables[1], untrained)
    raise InputError(
        f"{folder} has no trained tables ({FILE}), which a warm start, a push and Beam need: it is of version 0.1, and "
        "its checkpoint is gone or it was trained for no epochs; train again"
    )
