"""A line per component on the terminal, in place of the thousands that TFX and TensorFlow would log."""

from __future__ import annotations

import logging
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from absl import logging as absl_logging

from tf_hqgnn.logs import quieten_libraries
from tf_hqgnn.startup import collect_seldom, settle_home

# What LocalDagRunner and its launcher log with these templates; everything else below a warning is dropped.
_STARTED = "Component %s is running."
_FINISHED = "Component %s is finished."
_CACHED = "A cached execution %d is used."
# The error itself follows, from whoever started the pipeline.
_REPEATED = "Execution %d failed."
_RUNNING = "Going to run a new execution %d"
# These print lines of their own, which an open one would run into.
_TALKATIVE = ("Trainer",)
_ROUTINE_LOGGERS = (None, "apache_beam", "tensorflow")


class ProgressHandler(logging.Handler):
    """Turns the runner's log into `[3/10] Transform ... 4.2 s`.

    Args:
      num_components: how many there are.
      stream: where the lines go.
    """

    def __init__(self, num_components: int, stream: TextIO | None = None) -> None:
        super().__init__(logging.INFO)
        self._num_components = num_components
        self._stream = stream or sys.stdout
        self._number = 0
        self._title = ""
        self._started = time.monotonic()
        self._is_cached = False
        self._is_open = False
        self._is_talkative = False

    def emit(self, record: logging.LogRecord) -> None:
        """Prints what is worth a line."""
        if record.msg == _STARTED:
            self._number += 1
            self._started, self._is_cached = time.monotonic(), False
            name = str(record.args[0]) if isinstance(record.args, tuple) else ""
            self._title = f"[{self._number}/{self._num_components}] {name} ... "
            self._write(self._title)
            self._is_open = True
            self._is_talkative = name in _TALKATIVE
        elif record.msg == _RUNNING and self._is_talkative:
            self.close_line()
        elif record.msg == _CACHED:
            self._is_cached = True
        elif record.msg == _FINISHED:
            seconds = time.monotonic() - self._started
            outcome = "from the cache" if self._is_cached else f"{seconds:.1f} s"
            self._write(f"{'' if self._is_open else self._title}{outcome}\n")
            self._is_open = False
        # TFX and TensorFlow warn on every run, whatever its author does; what the components warn of is in the summary.
        elif record.levelno >= logging.ERROR and record.msg != _REPEATED:
            self.close_line()
            print(f"{record.levelname.lower()}: {record.getMessage()}", file=sys.stderr)

    def close_line(self) -> None:
        """Ends the line of a component that hasn't finished."""
        if self._is_open:
            self._write("\n")
            self._is_open = False

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()


def quieten_tfx() -> None:
    """Lets TFX and what it imports speak up from errors on; to be called before TFX is imported, which is loud."""
    settle_home()
    collect_seldom()
    quieten_libraries()
    warnings.simplefilter("ignore")
    for name in _ROUTINE_LOGGERS:
        logging.getLogger(name).setLevel(logging.ERROR)


@contextmanager
def show_progress(handler: ProgressHandler) -> Iterator[None]:
    """Sends absl's log, which is TFX's, to `handler` while the block runs."""
    logger = absl_logging.get_absl_logger()
    before = logger.handlers, logger.propagate, absl_logging.get_verbosity()
    logger.handlers, logger.propagate = [handler], False
    absl_logging.set_verbosity(absl_logging.INFO)
    try:
        yield
    finally:
        handler.close_line()
        logger.handlers, logger.propagate = before[:2]
        absl_logging.set_verbosity(before[2])
