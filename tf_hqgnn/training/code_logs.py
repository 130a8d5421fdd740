"""What is logged while codes are trained: which bits flip, and a CSV and a TensorBoard log with a row an epoch."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import tensorflow as tf

from tf_hqgnn.files.durable import write_csv
from tf_hqgnn.quantization.coded_embeddings import CodedEmbeddings
from tf_hqgnn.quantization.codes import Codes
from tf_hqgnn.training.callbacks import number_event_files

log = logging.getLogger(__name__)


class FlippedBits:
    """The share of bits that differ from the codes before, side by side.

    Args:
      coded: the codes to begin with.
    """

    def __init__(self, coded: CodedEmbeddings) -> None:
        self._before = coded

    def update(self, coded: CodedEmbeddings) -> dict[str, float]:
        """Compares with the codes of the last call, and remembers these.

        Returns:
          `flipped_users` (if users are coded) and `flipped_items`, each within 0 .. 1.
        """
        before, self._before = self._before, coded
        sides = {"flipped_users": (before.users, coded.users), "flipped_items": (before.items, coded.items)}
        return {
            name: flipped_share(old, new)
            for name, (old, new) in sides.items()
            if isinstance(old, Codes) and isinstance(new, Codes)
        }


def flipped_share(before: Codes, after: Codes) -> float:
    """The share of bits in which two sets of codes differ; scales don't count.

    Args:
      before: of n rows.
      after: of as many rows, dimensions and bits.

    Example:
      >>> first, then = (Codes.quantize(np.array([row]), 1) for row in ([1.0, -1.0, 1.0, 1.0], [1.0, 1.0, 1.0, 1.0]))
      >>> flipped_share(first, then)
      0.25
    """
    different = np.unpackbits(before.packed ^ after.packed).sum(dtype=np.int64)
    return float(different) / max(len(after) * after.dim * after.num_bits, 1)


class CodeHistory:
    """Rows of history.csv and of a TensorBoard log, written as they come, and a line of the log now and then.

    Args:
      folder: gets `history.csv` and `tensorboard/`; the latter is emptied.
      max_epochs: a line is logged for each tenth of them.
    """

    def __init__(self, folder: Path, max_epochs: int) -> None:
        self._path = folder / "history.csv"
        self._events = folder / "tensorboard"
        # A training that begins anew would be drawn beside the one that was broken off.
        for path in self._events.glob("*tfevents*"):
            path.unlink()
        self._writer = tf.summary.create_file_writer(str(self._events))
        self._max_epochs = max_epochs
        self._rows: list[dict[str, float]] = []

    def write(self, row: dict[str, float]) -> None:
        """Adds the row of an epoch, `epoch` among its names."""
        self._rows.append(row)
        write_csv(self._path, self._rows)
        epoch = int(row["epoch"])
        with self._writer.as_default(step=epoch):
            for name, value in row.items():
                tf.summary.scalar(name, value)
        if epoch % max(1, self._max_epochs // 10) == 0:
            shown = {name: row[name] for name in row if name in ("loss", "delta_users", "delta_items") or "@" in name}
            text = "  ".join(f"{name} {value:.4g}" for name, value in shown.items())
            log.info("codes: epoch %d/%d  %s", epoch, self._max_epochs, text)

    def close(self) -> None:
        """Finishes the TensorBoard log."""
        self._writer.close()
        number_event_files(self._events)
