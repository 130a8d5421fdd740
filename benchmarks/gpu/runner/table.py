"""The table: a row is in the file as soon as it is known."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

COLUMNS = (
    "program",
    "kind",
    "status",
    "median_ms",
    "p95_ms",
    "calls",
    "compile_s",
    "check",
    "moved_mib",
    "memory_limit_ms",
    "memory_share",
    "torch_ms",
    "times_torch",
    "tensorflow_cpu_ms",
    "needed_mib",
    "note",
    "device",
    "driver",
    "library",
    "tensorflow",
    "commit",
)


class Table:
    """A CSV that is written anew, row by row.

    Args:
      path: of the file.
    """

    def __init__(self, path: Path) -> None:
        self.rows: list[dict[str, Any]] = []
        path.parent.mkdir(parents=True, exist_ok=True)
        # Open as long as the run.
        self._file = path.open("w", newline="", encoding="utf-8")
        self._writer = csv.DictWriter(self._file, COLUMNS)
        self._writer.writeheader()
        self._file.flush()

    def add(self, row: dict[str, Any]) -> None:
        """Writes a row."""
        self.rows.append(row)
        self._writer.writerow({name: _text(row.get(name)) for name in COLUMNS})
        self._file.flush()

    def bandwidth(self, num_bytes: float) -> float | None:
        """Bytes a second of the copy whose size is nearest to `num_bytes`; None if none was measured."""
        copies = [row for row in self.rows if row["kind"] == "copy" and row.get("median_ms")]
        if not copies:
            return None
        nearest = min(copies, key=lambda row: abs(_ratio(row["moved_mib"] * 2**20, num_bytes)))
        return nearest["moved_mib"] * 2**20 / (nearest["median_ms"] * 1e-3)

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


def _ratio(one: float, other: float) -> float:
    """How many times one is the other, less 1, the larger over the smaller."""
    return max(one, other) / max(min(one, other), 1.0) - 1.0


def _text(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
