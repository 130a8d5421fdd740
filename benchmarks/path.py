"""What a whole path from a log to a run directory takes as Beam jobs: `python -m benchmarks.path run|report`.

`run --engine flink --interactions 1000000 --work DIR` starts a cluster of two workers on this machine (`make engines`),
generates a log by a Beam job of its own, runs `train spectral --runner` with 64 columns, and appends a row for each
part of the path to the results: seconds, processor seconds of all processes, bytes that went through shuffles (as Flink
counts them), and the peaks of memory: of a worker (a task manager or a Spark worker with its executor, and its Python),
of one Python process, of one of Java, and of the process that starts the jobs. `--engine none` trains the same log
without Beam. Users are interactions / 50, items interactions / 200, few of them popular.
"""

from __future__ import annotations

import argparse
import math
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import apache_beam as beam
import numpy as np

from benchmarks.cells import ROOT, Cells, commit, commits, machine, machines
from engines.cluster import Cluster
from engines.flink import Flink, TaskManagerMemory
from engines.install import is_installed
from engines.spark import Spark
from tf_hqgnn.beam.flags import make_runner, parse_flags
from tf_hqgnn.beam.path.train import train_on_beam
from tf_hqgnn.beam.quiet import quieten_beam
from tf_hqgnn.beam.running import run_to_end
from tf_hqgnn.config import Config
from tf_hqgnn.config.presets import find_config
from tf_hqgnn.graph.truncated_svd import OVERSAMPLING
from tf_hqgnn.logs import quieten_libraries

RESULTS = ROOT / "benchmarks" / "results" / "path.csv"
# So that a task manager and its Python have 2 GB together.
_MEMORY = TaskManagerMemory(heap=192, direct=576, network=64, managed=128)
ENGINES: dict[str, Callable[[Path], Cluster] | None] = {
    "none": None,
    "direct": None,
    "flink": lambda folder: Flink(folder, _MEMORY),
    "spark": lambda folder: Spark(folder, tasks=16, cores=1),
}
COLUMNS = 64
# Files of the log, at least, and rows of a file, at most.
_FILES, _FILE_ROWS = 8, 1_250_000
# Rows that are made at a time.
_WRITTEN_ROWS = 100_000
# Python's workers end before the next job begins, so that a machine doesn't have those of two jobs.
_CACHE = "--environment_cache_millis=1500"
_KEY = ("engine", "interactions", "part")
_KINDS = ("worker", "python", "engine", "driver")
_FIGURES = ("seconds", "cpu_seconds", "shuffled_bytes", *(f"{kind}_bytes" for kind in _KINDS))
_COLUMNS = (*_KEY, "users", "items", "columns", "products", *_FIGURES, "machine", "commit")
# Which part of the path a step is of.
_PARTS = {"read": "prepare", "number": "prepare", "blocks": "prepare", "start": "factorise", "product": "factorise"}
PARTS = ("generate", "prepare", "factorise", "rows", "evaluate", "assemble")
# Without Beam.
_WHOLE = "train"


class Watch:
    """Processor seconds and peaks of memory of this process and of those of a cluster, looked at all the time.

    Args:
      cluster: whose processes count; None for none.
    """

    def __init__(self, cluster: Cluster | None) -> None:
        self._cluster = cluster
        self._seconds: dict[int, float] = {}
        self._peaks = dict.fromkeys(_KINDS, 0)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look_all_the_time, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Looks no more."""
        self._stop.set()
        self._thread.join()

    def cpu_seconds(self) -> float:
        """Of all processes so far, those included that have ended."""
        self._look()
        return sum(self._seconds.values())

    def take_peaks(self) -> dict[str, int]:
        """The most that any process of a kind, and any worker, held at a time since the last call: bytes."""
        taken, self._peaks = self._peaks, dict.fromkeys(_KINDS, 0)
        return taken

    def _look_all_the_time(self) -> None:
        while not self._stop.wait(0.25):
            self._look()

    def _look(self) -> None:
        # Of each process group, the name of what was started as its first process.
        groups: dict[int, str] = {}
        if self._cluster is not None:
            groups = {int(path.read_text().split()[0]): path.stem for path in self._cluster.folder.glob("*.pid")}
        now: dict[str, int] = {}
        for entry in Path("/proc").iterdir():
            if not entry.name.isdecimal():
                continue
            pid = int(entry.name)
            try:
                group = os.getpgid(pid)
                if pid != os.getpid() and group not in groups:
                    continue
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                status = dict(line.split(":", 1) for line in (entry / "status").read_text().splitlines())
                held = int(status["VmRSS"].split()[0]) * 1024
                command = (entry / "cmdline").read_bytes()
            except (OSError, KeyError):
                continue
            self._seconds[pid] = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
            kind = "driver" if pid == os.getpid() else "engine" if _is_java(command) else "python"
            self._peaks[kind] = max(self._peaks[kind], held)
            now[groups.get(group, "")] = now.get(groups.get(group, ""), 0) + held
        if self._cluster is not None:
            self._peaks["worker"] = max(self._peaks["worker"], *(now.get(name, 0) for name in self._cluster.machines))


def _is_java(command: bytes) -> bool:
    """Whether a command line, as /proc has it, is Java's; Spark starts its executors by the whole path."""
    return command.partition(b"\0")[0].rpartition(b"/")[2] == b"java"


