"""How much one request may ask for."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Mapping, Sequence

from tf_hqgnn.serving.errors import invalid_argument, printable
from tf_hqgnn.types import Array, InputError

# NumPy 1 has arrays of 32 dimensions at most, and the rows of a JSON request are stacked to one more.
MAX_RANK = 16


@dataclass(frozen=True)
class Limits:
    """The largest request that is answered; each at least 1.

    Args:
      message_bytes: Of a request, in protocol buffers or JSON, and of an input's strings together. A message beyond it
        gets RESOURCE_EXHAUSTED over gRPC, 400 over REST.
      rows: The first dimension of an input: users or items asked about.
      list_length: The second dimension of an input: excluded items, or items of a history, of one row.
      values: All values of an input: rows * list_length.
      k: Answers of one row.
      answers: rows * k.

    Raises:
      InputError: A limit is below 1.
    """

    message_bytes: int = 16 << 20
    rows: int = 4096
    list_length: int = 16_384
    values: int = 1 << 18
    k: int = 16_384
    answers: int = 1 << 20

    def __post_init__(self) -> None:
        for field in fields(self):
            if getattr(self, field.name) < 1:
                raise InputError(f"limit {field.name}: expected at least 1, got {getattr(self, field.name)}")

    def check_shape(self, name: str, shape: Sequence[int]) -> None:
        """Raises ServingError (INVALID_ARGUMENT) for an input beyond a limit; to be asked before it is filled.

        >>> Limits(rows=100).check_shape("user_id", [50])
        """
        _check("dimensions of", len(shape), MAX_RANK, name)
        if shape:
            _check("rows of", shape[0], self.rows, name)
            _check("values in a row of", math.prod(shape[1:]), self.list_length, name)
            _check("values of", math.prod(shape), self.values, name)

    def check(self, inputs: Mapping[str, Array]) -> None:
        """As `check_shape` for each input, and for the answer; `k` is the scalar of that name.

        >>> import numpy as np
        >>> Limits(k=100).check({"k": np.array(50, np.int32)})
        """
        for name, array in inputs.items():
            self.check_shape(name, array.shape)
        rows = max([1, *(len(array) for array in inputs.values() if array.ndim)])
        k = inputs.get("k")
        if k is not None and k.ndim == 0 and k.dtype.kind in "iu":
            _check("k", int(k), self.k)
            _check("rows times k", rows * int(k), self.answers)


def _check(what: str, got: int, allowed: int, name: str | None = None) -> None:
    if got > allowed:
        of = "" if name is None else f' input "{printable(name)}"'
        raise invalid_argument(
            f"{what}{of}: got {got}, this server allows {allowed}: ask for less, or in several requests"
        )
