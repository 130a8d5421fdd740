"""Paired differences over seeds: their confidence intervals, corrected p values, and what could have been seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import optimize, stats

CONFIDENCE = 0.95
POWER = 0.8


@dataclass(frozen=True)
class Comparison:
    """What the paired differences of several seeds say.

    Args:
      number: of pairs.
      mean: of the differences.
      low: the lower end of the confidence interval of the mean.
      high: its upper end.
      p_value: of a two-sided paired t-test.
      visible: the least mean that such a test would have found in `POWER` of all repetitions, differences varying as
        they do here.
    """

    number: int
    mean: float
    low: float
    high: float
    p_value: float
    visible: float


def compare(differences: Sequence[float]) -> Comparison:
    """The comparison of at least two pairs.

    Args:
      differences: one for each seed.

    Raises:
      ValueError: There are fewer than two.
    """
    values = np.asarray(differences, np.float64)
    if len(values) < 2:
        raise ValueError(f"at least 2 pairs are needed for an interval, got {len(values)}")
    mean, error = float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values)))
    freedom = len(values) - 1
    reach = float(stats.t.ppf(0.5 + CONFIDENCE / 2, freedom)) * error
    p_value = float(2 * stats.t.sf(abs(mean) / error, freedom)) if error > 0 else float(mean == 0)
    return Comparison(len(values), mean, mean - reach, mean + reach, p_value, visible_effect(error, freedom))


def visible_effect(standard_error: float, freedom: int) -> float:
    """The mean that a two-sided t-test at `1 - CONFIDENCE` finds with the probability `POWER`.

    Args:
      standard_error: of the mean.
      freedom: degrees of freedom, the number of pairs less one.
    """
    threshold = stats.t.ppf(0.5 + CONFIDENCE / 2, freedom)

    def missing(effect: float) -> float:
        found = stats.nct.sf(threshold, freedom, effect) + stats.nct.cdf(-threshold, freedom, effect)
        return float(found) - POWER

    return standard_error * float(optimize.brentq(missing, 0.0, 4 * threshold + 10))


def holm(p_values: Sequence[float]) -> list[float]:
    """The p values after Holm's correction for many comparisons, in the order of `p_values`.

    >>> [round(p, 3) for p in holm([0.04, 0.01, 0.03])]
    [0.06, 0.03, 0.06]
    """
    corrected, largest = [0.0] * len(p_values), 0.0
    for place, which in enumerate(np.argsort(p_values)):
        largest = max(largest, min(1.0, (len(p_values) - place) * p_values[which]))
        corrected[which] = largest
    return corrected
