"""Rows of a table by their directions alone."""

from __future__ import annotations

import numpy as np

from tf_hqgnn.types import Float32Array, FloatArray


def unit_rows(rows: FloatArray) -> Float32Array:
    """float32, rows [n, d] at unit length; rows of zeros stay zeros."""
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    scaled: FloatArray = rows / np.where(norms > 0, norms, 1.0)
    return scaled.astype(np.float32, copy=False)
