"""Joins small requests to one call, and cuts large ones into parts that take turns with the requests of others."""

from __future__ import annotations

import math
import threading
from typing import Any, Callable, Mapping, Sequence

import numpy as np

from tf_hqgnn.serving.signature import Signature
from tf_hqgnn.types import Array

Outputs = Mapping[str, Array]


# Values that the rows of a call ask for and exclude: a call holds up the next, whoever asks.
CALL_VALUES = 8192


def values_per_row(signature: Signature, arrays: Sequence[Array]) -> int:
    """What a row of a request takes, about: its answers, by the scalar `k`, and the values of its lists."""
    values = 1
    for name, array in zip(sorted(signature.inputs), arrays, strict=True):
        if array.ndim > 1:
            values += math.prod(array.shape[1:])
        elif name == "k" and array.ndim == 0 and array.dtype.kind in "iu":
            values += max(0, int(array))
    return values


def join(arrays: Sequence[Array]) -> Array:
    """One input of many requests: scalars are the same in all; lists get the width of the widest, padded with ""."""
    first = arrays[0]
    if first.ndim == 0:
        return first
    if all(array.shape[1:] == first.shape[1:] for array in arrays):
        return np.concatenate(arrays)
    widths = np.max([array.shape[1:] for array in arrays], axis=0)
    joined = np.full((sum(map(len, arrays)), *widths), b"", object)
    end = 0
    for array in arrays:
        begin, end = end, end + len(array)
        joined[(slice(begin, end), *map(slice, array.shape[1:]))] = array
    return joined


class Whole:
    """Puts the outputs of the parts together.

    Args:
      signature: What is called.
      arrays: The whole request, from `signature.check`.
      rows: Of the request.
      part_rows: Of a part.
      finish: Makes the answer of the whole's outputs.
    """

    def __init__(
        self,
        signature: Signature,
        arrays: Sequence[Array],
        rows: int,
        part_rows: int,
        finish: Callable[[Outputs], Any],
    ) -> None:
        self._signature = signature
        self._arrays = arrays
        self._rows = rows
        self._finish = finish
        self._lock = threading.Lock()
        self._found: dict[int, Outputs] = {}
        self.starts = range(0, rows, part_rows)

    def part(self, start: int) -> list[Array]:
        """The inputs of the part that begins at row `start`."""
        end = start + self.starts.step
        return [array[start:end] if array.ndim else array for array in self._arrays]

    def add(self, start: int, outputs: Outputs) -> tuple[bool, Any]:
        """Takes the outputs of a part: whether they were the last, and the answer then."""
        with self._lock:
            self._found[start] = outputs
            if len(self._found) < len(self.starts):
                return False, None
        parts = [self._found[start] for start in self.starts]
        try:
            joined = {name: np.concatenate([part[name] for part in parts]) for name in outputs}
            is_whole = all(len(array) == self._rows for array in joined.values())
        except ValueError:
            is_whole = False
        # Outputs that aren't by row, whatever the signature says, come of the request as it is.
        return True, self._finish(joined if is_whole else self._signature.run(self._arrays))
