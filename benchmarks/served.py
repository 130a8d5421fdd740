"""A small export with random embeddings, and a server over it in a process of its own, for `fuzz` and `soak`."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tf_hqgnn.config import ExportConfig
from tf_hqgnn.export.bundle import ServingBundle, export_exact
from tf_hqgnn.quantization.codes import Codes

USERS, ITEMS, DIM = 200, 2000, 16
CATEGORIES = ("film", "book", "game")


def write_version(export: Path, version: int, seed: int, items: int = ITEMS, dim: int = DIM) -> Path:
    """Writes hqgnn/<version>, of `items` items of `dim` numbers; equal seeds give equal answers."""
    rng = np.random.default_rng(seed)
    indptr = np.arange(USERS + 1, dtype=np.int64) * 5
    indices = np.concatenate([np.sort(rng.choice(items, 5, replace=False)) for _ in range(USERS)]).astype(np.int32)
    bundle = ServingBundle(
        user_ids=np.array([f"u{number}" for number in range(USERS)], object),
        item_ids=np.array([f"i{number}" for number in range(items)], object),
        users=Codes.quantize(rng.normal(size=(USERS, dim)).astype(np.float32), 8),
        items=Codes.quantize(rng.normal(size=(items, dim)).astype(np.float32), 8),
        seen=(indptr, indices),
        item_popularity=rng.permutation(items).astype(np.float32),
        item_categories=np.array(CATEGORIES, object)[rng.integers(0, len(CATEGORIES), items)],
    )
    return export_exact(bundle, export, ExportConfig(), version)


@dataclass(frozen=True)
class Usage:
    """What a process has: MiB of resident memory, threads, open files."""

    memory: float
    threads: int
    files: int

    def exceeds(self, before: Usage, slack_mebibytes: float = 0.0) -> list[str]:
        """What has grown by more than a tenth since `before`, in words; memory by more than the slack besides."""
        limits = {
            "memory": before.memory * 1.1 + slack_mebibytes,
            "threads": max(before.threads * 1.1, before.threads + 1),
            "files": max(before.files * 1.1, before.files + 1),
        }
        return [
            f"{name} grew from {getattr(before, name):g} to {getattr(self, name):g}"
            for name, limit in limits.items()
            if getattr(self, name) > limit
        ]


class ServerProcess:
    """`tf_hqgnn.serving.server.serve` over an export directory; its log goes to a file.

    Args:
      export: The directory.
      log: Where the log goes.
      poll_seconds: Time between two looks for new versions.
    """

    def __init__(self, export: Path, log: Path, poll_seconds: float = 1.0) -> None:
        self.log = log
        program = (
            "import sys; from tf_hqgnn.serving.server import serve; "
            f"serve(sys.argv[1], grpc_port=0, rest_port=0, poll_seconds={poll_seconds})"
        )
        with log.open("w") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-c", program, str(export)],
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "2"},
            )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        found = re.search(r"gRPC \S+:(\d+), REST http://[^/]*:(\d+)/", line)
        if found is None:
            raise RuntimeError(f"the server hasn't started: {line}{log.read_text()[-2000:]}")
        self.grpc_port, self.rest_port = int(found[1]), int(found[2])

    def usage(self) -> Usage:
        """What the process has now."""
        base = Path(f"/proc/{self.process.pid}")
        status = dict(line.split(":", 1) for line in (base / "status").read_text().splitlines())
        memory = int(status["VmRSS"].split()[0]) / 1024
        return Usage(memory, int(status["Threads"]), sum(1 for _ in (base / "fd").iterdir()))

    def peak_memory(self) -> float:
        """The most resident memory there ever was, MiB."""
        status = (Path(f"/proc/{self.process.pid}") / "status").read_text()
        return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))) / 1024

    def settled_usage(self, before: Usage, seconds: float = 30.0) -> Usage:
        """As `usage`, once threads and files are no more than `before`, or after some seconds."""
        deadline = time.monotonic() + seconds
        while (now := self.usage()).exceeds(before, float("inf")) and time.monotonic() < deadline:
            time.sleep(0.1)
        return now

    def faults(self) -> list[str]:
        """Lines of the log that tell of an exception nobody foresaw."""
        return re.findall(r"^.*(?:Traceback|ERROR|CRITICAL).*$", self.log.read_text(errors="replace"), re.MULTILINE)

    def __enter__(self) -> ServerProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait(60)
        if self.process.stdout is not None:
            self.process.stdout.close()
