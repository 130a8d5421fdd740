"""Ridge regression in closed form, its strength chosen on rows that were held out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.linalg

from tf_hqgnn.types import BoolArray, Float32Array, Float64Array

STRENGTHS = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0, 10000.0)


@dataclass(frozen=True, eq=False)
class Moments:
    """Sums over rows x (features, float [F]) and y (embeddings, float [d]), of which a ridge regression is made.

    Args:
      count: how many rows.
      x: float64 [F], sum of x.
      y: float64 [d], sum of y.
      xx: float64 [F, F], sum of x x^T.
      xy: float64 [F, d], sum of x y^T.
    """

    count: int
    x: Float64Array
    y: Float64Array
    xx: Float64Array
    xy: Float64Array

    @staticmethod
    def of(features: Float32Array, rows: Float32Array) -> Moments:
        """Sums over features float32 [n, F] and embeddings float32 [n, d]."""
        x, y = features.astype(np.float64), rows.astype(np.float64)
        return Moments(len(x), x.sum(axis=0), y.sum(axis=0), x.T @ x, x.T @ y)

    def __add__(self, other: Moments) -> Moments:
        return Moments(
            self.count + other.count, self.x + other.x, self.y + other.y, self.xx + other.xx, self.xy + other.xy
        )

    def solve(self, strength: float) -> tuple[Float32Array, Float32Array]:
        """Minimises `sum |y - x W - b|^2 + strength |W|^2`; the intercept b isn't held back.

        Returns:
          W float32 [F, d] and b float32 [d].

        Example:
          >>> x = np.array([[0.0], [1.0]], np.float32)
          >>> weights, intercept = Moments.of(x, 2 * x + 1).solve(0.5)
          >>> weights.tolist(), intercept.tolist()
          ([[1.0]], [1.5])
        """
        x, y = self.x / self.count, self.y / self.count
        gram = self.xx - self.count * np.outer(x, x)
        gram[np.diag_indices_from(gram)] += strength
        weights = scipy.linalg.solve(gram, self.xy - self.count * np.outer(x, y), assume_a="pos", overwrite_a=True)
        return weights.astype(np.float32), (y - x @ weights).astype(np.float32)


def choose_strength(
    moments: Moments,
    features: Float32Array,
    rows: Float32Array,
    metric: Float64Array,
    strengths: Sequence[float] = STRENGTHS,
) -> tuple[float, tuple[Float32Array, Float32Array]]:
    """Chooses the strength whose predictions score most like the rows that were held out.

    The error of a row is `e M e^T`, with M the second moments of the other side's rows: the mean square of what it
    does to a score.

    Args:
      moments: of the rows to learn from.
      features: float32 [n, F] of the rows that were held out.
      rows: float32 [n, d], those rows.
      metric: M, float64 [d, d].
      strengths: to choose from.

    Returns:
      The strength, and what `Moments.solve` gives for it.
    """
    tried = []
    for strength in strengths:
        weights, intercept = moments.solve(strength)
        tried.append((score_error(features @ weights + intercept, rows, metric), strength, (weights, intercept)))
    _, strength, solution = min(tried, key=lambda one: one[0])
    return strength, solution


def score_error(predicted: Float32Array, rows: Float32Array, metric: Float64Array) -> float:
    """The mean of `e M e^T` over the rows e of `predicted - rows`."""
    errors = (predicted - rows).astype(np.float64)
    return float(np.einsum("nd,de,ne->", errors, metric, errors) / max(1, len(errors)))


def held_out_rows(number: int, seed: int, share: float = 0.2) -> BoolArray:
    """Chooses which rows are held out, bool [number]."""
    chosen = np.zeros(number, bool)
    chosen[np.random.default_rng(seed).permutation(number)[: round(share * number)]] = True
    return chosen
