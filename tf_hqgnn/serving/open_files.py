"""How many connections a port may hold, so that the process never runs out of file descriptors."""

from __future__ import annotations

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
    return max(_LEAST, min(_MOST, (soft - len(descriptors()) - _RESERVE) // ports))


def descriptors() -> list[int]:
    """The file descriptors that this process has open; none where there is no /proc."""
    try:
        return [int(entry.name) for entry in Path("/proc/self/fd").iterdir()]
    except OSError:
        return []
