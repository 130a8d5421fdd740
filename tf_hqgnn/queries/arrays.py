"""Ids as the arrays that signatures take."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tf_hqgnn.types import ObjectArray


def as_objects(values: Sequence[Any]) -> ObjectArray:
    """Object [n]; NumPy would make strings of a fixed width, or a matrix, of some lists."""
    array = np.empty(len(values), object)
    array[:] = values
    return array


def encoded(texts: Sequence[str] | ObjectArray) -> ObjectArray:
    """UTF-8 bytes of each text, object [n]."""
    return as_objects([text.encode() for text in texts])


def padded(lists: Sequence[ObjectArray]) -> ObjectArray:
    """Encoded ids as object [len(lists), longest], at least one column, padded with b"".

    >>> padded([encoded(["a", "b"]), encoded(["c"])]).tolist()
    [[b'a', b'b'], [b'c', b'']]
    """
    array = np.full((len(lists), max(map(len, lists), default=0) or 1), b"", object)
    for row, ids in enumerate(lists):
        array[row, : len(ids)] = ids
    return array
