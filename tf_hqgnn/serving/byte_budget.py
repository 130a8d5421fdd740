"""Memory that strangers can fill, counted."""

from __future__ import annotations

import threading


class ByteBudget:
    """The bytes of requests and answers that may be in memory at once, over all connections; safe between threads.

    Args:
      total: Bytes, >= 1.
    """

    def __init__(self, total: int) -> None:
        self._total = total
        self._taken = 0
        self._lock = threading.Lock()

    @property
    def taken(self) -> int:
        """Bytes in use."""
        return self._taken

    def take(self, count: int) -> bool:
        """Takes `count` bytes if they fit; whatever is alone fits.

        >>> budget = ByteBudget(10)
        >>> [budget.take(count) for count in (8, 3, 2)], budget.taken
        ([True, False, True], 10)
        """
        with self._lock:
            if self._taken and self._taken + count > self._total:
                return False
            self._taken += count
            return True

    def give(self, count: int) -> None:
        """Gives `count` bytes back."""
        with self._lock:
            self._taken -= count
