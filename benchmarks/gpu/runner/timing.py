"""How long a call takes."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

WARM_UP = 2
CALLS = 20


@dataclass(frozen=True)
class Times:
    """Seconds of the calls, each until its answer was there."""

    seconds: list[float]

    @property
    def median_ms(self) -> float:
        """Median, in milliseconds."""
        return 1e3 * float(np.median(self.seconds))

    @property
    def p95_ms(self) -> float:
        """What 95 of 100 calls don't exceed, in milliseconds."""
        return 1e3 * float(np.percentile(self.seconds, 95))


def measure(call: Callable[[], None], deadline: float, most: int = 100, enough_seconds: float = 0.3) -> Times | None:
    """Times of warm calls: at least `CALLS`, up to `most` while they take less than `enough_seconds` together.

    Args:
      call: returns when its answer is there.
      deadline: of `time.monotonic()`; fewer calls are made where it comes before.
      most: calls at the most.
      enough_seconds: see above.

    Returns:
      The times; None if there was no time for three calls.
    """
    for _ in range(WARM_UP):
        start = time.monotonic()
        call()
        if start + 4 * (time.monotonic() - start) > deadline:
            break
    seconds: list[float] = []
    while len(seconds) < most:
        if seconds and time.monotonic() + float(np.mean(seconds)) > deadline:
            break
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
        if len(seconds) >= CALLS and sum(seconds) >= enough_seconds:
            break
    return Times(seconds) if len(seconds) >= 3 else None