def write_part(part: int, folder: str, size: int, users: int, items: int, seed: int) -> None:
    """Writes one file of a log of which few users are active, and few items popular."""
    rng = np.random.default_rng((seed, part))
    with Path(folder, f"log-{part:02d}.csv").open("w", encoding="utf-8") as file:
        file.write("user_id,item_id,timestamp\n")
        for start in range(0, size, _WRITTEN_ROWS):
            some = min(_WRITTEN_ROWS, size - start)
            user = (users * rng.random(some) ** 2).astype(np.int64).tolist()
            item = (items * rng.random(some) ** 3).astype(np.int64).tolist()
            when = rng.integers(1_600_000_000, 1_700_000_000, some).tolist()
            file.writelines(f"u{one},i{two},{three}\n" for one, two, three in zip(user, item, when))


@contextmanager
def _cluster(engine: str, folder: Path) -> Iterator[Cluster | None]:
    make = ENGINES[engine]
    if make is None:
        yield None
        return
    if not is_installed(engine):
        raise SystemExit(f"{engine} isn't installed here: make engines")
    cluster = make(folder)
    cluster.stop()
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


def run(engine: str, interactions: int, work: Path, results: Path, iterations: int | None) -> None:
    """Runs one size on one engine, and appends its rows."""
    cells = Cells(results, _KEY, _COLUMNS)
    key = {"engine": engine, "interactions": interactions}
    if {**key, "part": _WHOLE if engine == "none" else PARTS[0]} in cells:
        print(f"{engine} {interactions}: done before")
        return
    users, items = interactions // 50, interactions // 200
    shutil.rmtree(work, ignore_errors=True)
    (work / "log").mkdir(parents=True)
    data = work / "log" if engine == "none" else f"{work / 'log'}/*.csv"
    settings: tuple[str, ...] = (f"data.path={data}", f"model.embedding_dim={COLUMNS}")
    if iterations is not None:
        settings = (*settings, f"model.spectral_iterations={iterations}")
    said = machine()
    with _cluster(engine, work / "cluster") as cluster:
        watch = Watch(cluster)
        flags = () if cluster is None else (*cluster.flags, _CACHE)
        found = {part: dict.fromkeys(_FIGURES, 0.0) for part in PARTS}
        before = [time.monotonic(), watch.cpu_seconds(), 0.0]

        def note(part: str) -> None:
            nonlocal before
            now = [time.monotonic(), watch.cpu_seconds(), _shuffled(cluster)]
            for name, one, other in zip(_FIGURES, now, before):
                found[part][name] += one - other
            before = now
            peaks = watch.take_peaks()
            for name, peak in peaks.items():
                found[part][f"{name}_bytes"] = max(found[part][f"{name}_bytes"], peak)
            held = ", ".join(f"{peaks[name] / 1e9:.2f} of {name}" for name in _KINDS)
            print(f"{found[part]['seconds']:8.1f} s {part}; GB: {held}", flush=True)

        def say(line: str) -> None:
            print(line, flush=True)
            step = line.split()[1].partition("-")[0]
            note("evaluate" if step == "evaluate" else _PARTS.get(step, "rows"))

        _generate(flags, work / "log", interactions, users, items)
        note("generate")
        if engine == "none":
            watch.stop()
            cells.add({**key, **_train(settings, work, users, items), "machine": said, "commit": commit()})
            return
        config = Config.load(find_config("spectral"), settings)
        result = train_on_beam(config, work / "run", flags, say=say)
        note("assemble")
        watch.stop()
    products = 2 * config.model.spectral_iterations + 2
    shared = {"users": users, "items": items, "columns": COLUMNS + OVERSAMPLING, "products": products}
    for part in PARTS:
        rounded = {name: round(value, 1) for name, value in found[part].items()}
        cells.add({**key, "part": part, **shared, **rounded, "machine": said, "commit": commit()})
    print(result.valid)


