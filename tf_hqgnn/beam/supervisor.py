"""The direct runner with worker processes, and prism, watched: both wait for ever for a worker that died."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

from tf_hqgnn.beam.running import PipelineFailed
from tf_hqgnn.types import InputError

# Exit codes of the job.
MISTAKE = 2
FAILED = 3
WORKER_DIED = 4

_ATTEMPTS = 3


def run_supervised(
    job: str, folder: str, flags: Sequence[str], left: Callable[[], str], say: Callable[[str], None]
) -> None:
    """Runs a pipeline in a process group of its own, up to three times as long as workers die.

    Args:
      job: "batch" or "propagation".
      folder: of the run, in which its settings are.
      flags: of Apache Beam.
      left: names what is still to do, for a line of progress.
      say: shows such a line.

    Raises:
      InputError: A worker found a mistake in its input.
      PipelineFailed: It failed by itself, or three times because of workers.
    """
    environment = {**os.environ, "PYTHONWARNINGS": "ignore::FutureWarning"}
    for attempt in range(1, _ATTEMPTS + 1):
        with tempfile.TemporaryDirectory() as scratch:
            reason = Path(scratch, "reason")
            command = [sys.executable, "-m", "tf_hqgnn.beam.job", job, folder, str(reason), *flags]
            # Workers write to standard error while they are started, whatever the level of their logs.
            with Path(scratch, "log").open("w+", encoding="utf-8", errors="replace") as log:
                status = _run(command, environment, log)
                log.seek(0)
                last = reason.read_text(encoding="utf-8") if reason.exists() else log.read()[-500:]
        if status == 0:
            return
        if status == MISTAKE:
            raise InputError(last)
        if status not in (WORKER_DIED, -signal.SIGKILL) or attempt == _ATTEMPTS:
            raise PipelineFailed(last or f"the pipeline's process ended with {status} from there")
        say(f"{job}: a worker process died; going on with {left()}, attempt {attempt + 1}")


def _run(command: list[str], environment: dict[str, str], log: IO[str]) -> int:
    """The exit code; nothing of the process group is left."""
    # The group ends with this process: a job whose standard input ends has no parent any more.
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=log,
        stderr=log,
        env=environment,
        start_new_session=True,
    ) as job:
        try:
            return job.wait()
        finally:
            # Workers, too; there is none left if the group is gone.
            if _group_exists(job.pid):
                os.killpg(job.pid, signal.SIGKILL)


def _group_exists(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
