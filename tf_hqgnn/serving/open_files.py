"""How many connections a port may hold, so that the process never runs out of file descriptors."""

from __future__ import annotations

import os
import resource
from pathlib import Path

# What loading a model, a log file or a name's lookup may open beside the connections.
_RESERVE = 64
_MOST = 1024
_LEAST = 4


def connections_per_port(ports: int = 2) -> int:
    """The connections that each of `ports` may hold: what the limit of open files leaves, 1024 at most."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return _MOST
    return max(_LEAST, min(_MOST, (soft - open_files() - _RESERVE) // ports))


def open_files() -> int:
    """The descriptors that this process has open; a guess where there is no /proc."""
    try:
        return len(os.listdir(Path("/proc/self/fd")))
    except OSError:
        return _RESERVE
