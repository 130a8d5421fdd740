"""How much one request may ask for."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Mapping

import numpy as np

from tf_hqgnn.serving.errors import invalid_argument
from tf_hqgnn.types import InputError


@dataclass(frozen=True)
class Limits:
    """The largest request that is answered; each at least 1.

    Args:
      message_bytes: Of a request, in protocol buffers or JSON. Beyond it gRPC answers RESOURCE_EXHAUSTED, REST 400.
      rows: The first dimension of an input: users or items asked about.
      list_length: The second dimension of an input: excluded items, or items of a history, of one row.
      k: Answers of one row.
      answers: rows * k.

    Raises:
      InputError: A limit is below 1.
    """

    message_bytes: int = 64 << 20
    rows: int = 4096
    list_length: int = 16_384
    k: int = 16_384
    answers: int = 1 << 20

    def __post_init__(self) -> None:
        for field in fields(self):
            if getattr(self, field.name) < 1:
                raise InputError(f"limit {field.name}: expected at least 1, got {getattr(self, field.name)}")

    def check(self, inputs: Mapping[str, np.ndarray]) -> None:
        """Raises ServingError (INVALID_ARGUMENT) if `inputs` go beyond a limit; `k` is the scalar of that name.

        >>> Limits(k=100).check({"k": np.array(50, np.int32)})
        """
        rows = 1
        for name, array in inputs.items():
            if array.ndim:
                _check(f'rows of input "{name}"', len(array), self.rows)
                rows = max(rows, len(array))
            if array.ndim > 1:
                _check(f'values in a row of input "{name}"', array[:1].size, self.list_length)
        k = inputs.get("k")
        if k is not None and k.ndim == 0 and k.dtype.kind in "iu":
            _check("k", int(k), self.k)
            _check("rows times k", rows * int(k), self.answers)


def _check(what: str, got: int, allowed: int) -> None:
    if got > allowed:
        raise invalid_argument(f"{what}: got {got}, this server allows {allowed}: ask for less, or in several requests")
