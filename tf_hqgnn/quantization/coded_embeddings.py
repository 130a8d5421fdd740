"""The rows that are served: items in codes, users in codes or in full precision."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tf_hqgnn.files.durable import staged_file
from tf_hqgnn.files.reading import read_array
from tf_hqgnn.quantization.codes import Codes
from tf_hqgnn.types import Float32Array


@dataclass(frozen=True, eq=False)
class CodedEmbeddings:
    """Items in low-bit codes, with users in codes, too (symmetric scoring) or in float32 (asymmetric scoring).

    Args:
      users: U rows, Codes or float32 [U, d].
      items: I rows of the same d.

    Raises:
      ValueError: The dimensions differ.

    Example:
      >>> coded = CodedEmbeddings(np.ones([1, 2], np.float32), Codes.quantize(np.array([[0.5, -1.5]]), num_bits=1))
      >>> [rows.tolist() for rows in coded.dequantize()]
      [[[1.0, 1.0]], [[1.0, -1.0]]]
    """

    users: Codes | Float32Array
    items: Codes

    def __post_init__(self) -> None:
        dim = self.users.dim if isinstance(self.users, Codes) else self.users.shape[1]
        if dim != self.items.dim:
            raise ValueError(f"users and items need one dimension, got {dim} and {self.items.dim}")

    def dequantize(self) -> tuple[Float32Array, Float32Array]:
        """The values that are scored with, float32 [U, d] and [I, d]."""
        users = self.users.dequantize() if isinstance(self.users, Codes) else self.users
        return users, self.items.dequantize()

    def save(self, directory: Path) -> None:
        """Writes `items.npz` and `users.npz` (codes) or `users.npy` (float32) into an existing folder."""
        self.items.save(directory / "items.npz")
        if isinstance(self.users, Codes):
            self.users.save(directory / "users.npz")
        else:
            with staged_file(directory / "users.npy") as staged:
                np.save(staged, self.users, allow_pickle=False)

    @classmethod
    def load(cls, directory: Path) -> CodedEmbeddings:
        """What `save` wrote.

        Raises:
          InputError: A file is missing or damaged.
        """
        items = Codes.load(directory / "items.npz")
        if (directory / "users.npz").exists():
            return cls(Codes.load(directory / "users.npz"), items)
        return cls(read_array(directory / "users.npy", cure="train again"), items)
