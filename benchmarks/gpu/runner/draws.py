"""Arrays that follow from a seed and the position of each number, so that any part of them can be made anywhere.

Every number comes from a hash of its position in the array, by integers alone: the device draws a whole array by a
compiled program (`maker/drawing.py` has the same formulas for TensorFlow), and the host draws the few rows that it
checks an answer with.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

KINDS = ("normal", "positive", "bytes", "bits", "words", "scales", "zeros")

# The sum of four bytes, each uniform in 0..255, less its mean, times this has the variance 1.
NORMAL_SCALE = 1.0 / 147.8
# Odd numbers whose products spread the bits of a position over a word.
MULTIPLIERS = (0x9E3779B1, 0x7FEB352D, 0x846CA68B)


@dataclass(frozen=True)
class Draw:
    """An array and how it is made.

    Args:
      kind: one of `KINDS`: "normal" float32 of mean 0 and deviation `scale`; "positive" float32 in [0, `scale`);
        "bytes" uint8; "bits" uint8, 0 or 1; "words" int64, all bits random; "scales" float16 in [1/16, 1/8);
        "zeros" of any dtype.
      seed: from 0 on, below 2^32.
      shape: of the array; at most 2^32 numbers.
      dtype: NumPy's name.
      scale: of "normal" and "positive".
    """

    kind: str
    seed: int
    shape: tuple[int, ...]
    dtype: str
    scale: float = 1.0

    @staticmethod
    def from_json(values: dict[str, Any]) -> Draw:
        """What `dataclasses.asdict` made."""
        if values.get("kind") not in KINDS:
            raise ValueError(f"a draw must be one of {', '.join(KINDS)}, got {values.get('kind')!r}")
        return Draw(**{**values, "shape": tuple(values["shape"])})


def draw(spec: Draw) -> np.ndarray:
    """The whole array."""
    return draw_rows(spec, np.arange(spec.shape[0])) if spec.shape else draw_rows(spec, np.zeros([], np.int64))


def draw_rows(spec: Draw, index: np.ndarray) -> np.ndarray:
    """The rows at `index`, integers of any shape, of the array.

    >>> whole = Draw("bytes", 7, (5, 3), "uint8")
    >>> bool((draw(whole)[[4, 1]] == draw_rows(whole, np.array([4, 1]))).all())
    True
    """
    width = int(np.prod(spec.shape[1:], dtype=np.int64))
    first = np.asarray(index, np.uint64)[..., np.newaxis] * np.uint64(width)
    positions = (first + np.arange(width, dtype=np.uint64)).astype(np.uint32)
    values = _values(spec, positions)
    return values.reshape(np.shape(index) + tuple(spec.shape[1:])).astype(spec.dtype, copy=False)


def mixed(positions: np.ndarray, seed: int) -> np.ndarray:
    """Random bits for each position, uint32 of its shape."""
    with np.errstate(over="ignore"):
        x = positions.astype(np.uint32) * np.uint32(MULTIPLIERS[0]) + np.uint32(seed * MULTIPLIERS[2] % 2**32)
        x ^= x >> np.uint32(16)
        x *= np.uint32(MULTIPLIERS[1])
        x ^= x >> np.uint32(15)
        x *= np.uint32(MULTIPLIERS[2])
        return x ^ (x >> np.uint32(16))


def _values(spec: Draw, positions: np.ndarray) -> np.ndarray:
    if spec.kind == "zeros":
        return np.zeros(positions.shape, spec.dtype)
    bits = mixed(positions, spec.seed)
    if spec.kind == "normal":
        total = sum((bits >> np.uint32(shift)) & np.uint32(255) for shift in (0, 8, 16, 24))
        return (total.astype(np.float32) - np.float32(510.0)) * np.float32(NORMAL_SCALE * spec.scale)
    if spec.kind == "positive":
        return (bits >> np.uint32(8)).astype(np.float32) * np.float32(spec.scale * 2.0**-24)
    if spec.kind in ("bytes", "bits"):
        return (bits & np.uint32(255 if spec.kind == "bytes" else 1)).astype(np.uint8)
    if spec.kind == "words":
        high = mixed(positions, spec.seed + 1)
        return (bits.astype(np.uint64) | high.astype(np.uint64) << np.uint64(32)).astype(np.int64)
    # Eleven bits, which float16 holds exactly.
    return ((bits & np.uint32(1023)).astype(np.float32) * np.float32(2.0**-14) + np.float32(2.0**-4)).astype(np.float16)


def indices(seed: int, size: int, bound: int, skewed: bool) -> np.ndarray:
    """int32 [size], numbers below `bound`; if `skewed` the lowest of three draws."""
    draws = [
        mixed(np.arange(size, dtype=np.uint32), seed + turn) % np.uint32(bound) for turn in range(3 if skewed else 1)
    ]
    return np.min(draws, axis=0).astype(np.int32)
