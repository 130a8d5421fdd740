"""Answers that are wrong, and how far two arrays may differ."""

from __future__ import annotations

import numpy as np


class WrongAnswer(Exception):
    """An answer isn't what the reference says; the message says how far off it is."""


def compare(name: str, got: np.ndarray, wanted: np.ndarray, tolerance: float) -> None:
    """Compares integers exactly, others to within `tolerance` of the largest magnitude that is wanted.

    Raises:
      WrongAnswer: They differ by more, or in shape, or one of them isn't finite where the other is.
    """
    if got.shape != wanted.shape:
        raise WrongAnswer(f"{name} has the shape {got.shape}, wanted is {wanted.shape}")
    if not np.issubdtype(wanted.dtype, np.floating):
        if not np.array_equal(got, wanted):
            raise WrongAnswer(f"{name}: {np.count_nonzero(got != wanted):,} of {wanted.size:,} numbers differ")
        return
    if not np.array_equal(np.isfinite(got), np.isfinite(wanted)):
        raise WrongAnswer(f"{name} isn't finite where it should be")
    finite = np.isfinite(wanted)
    largest = float(np.abs(wanted[finite]).max(initial=0.0))
    error = float(np.abs(got[finite].astype(np.float64) - wanted[finite]).max(initial=0.0))
    if error > tolerance * largest:
        raise WrongAnswer(f"{name} is off by {error:.2g}, {error / max(largest, 1e-300):.1g} of its largest number")
