"""Keeps Beam's logs off the command line. Imports nothing of Beam's, which speaks while it is imported."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


def quieten_beam() -> None:
    """To be called before Beam is imported. What goes wrong is told by an exception, not by its log of pages."""
    logging.getLogger().setLevel(logging.CRITICAL)
    warnings.filterwarnings("ignore", category=FutureWarning)


@contextmanager
def beam_imported_quietly() -> Iterator[None]:
    """Hides what Beam says while it is imported, such as of libraries that it misses, and nothing afterwards."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        root.setLevel(level)