def _train(settings: tuple[str, ...], work: Path, users: int, items: int) -> dict[str, Any]:
    """Trains without Beam, in a process of its own, and returns a row."""
    command = [sys.executable, "-W", "ignore", "-m", "tf_hqgnn.cli", "train", "spectral", "--out", str(work / "run")]
    began = time.monotonic()
    # Not a `with`: the process is waited for here, by the call that tells what it took.
    process = subprocess.Popen([*command, *(part for one in settings for part in ("--set", one))])
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"tf-hqgnn train ended with {process.returncode}")
    row: dict[str, Any] = {"part": _WHOLE, "users": users, "items": items, "columns": COLUMNS, "products": 0}
    row |= {f"{kind}_bytes": 0 for kind in _KINDS} | {"driver_bytes": usage.ru_maxrss * 1024}
    took = {"seconds": time.monotonic() - began, "cpu_seconds": usage.ru_utime + usage.ru_stime}
    return row | {name: round(value, 1) for name, value in took.items()} | {"shuffled_bytes": math.nan}


def _generate(flags: tuple[str, ...], folder: Path, interactions: int, users: int, items: int) -> None:
    options = parse_flags(flags)
    pipeline = beam.Pipeline(runner=make_runner(options), options=options)
    files = max(_FILES, math.ceil(interactions / _FILE_ROWS))
    made = pipeline | beam.Create(range(files)) | beam.Reshuffle()
    _ = made | beam.Map(write_part, str(folder), interactions // files, users, items, 2020)
    run_to_end(pipeline)


def _shuffled(cluster: Cluster | None) -> float:
    """Bytes that Flink's tasks have sent to others so far; not a number where nothing counts them."""
    if not isinstance(cluster, Flink):
        return math.nan
    vertices = [vertex for job in cluster.jobs() for vertex in cluster.rest(f"jobs/{job}")["vertices"]]
    return float(sum(vertex["metrics"]["write-bytes"] for vertex in vertices))


def report(results: Path) -> str:
    """The results as a table in Markdown, with how much more a path takes where the log is larger."""
    rows = Cells(results, _KEY, _COLUMNS).rows
    runs: dict[tuple[str, int], list[dict[str, str]]] = {}
    for row in rows:
        runs.setdefault((row["engine"], int(row["interactions"])), []).append(row)
    heads = [
        "engine",
        "interactions",
        *PARTS[1:],
        "all, s",
        "CPU s",
        "MB shuffled",
        "GB a worker",
        "GB of the driver",
    ]
    lines = [f"| {' | '.join(heads)} |", f"| {' | '.join('---' for _ in heads)} |"]
    after = []
    for (engine, interactions), parts in sorted(runs.items()):
        # The path begins with the log.
        of_part = {row["part"]: row for row in parts if row["part"] != PARTS[0]}
        path = list(of_part.values())
        total = _sum(path, "cpu_seconds")
        seconds = [_number(float(of_part[part]["seconds"])) if part in of_part else "" for part in PARTS[1:]]
        peaks = [max(float(row[f"{kind}_bytes"]) for row in path) / 1e9 for kind in ("worker", "driver")]
        figures = [_number(_sum(path, "seconds")), _number(total), _number(_sum(path, "shuffled_bytes") / 1e6)]
        held = [f"{peak:.2f}" if peak else "" for peak in peaks]
        lines.append(f"| {' | '.join([engine, f'{interactions:,}', *seconds, *figures, *held])} |")
        least = interactions * int(path[0]["columns"]) * 4 * int(path[0]["products"])
        moved = _sum([of_part["factorise"]], "shuffled_bytes") if "factorise" in of_part else math.nan
        if not math.isnan(moved):
            after.append(
                f"{engine}, {interactions:,}: products shuffle {moved / 1e6:,.2f} MB; pairs x columns x 4 bytes are "
                f"{least / 1e6:,.0f} MB."
            )
        smaller = [size for name, size in runs if name == engine and size < interactions]
        if smaller:
            before = [row for row in runs[engine, max(smaller)] if row["part"] != PARTS[0]]
            slope = math.log(total / _sum(before, "cpu_seconds")) / math.log(interactions / max(smaller))
            after.append(f"{engine}: processor seconds grow as interactions^{slope:.2f} from {max(smaller):,} on.")
    return "\n".join([*lines, "", *after, machines(rows, "a run"), commits(rows)])


def _sum(rows: list[dict[str, str]], name: str) -> float:
    return sum(float(row[name]) for row in rows)


def _number(value: float) -> str:
    return "" if math.isnan(value) else f"{value:,.1f}"


def main() -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.path", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("run")
    one.add_argument("--engine", choices=tuple(ENGINES), required=True)
    one.add_argument("--interactions", type=int, required=True)
    one.add_argument("--iterations", type=int, help="of the subspace; each is two products; by default the preset's")
    one.add_argument("--work", type=Path, required=True, help="a folder of its own, which is deleted first")
    for command in (one, commands.add_parser("report")):
        command.add_argument("--results", type=Path, default=RESULTS)
    options: Any = parser.parse_args()
    quieten_libraries()
    quieten_beam()
    if options.command == "report":
        print(report(options.results))
    else:
        run(options.engine, options.interactions, options.work, options.results, options.iterations)


if __name__ == "__main__":
    main()
