"""Notices that a Python worker of prism has died: before its first step, prism waits for it for ever."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

_POLL_SECONDS = 1.0


def watch_workers(on_death: Callable[[str], None], grace_seconds: float = 10.0) -> None:
    """Calls `on_death` once a process has ended that a child of this process had started, and this one still runs.

    It looks into Linux's /proc, and does nothing where there is none.

    Args:
      on_death: gets a line that says what happened; called from a thread.
      grace_seconds: until it is called; a job that has ended stops its workers shortly before it says so.
    """
    if Path("/proc/self/stat").exists():
        threading.Thread(target=_watch, args=(on_death, grace_seconds), daemon=True).start()


def grandchildren() -> set[int]:
    """Returns the ids of running processes that a child of this process has started."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with suppress(OSError):
                # After the name in parentheses: state and parent. A zombie has ended.
                state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
                if state != "Z":
                    parents[int(entry.name)] = int(parent)
    # Not theirs: a worker may be a script that starts others for a moment.
    return {pid for pid, parent in parents.items() if parents.get(parent) == os.getpid()}


def _watch(on_death: Callable[[str], None], grace_seconds: float) -> None:
    seen: set[int] = set()
    while True:
        time.sleep(_POLL_SECONDS)
        now = grandchildren()
        if seen - now:
            time.sleep(grace_seconds)
            on_death(f"the Python worker with the id {min(seen - now)} died")
            return
        seen |= now
