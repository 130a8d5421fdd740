"""What every benchmark prints and how it measures."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

SHARED_DATA = Path(__file__).resolve().parent.parent.parent / "shared" / "data"


def describe_run(module: str) -> str:
    """The machine and the command, to stand above the figures."""
    model = "unknown processor"
    with Path("/proc/cpuinfo").open(encoding="utf-8") as file:
        for line in file:
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
    load = os.getloadavg()[0]
    command = " ".join(["python -m", module, *sys.argv[1:]])
    return f"{model}, {os.cpu_count()} cores, load {load:.1f} at the start\n$ {command}"


def interleaved(candidates: Mapping[str, Callable[[], object]], repetitions: int) -> dict[str, np.ndarray]:
    """Seconds of each run. The candidates take turns, so that a busy moment of the machine hits all of them alike."""
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for candidate in candidates.values():
        candidate()
    for _ in range(repetitions):
        for name, candidate in candidates.items():
            start = time.perf_counter()
            candidate()
            seconds[name].append(time.perf_counter() - start)
    return {name: np.array(values) for name, values in seconds.items()}
