"""Keeps a move of labels whole: one at a time, put back however it ends, and mended after a kill."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from label_config import LabelError
from label_servers import kubectl

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(Exception):
    """A signal asked the process to end."""


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Holds a lock beside the config file, which ends with the process; on NFS that needs NFS 4 or its lock service.

    Raises:
      LabelError: Another label.py holds it.
    """
    try:
        file = path.with_name(f".{path.name}.lock").open("a")
    except OSError as error:
        raise LabelError(f"{path}: {error.strerror}; its folder must be writable") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LabelError(f"{path}: another label.py is at work with this file; wait until it is done") from None
        yield


@contextmanager
def alone_in_namespace(namespace: str, name: str) -> Iterator[None]:
    """Holds a ConfigMap that only one can create, for whoever works with another copy of the config file.

    Raises:
      LabelError: It is there already, or kubectl fails.
    """
    holder = f"{socket.gethostname()} (process {os.getpid()})"
    try:
        kubectl(namespace, "create", "configmap", name, f"--from-literal=holder={holder}")
    except LabelError as error:
        if "AlreadyExists" not in str(error) and "already exists" not in str(error):
            raise
        raise LabelError(
            f"another label.py is at work in namespace {namespace}: wait until it is done, or, if it was killed: "
            f"kubectl -n {namespace} delete configmap {name}"
        ) from error
    try:
        yield
    finally:
        with unmoved_by_signals():
            kubectl(namespace, "delete", "configmap", name)


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """Turns signals that end the process into `Interrupted`, so that what was begun can be put back."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        del frame
        raise Interrupted(signal.Signals(number).name)

    before = {number: signal.signal(number, interrupt) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def unmoved_by_signals() -> Iterator[None]:
    """Ignores signals while something is put back."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def journal_path(path: Path) -> Path:
    """The file that is there while labels are moved; a process that was killed leaves it behind."""
    return path.with_name(f".{path.name}.moving")
