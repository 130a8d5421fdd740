"""Keeps the command line's output to what its reader needs. For programs; a library import changes no logging."""

from __future__ import annotations

import os
import sys
import warnings
from contextlib import contextmanager
from typing import Iterator


def quieten_libraries() -> None:
    """To be called before TensorFlow is imported, whose C++ part speaks of missing GPU libraries at every start."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    warnings.filterwarnings("ignore", category=FutureWarning, module="google")


def start_xla() -> None:
    """Makes XLA's service, which logs to standard error whatever its log level, and drops those lines."""
    import tensorflow as tf

    with _muted_stderr():
        tf.function(lambda x: x + 1.0, jit_compile=True)(tf.constant(0.0))


@contextmanager
def _muted_stderr() -> Iterator[None]:
    """Sends the process's file descriptor 2 nowhere: C++ code writes there, not to sys.stderr."""
    sys.stderr.flush()
    saved = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(nowhere)
