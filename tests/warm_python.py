"""Commands in processes of their own, without the seconds that each would take to import TensorFlow."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
# So that a command that hangs fails the test instead.
PATIENCE_SECONDS = 600


class PythonGoneError(AssertionError):
    """The Python that forks has ended."""


class WarmPython:
    """A Python that has imported modules and forks for every command (zygote.py).

    Args:
      folder: gets its log.
      modules: what it imports.
      environment: of the imports; a command brings its own.
      prefix: the beginning of the command that starts it, such as `unshare`.
    """

    def __init__(
        self, folder: Path, modules: Sequence[str], environment: dict[str, str], prefix: Sequence[str] = ()
    ) -> None:
        self._log = folder / "zygote.log"
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                [*prefix, sys.executable, Path(__file__).with_name("zygote.py"), *modules],
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,
            )

    def __enter__(self) -> WarmPython:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait(PATIENCE_SECONDS)

    def run(
        self,
        command: Sequence[object],
        environment: dict[str, str],
        folder: Path,
        out: Path,
        err: Path | None = None,
        pod: dict[str, Any] | None = None,
    ) -> int:
        """Runs a command and returns its exit code.

        Args:
          command: `python -m MODULE ..`, `python -c CODE ..` and `tf-hqgnn ..` are forked, any other is started.
          environment: all of it.
          folder: where it runs.
          out: the file that its output is appended to.
          err: the file that its errors are appended to, `out` by default.
          pod: arguments of `pod_root.enter`, which the command runs in; `folder` is then one of the pod.

        Raises:
          PythonGoneError: the command took this Python with it, or more than `PATIENCE_SECONDS`.
        """
        request = {"command": [str(word) for word in command], "environment": environment, "folder": str(folder)}
        request |= {"out": str(out), "err": str(err or out), "pod": pod}
        deadline = threading.Timer(PATIENCE_SECONDS, os.killpg, (self._process.pid, signal.SIGKILL))
        deadline.start()
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            answer = self._process.stdout.readline()
        finally:
            deadline.cancel()
        if not answer:
            raise PythonGoneError(f"the Python that forks is gone:\n{self._log.read_text()[-6000:]}")
        return int(answer)
