"""A worker in a process of its own: it may take too long, or die, and the rest goes on with another one."""

from __future__ import annotations

import contextlib
import json
import queue
import signal
import subprocess
import threading
from collections.abc import Sequence
from typing import Any


class WorkerError(Exception):
    """The worker gave no answer; the message says what became of it."""


class Worker:
    """A process that answers one line with another.

    Args:
      command: starts it; see worker.py.
    """

    def __init__(self, command: Sequence[str]) -> None:
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._lines: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def receive(self, seconds: float) -> dict[str, Any]:
        """The next answer.

        Raises:
          WorkerError: There is none after so many seconds, or the process has ended. It is killed.
        """
        try:
            line = self._lines.get(timeout=max(seconds, 0.01))
        except queue.Empty:
            self.kill()
            raise WorkerError(f"it took longer than {seconds:.0f} s and was stopped") from None
        if line is None:
            raise WorkerError(f"its process ended ({_ending(self._wait())})")
        try:
            return json.loads(line)
        except ValueError:
            self.kill()
            raise WorkerError(f"its process answered {line.strip()[:80]!r}, which is no JSON") from None

    def ask(self, question: dict[str, Any], seconds: float) -> dict[str, Any]:
        """The answer to a question; see `receive`."""
        try:
            assert self._process.stdin is not None
            self._process.stdin.write(json.dumps(question) + "\n")
            self._process.stdin.flush()
        except OSError:
            raise WorkerError(f"its process ended ({_ending(self._wait())})") from None
        return self.receive(seconds)

    def kill(self) -> None:
        """Ends the process now."""
        self._process.kill()
        self._wait()

    def _wait(self) -> int:
        """Waits for the end of the process; its exit code."""
        code = self._process.wait()
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
        return code

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                self._lines.put(line)
        self._lines.put(None)


def _ending(code: int) -> str:
    if code == -signal.SIGKILL:
        return "killed, perhaps since the machine had no memory left"
    if code < 0:
        return f"by {signal.Signals(-code).name}"
    return f"with code {code}"
