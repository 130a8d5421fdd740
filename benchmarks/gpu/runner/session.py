"""The whole run: every program gets a row, within the time that there is."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from .manifest import Manifest, Program
from .process import Worker, WorkerError
from .table import Table
from .torch_peer import KINDS, peer_name
from .work import FAILED, NO_TIME

# A call for the check, and the three that a row needs at least.
_LEAST_CALLS = 5
_START_SECONDS = 90.0

# The note of programs that were never started.
NOTHING_LEFT = "no time was left"


@dataclass(frozen=True)
class Options:
    """How a run is limited.

    Args:
      seconds: for everything.
      program_seconds: for one program.
      memory_bytes: of the device for one program; None for all that is free.
      only: programs whose name holds this text.
      with_torch: whether torch is timed beside them.
      torch_seconds: for one search by torch.
    """

    seconds: float = 360.0
    program_seconds: float = 40.0
    memory_bytes: int | None = None
    only: str = ""
    with_torch: bool = True
    torch_seconds: float = 8.0


@dataclass(frozen=True)
class Job:
    """A row to come: of a program, or of a search by torch."""

    worker: str
    name: str
    kind: str
    question: Any
    program: Program | None = None


@dataclass
class Session:
    """Runs the programs of a folder.

    Args:
      manifest: the programs.
      table: gets the rows.
      options: limits.
      command: `(kind of worker) -> command` that starts a worker.
      report: prints a line.
      grace_seconds: how much later than its limit a worker may answer before it is stopped.
    """

    manifest: Manifest
    table: Table
    options: Options
    command: Callable[[str], Sequence[str]]
    report: Callable[[str], None]
    grace_seconds: float = 15.0
    _worker: Worker | None = None
    _kind: str = ""
    _device: dict[str, Any] = field(default_factory=dict)
    _missing: dict[str, str] = field(default_factory=dict)
    _late: int = 0

    def run(self) -> None:
        """Measures one after the other. A worker that fails is replaced."""
        deadline = time.monotonic() + self.options.seconds
        try:
            for job in jobs(self.manifest, self.options):
                if job.worker in self._missing:
                    continue
                self._add(job, self._row(job, deadline))
        finally:
            self.close()
        if self._late:
            self.report(f"{self._late} programs more: no time was left for them")

    @property
    def unavailable(self) -> str:
        """Why no program could be run at all; "" if jaxlib has a device."""
        return self._missing.get("jaxlib", "")

    def close(self) -> None:
        """Ends the worker."""
        if self._worker is not None:
            self._worker.kill()
            self._worker = None

    def _row(self, job: Job, deadline: float) -> dict[str, Any]:
        remaining = deadline - time.monotonic()
        if remaining < 1.0:
            self._late += 1
            return {"status": NO_TIME, "note": NOTHING_LEFT}
        if remaining < self._least_seconds(job):
            return {"status": NO_TIME, "note": f"{remaining:.0f} s of {self.options.seconds:.0f} were left"}
        try:
            self._start(job.worker, remaining)
            if self._worker is None:
                return {"status": FAILED, "note": self._missing[job.worker]}
            longest = self.options.torch_seconds if job.worker == "torch" else self.options.program_seconds
            seconds = min(deadline - time.monotonic(), longest)
            limits = {"seconds": seconds, "memory_bytes": self.options.memory_bytes}
            grace = min(self.grace_seconds, max(deadline - time.monotonic() - seconds, 0.0))
            answer = self._worker.ask({"job": job.question, "limits": limits}, seconds + grace)
        except WorkerError as error:
            self.close()
            return {"status": NO_TIME if "longer than" in str(error) else FAILED, "note": str(error)}
        if not answer["usable"]:
            self.report("the device has failed: the next program gets a new process")
            self.close()
        return answer["row"]

    def _start(self, kind: str, seconds: float) -> None:
        """Makes sure that there is a worker of this kind; if it can't be, `_missing` says why."""
        if self._worker is not None and self._kind == kind:
            return
        self.close()
        worker = Worker(self.command(kind))
        self._worker, self._kind = worker, kind
        hello = worker.receive(min(_START_SECONDS, seconds))
        if "error" in hello:
            self._missing[kind] = hello["error"]
            self.close()
            return
        if hello["device"] != self._device:
            self._device = hello["device"]
            driver = f", driver {self._device['driver']}" if self._device["driver"] else ""
            self.report(f"{self._device['name']}{driver}, {self._device['library']}")

    def _least_seconds(self, job: Job) -> float:
        """What a program takes at least, if memory is all that limits it."""
        if job.program is None:
            return 0.0
        bandwidth = self.table.bandwidth(job.program.moved_bytes)
        return 0.0 if bandwidth is None else _LEAST_CALLS * job.program.moved_bytes / bandwidth

    def _add(self, job: Job, row: dict[str, Any]) -> None:
        row = {"program": job.name, "kind": job.kind, **row}
        row |= {name: self._device.get(name) for name in ("driver", "library")}
        row |= {"device": self._device.get("name"), "commit": self.manifest.commit}
        if job.program is not None:
            row |= {"tensorflow": self.manifest.tensorflow, "moved_mib": round(job.program.moved_bytes / 2**20, 3)}
            row["tensorflow_cpu_ms"] = self.manifest.tensorflow_ms.get(job.name)
            row |= self._compared(job.program, row)
        self.table.add(row)
        if row.get("note") != NOTHING_LEFT:
            self.report(summary(row))

    def _compared(self, program: Program, row: dict[str, Any]) -> dict[str, Any]:
        """The time beside the memory's limit and torch's."""
        median = row.get("median_ms")
        if not median:
            return {}
        compared: dict[str, Any] = {}
        bandwidth = self.table.bandwidth(program.moved_bytes)
        if bandwidth is not None and program.kind != "copy":
            limit = 1e3 * program.moved_bytes / bandwidth
            compared |= {"memory_limit_ms": limit, "memory_share": limit / median}
        if program.kind == "search":
            sizes = [program.settings[name] for name in ("num_items", "dim", "batch")]
            name = peer_name("float32", *sizes)
            torch = next((peer.get("median_ms") for peer in self.table.rows if peer["program"] == name), None)
            if torch:
                compared |= {"torch_ms": torch, "times_torch": torch / median}
        return compared


