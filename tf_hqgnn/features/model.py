"""What is learnt of features: how they are encoded, and the ridge regression from them to embeddings."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tf_hqgnn.data.feature_table import FeatureTable
from tf_hqgnn.features.columns import Column
from tf_hqgnn.features.encoder import FeatureEncoder, FeatureRows
from tf_hqgnn.files.reading import read_arrays
from tf_hqgnn.types import BoolArray, Float32Array, IntArray, ObjectArray

# In a run, and among the extra files of a SavedModel.
FEATURES_FILE = "features.npz"
# How many interactions of its own a new row needs, until they count as much as its features. 5 is best, or nearly so,
# on MovieLens 100K (items and users), Beauty and Toys (benchmarks/README.md).
WORTH = 5.0
_CHUNK = 1024


@dataclass(frozen=True, eq=False)
class FeatureModel:
    """A ridge regression from the features of one side, users or items, to its embeddings.

    Args:
      columns: of the features.
      means: float32 [W], of the encoded features.
      weights: float32 [W, d].
      intercept: float32 [d].
      strength: of the ridge.
    """

    columns: tuple[Column, ...]
    means: Float32Array
    weights: Float32Array
    intercept: Float32Array
    strength: float

    def make_module(self) -> FeatureRows:
        """Returns the module that predicts in a SavedModel."""
        return FeatureRows(FeatureEncoder(self.columns, self.means), self.weights, self.intercept)

    @cached_property
    def _module(self) -> FeatureRows:
        return self.make_module()

    def predict(self, table: FeatureTable) -> tuple[Float32Array, BoolArray]:
        """Predicts embeddings.

        Args:
          table: features of n users or items; columns that the model doesn't know count for nothing.

        Returns:
          float32 [n, d], and bool [n]: whether any feature is known. Without one the row is the mean of all.
        """
        parts = [self._module.call(tf.constant(pairs, tf.string)) for pairs in chunks_of(table.pairs())]
        rows = [part.numpy() for part, _ in parts] or [np.zeros((0, len(self.intercept)), np.float32)]
        known = [part.numpy() for _, part in parts] or [np.zeros(0, bool)]
        return np.concatenate(rows), np.concatenate(known)

    def describe(self) -> str:
        """Returns what was learnt, in words."""
        columns = ", ".join(column.describe() for column in self.columns)
        return f"{columns}; ridge {self.strength:g}"

    def example(self) -> tuple[str, ...]:
        """Returns a value of each column, as `name=value`."""
        firsts = ((column, next(iter(column.values or map(str, column.knots)), "a")) for column in self.columns)
        return tuple(f"{column.name}={value}" for column, value in firsts)

    def to_arrays(self) -> dict[str, Any]:
        """Returns arrays, from which `from_arrays` makes the model again."""
        about: dict[str, Any] = {"columns": [column.to_json() for column in self.columns]}
        about["strength"] = self.strength
        text = np.frombuffer(json.dumps(about).encode(), np.uint8)
        return {"about": text, "means": self.means, "weights": self.weights, "intercept": self.intercept}

    @staticmethod
    def from_arrays(arrays: dict[str, Any]) -> FeatureModel:
        """Reads what `to_arrays` gave."""
        about = json.loads(bytes(arrays["about"]).decode())
        return FeatureModel(
            tuple(map(Column.from_json, about["columns"])),
            arrays["means"],
            arrays["weights"],
            arrays["intercept"],
            about["strength"],
        )


@dataclass(frozen=True, eq=False)
class FeatureModels:
    """What is learnt of the features of both sides; None where nothing is.

    Args:
      users: of users.
      items: of items.
    """

    users: FeatureModel | None = None
    items: FeatureModel | None = None

    def __bool__(self) -> bool:
        return self.users is not None or self.items is not None

    def save(self, path: Path) -> None:
        """Writes an .npz file."""
        arrays: dict[str, Any] = {}
        for side, model in (("users", self.users), ("items", self.items)):
            if model is not None:
                arrays |= {f"{side}_{name}": values for name, values in model.to_arrays().items()}
        with path.open("wb") as file:
            np.savez(file, **arrays)

    @staticmethod
    def load(path: Path, cure: str = "export the run again") -> FeatureModels:
        """Reads what `save` wrote; nothing is learnt where there is no such file.

        Raises:
          InputError: The file is damaged.
        """
        if not path.is_file():
            return FeatureModels()
        arrays = read_arrays(path, cure=cure)
        sides = {}
        for side in ("users", "items"):
            own = {name.removeprefix(f"{side}_"): one for name, one in arrays.items() if name.startswith(f"{side}_")}
            sides[side] = FeatureModel.from_arrays(own) if own else None
        return FeatureModels(**sides)


def blend(predicted: Float32Array, rows: Float32Array, counts: IntArray, worth: float = WORTH) -> Float32Array:
    """Weighs predicted rows with those of n interactions: `s row + (1 - s) predicted`, with s = n / (n + worth).

    Of two directions the mean is shorter than both, and short rows are seldom recommended: the length of the result is
    `s |row| + (1 - s) |predicted|`.

    Args:
      predicted: float32 [m, d].
      rows: float32 [m, d].
      counts: n, int [m].
      worth: in interactions, 0 or more; without interactions the predicted row stands all the same.

    Example:
      >>> predicted, row = np.array([[0.0, 2.0]], np.float32), np.array([[0.0, 4.0]], np.float32)
      >>> blend(predicted, row, np.array([1]), 1.0).tolist()
      [[0.0, 3.0]]
    """
    total = counts + worth
    share = np.divide(counts, total, out=np.zeros(len(counts)), where=total > 0).astype(np.float32)[:, np.newaxis]
    mixed: Float32Array = share * rows + (1 - share) * predicted
    lengths = [np.linalg.norm(one, axis=1, keepdims=True) for one in (rows, predicted, mixed)]
    wanted = share * lengths[0] + (1 - share) * lengths[1]
    scaled: Float32Array = mixed * np.divide(wanted, lengths[2], out=np.ones_like(wanted), where=lengths[2] > 0)
    return scaled


def chunks_of(pairs: ObjectArray) -> Iterator[ObjectArray]:
    """Yields rows of features, some at a time: encoded they take much more memory."""
    return (pairs[start : start + _CHUNK] for start in range(0, len(pairs), _CHUNK))
