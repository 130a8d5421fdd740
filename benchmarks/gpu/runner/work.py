"""One program after the other on one device: compiled, checked, timed. Runs in a process that may die."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from .checks import check
from .device import Device
from .execution import Execution
from .manifest import Manifest, Program, ProgramsError
from .store import Store
from .timing import CALLS, measure
from .wrong import WrongAnswer

# What a row can say of a program.
OK = "ok"
WRONG = "wrong answer"
NO_MEMORY = "not enough memory"
NO_TIME = "not enough time"
FAILED = "failed"

_GIB = 2**30


@dataclass
class Limits:
    """What a program may take.

    Args:
      seconds: from its compilation to its last call.
      memory_bytes: of the device, at most; None for all that is free.
    """

    seconds: float
    memory_bytes: int | None = None


class Work:
    """Measures programs.

    Args:
      device: where they run.
      manifest: that they are in.
    """

    def __init__(self, device: Device, manifest: Manifest) -> None:
        self._device = device
        self._manifest = manifest
        self._programs = {program.name: program for program in manifest.programs}
        self._store = Store(device, manifest)

    def run(self, name: str, limits: Limits) -> dict[str, Any]:
        """What the table says of a program; whatever goes wrong is said there, too."""
        program = self._programs[name]
        row: dict[str, Any] = {"status": OK}
        try:
            self._measure(program, limits, row)
        except WrongAnswer as error:
            row |= {"status": WRONG, "note": str(error)}
        except (ProgramsError, MemoryError) as error:
            row |= {"status": NO_MEMORY if isinstance(error, MemoryError) else FAILED, "note": _short(error)}
        except Exception as error:  # whatever the device's library raises
            out_of_memory = "RESOURCE_EXHAUSTED" in str(error) or "out of memory" in str(error).lower()
            row |= {"status": NO_MEMORY if out_of_memory else FAILED, "note": _short(error)}
        if row["status"] != OK:
            # What is left of it may be on a device that has failed.
            self._store.keep_only([])
        return row

    def is_usable(self) -> bool:
        """Whether the device still answers."""
        numbers = np.arange(8, dtype=np.int32)
        try:
            return bool(np.array_equal(self._device.fetch(self._device.put(numbers)), numbers))
        except Exception:  # whatever it raises, it doesn't answer
            return False

    def _measure(self, program: Program, limits: Limits, row: dict[str, Any]) -> None:
        deadline = time.monotonic() + limits.seconds
        self._store.keep_only(program.inputs)
        start = time.monotonic()
        compiled = self._device.compile(self._manifest.hlo(program.file))
        row["compile_s"] = round(time.monotonic() - start, 2)
        row["needed_mib"] = None if compiled.needed_bytes is None else round(compiled.needed_bytes / 2**20)
        if self._too_large(program, compiled.needed_bytes, limits, row):
            return
        inputs = time.monotonic()
        execution = Execution(program, compiled, self._device, self._store)
        checking = time.monotonic()
        row["check"] = check(execution, self._manifest.folder)
        checked = time.monotonic()
        times = measure(lambda: execution.call() and None, deadline)
        if times is None:
            row |= {"status": NO_TIME, "note": _less_than_three(limits, checking - inputs, checked - checking)}
            return
        row |= {"median_ms": times.median_ms, "p95_ms": times.p95_ms, "calls": len(times.seconds)}
        if len(times.seconds) < CALLS:
            row["note"] = f"{len(times.seconds)} calls only, there was no time for {CALLS}"

    def _too_large(self, program: Program, needed: int | None, limits: Limits, row: dict[str, Any]) -> bool:
        free = self._device.free_bytes()
        free = limits.memory_bytes if free is None else min(free, limits.memory_bytes or free)
        if needed is None or free is None:
            return False
        inputs = sum(
            int(np.prod(array.shape, dtype=np.int64)) * np.dtype(array.dtype).itemsize for array in program.inputs
        )
        wanted = needed - inputs + self._store.missing_bytes(program.inputs)
        if wanted <= free:
            return False
        row |= {
            "status": NO_MEMORY,
            "note": f"it needs {wanted / _GIB:.1f} GiB more, {free / _GIB:.1f} GiB may be used",
        }
        return True


def _less_than_three(limits: Limits, inputs_seconds: float, check_seconds: float) -> str:
    return (
        f"less than three calls fit into its {limits.seconds:.0f} s: "
        f"its inputs took {inputs_seconds:.0f}, the check {check_seconds:.0f}"
    )


def _short(error: BaseException) -> str:
    """The beginning of an error, in one line: what XLA refuses stands behind the first."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]
