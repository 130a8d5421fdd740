"""Notices that a Python worker of prism has died: prism itself waits for it for ever."""

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

    It looks at this process's group in Linux's /proc, and does nothing where there is none.

    Args:
      on_death: gets a line that says what happened; called from a thread.
      grace_seconds: until it is called; a job that has ended stops its workers shortly before it says so.
    """
    if Path("/proc/self/stat").exists():
        threading.Thread(target=_watch, args=(on_death, grace_seconds), daemon=True).start()


def grandchildren() -> set[int]:
    """Returns the ids of running processes in this process's group that another one of the group has started."""
    me, group = os.getpid(), os.getpgid(0)
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with suppress(OSError):
                # After the name in parentheses: state, parent, group. A zombie has ended.
                state, parent, its_group = (entry / "stat").read_text().rpartition(")")[2].split()[:3]
                if int(its_group) == group and state != "Z" and int(parent) != me and int(entry.name) != me:
                    found.add(int(entry.name))
    return found


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
