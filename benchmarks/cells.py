"""Results that are kept as they are found: a CSV with one row for each cell that is done."""

from __future__ import annotations

import csv
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


class Cells:
    """The rows of a CSV, so that a benchmark goes on where it stopped.

    Args:
      path: read if it is there, appended to by `add`.
      key: columns that tell one cell from another.
      columns: all of them, `key` included, as they stand in the file.
    """

    def __init__(self, path: Path, key: Sequence[str], columns: Sequence[str]) -> None:
        self._path, self._key, self._columns = path, tuple(key), tuple(columns)
        self.rows: list[dict[str, str]] = []
        if path.exists():
            with path.open(newline="", encoding="utf-8") as file:
                reader = csv.DictReader(file)
                self.rows = list(reader)
            if tuple(reader.fieldnames or ()) != self._columns:
                raise SystemExit(
                    f"{path} has the columns {', '.join(reader.fieldnames or ())}; this benchmark writes "
                    f"{', '.join(self._columns)}: give another --work"
                )

    def __contains__(self, key: Mapping[str, Any]) -> bool:
        return any(all(row[name] == str(key[name]) for name in self._key) for row in self.rows)

    def add(self, row: Mapping[str, Any]) -> None:
        """Appends a row."""
        self.rows.append({name: str(row[name]) for name in self._columns})
        is_new = not self._path.exists()
        with self._path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, fieldnames=self._columns)
            if is_new:
                writer.writeheader()
            writer.writerow(self.rows[-1])


def commit() -> str:
    """The state of the project, "-dirty" if it isn't that of a commit."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def machine() -> str:
    """Cores, kind of processor and the load at the moment."""
    return f"{os.cpu_count()} cores, {platform.machine()}, load {os.getloadavg()[0]:.1f}"


def machines(rows: Sequence[Mapping[str, str]], what: str) -> str:
    """A sentence on the machines of `rows`, and their load when `what` of each began."""
    kinds = sorted({row["machine"].partition(", load")[0] for row in rows})
    loads = [float(row["machine"].rpartition(" ")[2]) for row in rows]
    return f"Machine: {'; '.join(kinds)}; load when {what} began {min(loads):.1f} to {max(loads):.1f}."


def commits(rows: Sequence[Mapping[str, str]]) -> str:
    """A sentence on the commits of `rows`."""
    return f"Commits: {', '.join(sorted({row['commit'] for row in rows}))}."