def jobs(manifest: Manifest, options: Options) -> Iterator[Job]:
    """The programs in their order; searches by torch of one number of dimensions before the first program of it."""
    programs = [program for program in manifest.programs if options.only in program.name]
    compared: set[int] = set()
    for program in programs:
        dim = program.settings.get("dim")
        large = program.kind == "search" and program.expected is None
        if options.with_torch and large and dim not in compared:
            compared.add(dim)
            yield from _torch_jobs([other for other in programs if other.settings.get("dim") == dim])
        yield Job("jaxlib", program.name, program.kind, program.name, program)


def _torch_jobs(programs: Sequence[Program]) -> Iterator[Job]:
    seen = set()
    for program in programs:
        if program.kind != "search" or program.expected is not None:
            continue
        sizes = {name: program.settings[name] for name in ("num_items", "dim", "batch", "k")}
        if tuple(sizes.values()) in seen:
            continue
        seen.add(tuple(sizes.values()))
        for kind in KINDS:
            name = peer_name(kind, sizes["num_items"], sizes["dim"], sizes["batch"])
            yield Job("torch", name, "torch", {"kind": kind, **sizes})


def summary(row: dict[str, Any]) -> str:
    """A row as a line to print."""
    if row.get("median_ms"):
        result = f"{row['median_ms']:10.3f} ms"
    else:
        result = row["status"]
    note = f"  {row['note']}" if row.get("note") else ""
    wrong = f"  {row['status']}" if row.get("median_ms") and row["status"] != "ok" else ""
    return f"{row['program']:66}{result:>16}{wrong}{note}"
