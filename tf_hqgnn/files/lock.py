"""A lock on what is being written.

It is an advisory lock of the system (`flock`), which ends with the process that holds it, however that ends. Linux
carries it over NFS to other machines, which needs NFS 4, or NFS 3 with its lock service. A file system without locks
gets a marker file in their place; a marker that a killed process left behind is removed after its process is gone.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from tf_hqgnn.types import InputError

log = logging.getLogger(__name__)


@contextmanager
def locked(path: Path, refusal: str) -> Iterator[None]:
    """Holds the lock of a file while the block runs, or refuses at once.

    Args:
      path: the lock's file, made with its folder if it isn't there; it stays.
      refusal: what to tell the user when another process holds the lock.

    Raises:
      InputError: Another process holds the lock.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        held = FileLock(str(path)).acquire(timeout=0)
    except Timeout as error:
        raise InputError(refusal) from error
    with held:
        yield


@contextmanager
def locked_beside(path: Path, refusal: str) -> Iterator[None]:
    """Hold a lock as `locked` does, in a hidden file beside `path`, which may then be renamed meanwhile.

    Args:
      path: what is being written.
      refusal: as in `locked`.
    """
    lock = path.with_name(f".{path.name}.lock")
    with locked(lock, refusal):
        try:
            yield
        finally:
            with suppress(OSError):
                lock.unlink()


@contextmanager
def waited_for(path: Path, what: str) -> Iterator[None]:
    """Holds the lock of a file while the block runs, after waiting for whoever holds it.

    Args:
      path: as in `locked`.
      what: is being written, for a line of the log where the lock must be waited for.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(str(path))
    try:
        held = lock.acquire(timeout=0)
    except Timeout:
        log.info("another process is writing %s; waiting until it is done", what)
        held = lock.acquire()
    with held:
        yield
