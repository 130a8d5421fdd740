"""Prism, Beam's own runner for one machine, written in Go: Beam starts it for each job, so that there is no cluster."""

from __future__ import annotations

from pathlib import Path

from engines.cluster import worker_flags
from engines.install import FOLDER


class Prism:
    """Has what a `Cluster` has; there is nothing to start or to stop.

    Args:
      folder: isn't used.
    """

    name = "prism"

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def start(self) -> None:
        """Does nothing: each job starts a prism of its own."""

    def stop(self) -> None:
        """Does nothing: prism ends with its job."""

    @property
    def flags(self) -> list[str]:
        """Options of Beam with which a job runs here, with Python workers that are processes of their own."""
        return ["--runner=PrismRunner", f"--prism_location={FOLDER / 'prism' / 'prism'}", *worker_flags()]
