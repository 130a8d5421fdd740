"""A cluster on this machine: its folder, free ports of loopback, and Beam's options for a job that runs there."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
import urllib.request
from pathlib import Path
from typing import Any

from engines.processes import Processes, free_ports

# What has just started, or lost a part, may answer with an error or with nothing.
_SECONDS_TO_ANSWER = 60.0


def worker_flags() -> list[str]:
    """Returns Beam's options for Python workers that are processes of this machine, started by `boot`."""
    boot = {"command": str(Path(__file__).with_name("boot"))}
    return ["--environment_type=PROCESS", f"--environment_config={json.dumps(boot)}"]


class Cluster:
    """Starts, finds and stops a cluster; the job server's address and all others are free ports of loopback.

    Args:
      folder: for logs, ids, and what the engine writes.
    """

    name: str
    # Of the folder: what a killed process leaves there is deleted at each start and stop.
    written: tuple[str, ...]
    # Processes that stand for a machine each.
    machines: tuple[str, ...]
    # A Python worker waits so long for the next step.
    cache_millis: int

    # The machine that was killed last.
    killed: str

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.processes = Processes(folder)
        self._ports = folder / "ports.json"

    def stop(self) -> None:
        """Stops everything, and deletes what the engine has written beside its logs."""
        self.processes.stop()
        for name in self.written:
            shutil.rmtree(self.folder / name, ignore_errors=True)

    @property
    def flags(self) -> list[str]:
        """Options of Beam with which a job runs here."""
        return [
            "--runner=PortableRunner",
            f"--job_endpoint=127.0.0.1:{self.port('job')}",
            *worker_flags(),
            f"--environment_cache_millis={self.cache_millis}",
        ]

    def python_workers(self) -> dict[str, list[int]]:
        """Returns the ids of the Python workers of each machine that has some."""
        found = {name: self.processes.children(name, "boot.py") for name in self.machines}
        return {name: workers for name, workers in found.items() if workers}

    def kill_python_worker(self) -> None:
        """Kills one Python worker."""
        os.kill(next(iter(self.python_workers().values()))[0], signal.SIGKILL)

    def _kill_one(self, name: str | None) -> None:
        self.killed = name or next(iter(self.python_workers()))
        self.processes.kill(self.killed)

    def scratch(self, name: str) -> Path:
        """Returns the folder for what a machine's processes write beside their logs, such as their part of shuffles."""
        return self.folder / "tmp" / name

    def _empty_scratch(self, name: str) -> Path:
        """Deletes what a process of this name has left that was killed."""
        folder = self.scratch(name)
        folder.mkdir(parents=True, exist_ok=True)
        for left in folder.iterdir():
            if left.is_dir():
                shutil.rmtree(left)
            else:
                left.unlink()
        return folder

    def port(self, name: str) -> int:
        """Returns one of the ports that `_prepare` has chosen; `job` is the job server's."""
        return int(json.loads(self._ports.read_text())[name])

    def _ask(self, port: str, path: str) -> Any:
        """Returns the JSON of a page of the cluster's, asked again while there is no answer."""
        deadline = time.monotonic() + _SECONDS_TO_ANSWER
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self.port(port)}/{path}", timeout=60) as answer:
                    return json.load(answer)
            except (OSError, ValueError):
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)

    def _prepare(self, *ports: str) -> None:
        """Chooses ports, and makes the folders that the engine writes into, empty."""
        for name in self.written:
            shutil.rmtree(self.folder / name, ignore_errors=True)
            (self.folder / name).mkdir(parents=True)
        self._ports.write_text(json.dumps(dict(zip(ports, free_ports(len(ports))))))
