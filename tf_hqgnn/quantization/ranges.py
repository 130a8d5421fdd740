"""The interval that the levels of a row span: one formula for NumPy arrays, tensors and gradients."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import numpy as np

# A range that reaches so many standard deviations is the one with the least squared error for normal values and 2^b
# equally spaced levels (Max, IRE Trans. Information Theory 1960, table II). At 1 bit the best range of a row follows
# from the row itself; from 5 bits on it reaches past the extremes of a row of usual width, which are then the range.
CLIPPING = {2: 1.494, 3: 2.051, 4: 2.514}

# Narrower ranges than this are taken as this wide, so that nothing is divided by zero.
MIN_WIDTH = 1e-12


@dataclass(frozen=True)
class _Operations:
    """Of one kind of arrays; reductions are over a row and keep its axis."""

    mean: Callable[[Any], Any]
    least: Callable[[Any], Any]
    most: Callable[[Any], Any]
    square: Callable[[Any], Any]
    sqrt: Callable[[Any], Any]
    maximum: Callable[[Any, Any], Any]
    minimum: Callable[[Any, Any], Any]


def row_ranges(rows: Any, num_bits: int, symmetric: bool) -> tuple[Any, Any]:
    """The interval that the 2^b levels of each row span, differentiable in the row if it is a tensor.

    With y the row (its deviation from its mean m, if not symmetric): at 1 bit `m -+ mean |y|`, the least squared error
    of two levels around m; at 2 to 4 bits `m -+ CLIPPING[b] rms(y)`, but not past the extremes; above, the extremes.

    Args:
      rows: float [..., d], an array or a tensor.
      num_bits: b, 1 to 8.
      symmetric: whether `lower = -upper`: m is 0 then.

    Returns:
      `lower` and `upper`, [..., 1] of the kind of `rows`.

    Example:
      >>> row_ranges(np.array([[1.0, -3.0]], np.float32), num_bits=1, symmetric=True)
      (array([[-2.]], dtype=float32), array([[2.]], dtype=float32))
    """
    of = _of_arrays() if isinstance(rows, np.ndarray) else _of_tensors()
    centre: Any = 0.0
    if symmetric:
        most = of.most(abs(rows))
        least = -most
    else:
        centre, least, most = of.mean(rows), of.least(rows), of.most(rows)
    if num_bits == 1:
        reach = of.mean(abs(rows - centre))
    elif num_bits in CLIPPING:
        # The slope of the root is infinite at 0, where a constant row would turn it into NaN.
        reach = CLIPPING[num_bits] * of.sqrt(of.maximum(of.mean(of.square(rows - centre)), MIN_WIDTH**2))
    else:
        return least, most
    return of.maximum(least, centre - reach), of.minimum(most, centre + reach)


@cache
def _of_arrays() -> _Operations:
    mean, least, most = (partial(reduce, axis=-1, keepdims=True) for reduce in (np.mean, np.min, np.max))
    return _Operations(mean, least, most, np.square, np.sqrt, np.maximum, np.minimum)


@cache
def _of_tensors() -> _Operations:
    import tensorflow as tf  # Stored codes are made and read without it.

    mean, least, most = (
        partial(reduce, axis=-1, keepdims=True) for reduce in (tf.reduce_mean, tf.reduce_min, tf.reduce_max)
    )
    return _Operations(mean, least, most, tf.square, tf.sqrt, tf.maximum, tf.minimum)
