"""In which unit the times of a log are, as far as their size tells."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tf_hqgnn.types import Float64Array, InputError, Int64Array

_UNITS = ("seconds", "milliseconds", "microseconds", "nanoseconds")
# From 1973 or 1979 on, to the year 9999 and beyond. What is smaller may be any counter.
_EDGES = (1e8, 3e11, 3e14, 3e17)
# Dates written as numbers: 20240131, and with the time of the day 20240131170500.
_DATES = ((19_000_101, 21_001_231, 1), (19_000_101_000_000, 21_001_231_235_959, 1_000_000))


def time_unit(name: str, columns: Sequence[Float64Array | None]) -> str | None:
    """The unit of the times of one file; None if it can't be told.

    Args:
      name: of the file, for messages.
      columns: float64 [n] each.

    Raises:
      InputError: The times are in several units, or are dates written as numbers.

    Example:
      >>> time_unit("log.csv", [np.array([1704164645.0, 1704164646.0])]), time_unit("log.csv", [np.arange(5.0)])
      ('seconds', None)
    """
    times = np.concatenate([column for column in columns if column is not None] or [np.zeros(0)])
    if not len(times):
        return None
    low, high = float(times.min()), float(times.max())
    for first, last, scale in _DATES:
        if first <= low and high <= last and _are_dates((times // scale).astype(np.int64)):
            raise InputError(
                f"{name}: timestamps such as {low:.0f} are dates written as numbers, and would be read as seconds "
                "since 1970; write 2024-01-31 or 2024-01-31T17:05:00, or seconds since 1970"
            )
    band = np.searchsorted(_EDGES, np.abs(times), side="right")
    found = {int(number): float(times[np.argmax(band == number)]) for number in np.unique(band) if number > 0}
    if len(found) > 1:
        units = [f"{_UNITS[number - 1]} (such as {example:.0f})" for number, example in found.items()]
        raise InputError(
            f"{name}: timestamps in {' and in '.join(units)}; expected one unit, seconds since 1970 or ISO 8601"
        )
    return _UNITS[next(iter(found)) - 1] if found else None


def _are_dates(numbers: Int64Array) -> bool:
    """Whether all of some numbers of eight digits have a month and a day."""
    months, days = numbers // 100 % 100, numbers % 100
    return bool(((months >= 1) & (months <= 12) & (days >= 1) & (days <= 31)).all())
