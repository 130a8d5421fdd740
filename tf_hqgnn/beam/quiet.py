"""Keeps Beam's logs off the command line. Imports nothing of Beam's, which speaks while it is imported."""

from __future__ import annotations

import logging
import warnings


def quieten_beam() -> None:
    """To be called before Beam is imported. What goes wrong is told by an exception, not by its log of pages."""
    logging.getLogger().setLevel(logging.CRITICAL)
    warnings.filterwarnings("ignore", category=FutureWarning)
