"""What the parts of a bundle must be."""

from __future__ import annotations

import numpy as np

from tf_hqgnn.quantization.codes import Codes
from tf_hqgnn.types import Float32Array, IntArray, ObjectArray


def check_ids(name: str, ids: ObjectArray) -> None:
    """Raises ValueError unless ids are distinct non-empty strings, at least one."""
    if ids.ndim != 1 or not len(ids):
        raise ValueError(f"{name} must be a vector with at least one id, got shape {ids.shape}")
    bad = next((value for value in ids if not isinstance(value, str) or not value), None)
    if bad is not None:
        raise ValueError(f"{name} must be non-empty strings, got {bad!r}")
    if len(set(ids)) != len(ids):
        raise ValueError(f"{name} must be distinct, but of {len(ids)} only {len(set(ids))} are")


def largest_value(rows: Codes | Float32Array) -> float:
    """Returns a bound of the magnitude of every value."""
    if not isinstance(rows, Codes):
        return float(max(rows.max(), -rows.min()))
    return float(rows.scale.max()) + (0.0 if rows.offset is None else float(np.abs(rows.offset).max()))


def check_rows(name: str, rows: Codes | Float32Array, num_rows: int) -> int:
    """Returns the dimension of finite rows; raises ValueError unless there are `num_rows` of them."""
    if isinstance(rows, Codes):
        if len(rows) != num_rows:
            raise ValueError(f"{name} must be {num_rows} rows of codes, got {len(rows)}")
        return rows.dim
    if rows.ndim != 2 or len(rows) != num_rows or rows.dtype != np.float32:
        raise ValueError(f"{name} must be float32 [{num_rows}, d] or Codes, got {rows.dtype} {list(rows.shape)}")
    # Two passes that need no memory; which rows it is, is asked only if there are any.
    if not np.isfinite([rows.min(), rows.max()]).all():
        bad = np.flatnonzero(~np.isfinite(rows).all(axis=1))
        raise ValueError(f"{name} must be finite, but {len(bad)} rows aren't, the first is row {bad[0]}: train again")
    return rows.shape[1]


def check_seen(indptr: IntArray, indices: IntArray, num_users: int, num_items: int) -> None:
    """Raises ValueError unless seen items are a CSR over the users, ascending within each."""
    fits = indptr.shape == (num_users + 1,) and indptr[0] == 0 and indptr[-1] == len(indices)
    if not fits or (np.diff(indptr) < 0).any():
        raise ValueError(f"seen must be a CSR over {num_users} users, got an indptr of shape {indptr.shape}")
    if len(indices) and (indices.min() < 0 or indices.max() >= num_items):
        raise ValueError(f"seen items must be rows from 0 to {num_items - 1}, got {indices.min()} to {indices.max()}")
    ascends = np.diff(indices) > 0
    # Where a user's items begin, they may be below the items of the user before.
    starts = indptr[1:-1]
    ascends[starts[(starts > 0) & (starts < len(indices))] - 1] = True
    if not ascends.all():
        raise ValueError("seen items must be strictly ascending within each user")
