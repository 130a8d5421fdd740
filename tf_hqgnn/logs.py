"""What programs show of logs: the progress of the package and nothing of its libraries; an import changes nothing."""

from __future__ import annotations

import logging
import os
import pkgutil
import sys
import warnings
from contextlib import contextmanager
from pathlib import Path
from typing import Iterator


class _Lines(logging.Handler):
    """Messages alone, a line each, on whatever is standard error now."""

    def emit(self, record: logging.LogRecord) -> None:
        print(self.format(record), file=sys.stderr, flush=True)


@contextmanager
def progress_on_stderr() -> Iterator[None]:
    """Shows what the package logs, from INFO on, while the block runs; for programs."""
    package = str(Path(__file__).parent)
    names = {module.name for module in pkgutil.iter_modules([package])}
    # The server writes a log of its own.
    loggers = [logging.getLogger(f"tf_hqgnn.{name}") for name in sorted(names - {"serving"})]
    before = [(logger.level, logger.propagate) for logger in loggers]
    handler = _Lines()
    for logger in loggers:
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        logger.propagate = False
    try:
        yield
    finally:
        for logger, (level, propagate) in zip(loggers, before):
            logger.removeHandler(handler)
            logger.setLevel(level)
            logger.propagate = propagate


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
def quiet_optuna() -> Iterator[None]:
    """Without Optuna's log: the study says itself what it does."""
    with warnings.catch_warnings():
        # In a notebook without ipywidgets its progress bars warn as soon as they are imported.
        warnings.filterwarnings("ignore", "IProgress not found")
        import optuna

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(before)


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
