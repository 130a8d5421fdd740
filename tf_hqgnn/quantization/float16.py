"""Brings tables into the range of float16, in which codes store their ranges."""

from __future__ import annotations

import logging

import numpy as np

from tf_hqgnn.types import Float32Array

# Three times the largest value, as wide as a range per tensor may be, is still below float16's largest number, 65,504.
_HIGHEST = 14
# float16 keeps all its digits down to here; a smaller range is stored coarsely, below 2^-25 as 0.
_LOWEST = -14
_VANISHES_BELOW = -25
log = logging.getLogger(__name__)


def float16_exponent(rows: Float32Array) -> int:
    """The exponent e with which `rows * 2^e` has ranges that float16 can hold; 0 where the rows fit as they are.

    Multiplying all rows of a table by one power of two loses nothing and changes no ranking.

    Args:
      rows: float32 [n, d], finite.

    Example:
      >>> float16_exponent(np.array([[1.0, -2.0]], np.float32))
      0
      >>> float16_exponent(np.array([[3e6, 0.0]], np.float32))
      -8
    """
    lengths = np.abs(rows).max(axis=1, initial=0)
    lengths = lengths[lengths > 0]
    return exponent_of_lengths(lengths.max(), lengths.min()) if len(lengths) else 0


def exponent_of_lengths(longest: float, shortest: float) -> int:
    """As `float16_exponent`, of the largest magnitudes of the longest row and of the shortest one that isn't 0."""
    # frexp: x is below 2^exponent and at least half of that.
    highest, lowest = int(np.frexp(longest)[1]), int(np.frexp(shortest)[1])
    if highest <= _HIGHEST and lowest > _LOWEST:
        return 0
    return _HIGHEST - highest


def fit_float16(rows: Float32Array, what: str) -> Float32Array:
    """The rows times the power of two of `float16_exponent`; the log says so, and what is lost all the same.

    Args:
      rows: float32 [n, d], finite.
      what: `users` or `items`, for the log.
    """
    exponent = float16_exponent(rows)
    if not exponent:
        return rows
    log.info(
        "codes: the embeddings of %s are multiplied by 2^%d to fit float16; rankings stay the same", what, exponent
    )
    fitted: Float32Array = np.ldexp(rows, exponent)
    lengths = np.abs(fitted).max(axis=1)
    lost = int(((lengths < 2.0**_VANISHES_BELOW) & (np.abs(rows).max(axis=1) > 0)).sum())
    if lost:
        log.warning(
            "codes: the embeddings of %d %s are so much shorter than the longest one that their codes are zero",
            lost,
            what,
        )
    return fitted
