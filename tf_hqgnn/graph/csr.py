"""What each row of a large sparse matrix of zeros and ones holds, such as the items that each user has seen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tf_hqgnn.types import BoolArray, Int64Array, IntArray

# (indptr, indices): row r has the columns indices[indptr[r] : indptr[r + 1]].
CSR = tuple[IntArray, IntArray]


def select_rows(csr: CSR, rows: IntArray | Sequence[int]) -> CSR:
    """The CSR matrix with only these rows, in this order.

    Example:
      >>> indptr, indices = select_rows((np.array([0, 1, 1, 3]), np.array([7, 8, 9])), np.array([2, 0]))
      >>> indptr.tolist(), indices.tolist()
      ([0, 2, 3], [8, 9, 7])
    """
    indptr, indices = csr
    parts = [indices[indptr[row] : indptr[row + 1]] for row in rows]
    lengths = np.array([len(part) for part in parts], np.int64)
    chosen = np.concatenate(parts) if parts else indices[:0]
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)]), chosen


def rows_of_entries(csr: CSR) -> Int64Array:
    """The row of each entry, int64."""
    return np.repeat(np.arange(len(csr[0]) - 1, dtype=np.int64), np.diff(csr[0]))


def keep_entries(csr: CSR, kept: BoolArray) -> CSR:
    """The CSR matrix with the entries of which `kept`, bool, is True.

    Example:
      >>> indptr, indices = keep_entries((np.array([0, 1, 3]), np.array([7, 8, 9])), np.array([False, True, True]))
      >>> indptr.tolist(), indices.tolist()
      ([0, 0, 2], [8, 9])
    """
    counts = np.bincount(rows_of_entries(csr)[kept], minlength=len(csr[0]) - 1)
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)]), csr[1][kept]


def keep_columns(csr: CSR, columns: IntArray, num_columns: int) -> CSR:
    """The CSR matrix with only these columns, renumbered to their places in `columns`.

    Args:
      csr: the matrix.
      columns: ascending.
      num_columns: that the matrix has.

    Example:
      >>> indptr, indices = keep_columns((np.array([0, 2]), np.array([0, 2])), np.array([1, 2]), 3)
      >>> indptr.tolist(), indices.tolist()
      ([0, 1], [1])
    """
    place = np.full(num_columns, -1, np.int32)
    place[columns] = np.arange(len(columns))
    return keep_entries((csr[0], place[csr[1]]), place[csr[1]] >= 0)


def coordinates(csr: CSR, rows: IntArray, dtype: type[np.integer[Any]] = np.int32) -> IntArray:
    """[n, 2] of `dtype`: (place in `rows`, column) of every entry of these rows of a CSR, without a loop over rows."""
    indptr, indices = csr
    starts = indptr[rows].astype(np.int64)
    counts = indptr[rows + 1].astype(np.int64) - starts
    places = np.repeat(np.arange(len(rows)), counts)
    ends = np.cumsum(counts)
    offsets = np.arange(len(places)) - np.repeat(ends - counts, counts)
    pairs: IntArray = np.stack([places, indices[np.repeat(starts, counts) + offsets]], axis=1)
    return pairs.astype(dtype)


def check_rows(rows: IntArray, size: int, name: str) -> None:
    """Raises ValueError unless `rows` is a vector of integers in [0, size)."""
    if rows.ndim != 1 or not np.issubdtype(rows.dtype, np.integer):
        raise ValueError(f"{name} must be a vector of integers, got {rows.dtype} {rows.shape}")
    if len(rows) and (rows.min() < 0 or rows.max() >= size):
        raise ValueError(f"{name} must be in [0, {size}), got values from {rows.min()} to {rows.max()}")


def check_csr(csr: CSR, num_rows: int, num_items: int, name: str) -> None:
    """Raises ValueError unless `csr` is a matrix [num_rows, num_items]."""
    indptr, indices = csr
    if indptr.shape != (num_rows + 1,):
        raise ValueError(f"the indptr of {name} must have {num_rows} + 1 entries, one a user more, got {indptr.shape}")
    if indptr[0] != 0 or indptr[-1] != len(indices) or np.any(np.diff(indptr) < 0):
        raise ValueError(f"the indptr of {name} must ascend from 0 to its number of items, {len(indices)}")
    check_rows(indices, num_items, f"items of {name}")
