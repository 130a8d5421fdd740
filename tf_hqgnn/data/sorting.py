"""The order of many numbers, fast."""

from __future__ import annotations

import numpy as np

from tf_hqgnn.types import Int64Array, IntArray


def stable_argsort(values: IntArray) -> Int64Array:
    """As np.argsort(values, kind="stable") for numbers from 0 to 2^31 - 1; int64.

    Value and row in one number: sorting these takes a tenth of the time, since NumPy sorts numbers, but not rows, with
    vector instructions.

    Example:
      >>> stable_argsort(np.array([2, 0, 2, 1])).tolist()
      [1, 3, 0, 2]
    """
    bits = max(len(values) - 1, 1).bit_length()
    key = values.astype(np.int64) << bits
    key |= np.arange(len(values))
    key.sort()
    key &= (1 << bits) - 1
    return key
