"""`tf-hqgnn` as a user starts it: the console script, in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from warm_python import ROOT, WarmPython

# What `pip install` writes as `tf-hqgnn`.
CONSOLE_SCRIPT = "import sys; sys.argv[0] = 'tf-hqgnn'; from tf_hqgnn.cli.commands import main; main()"
# What the commands import; none of it starts a thread.
MODULES = ("tf_hqgnn.cli.commands", "tf_hqgnn.export.bundle", "tf_hqgnn.report.page", "tf_hqgnn.training.train")


class Done(NamedTuple):
    """How a command ended.

    Args:
      code: its exit code.
      stdout: bytes, for a test may ask for an encoding.
      stderr: likewise.
    """

    code: int
    stdout: bytes
    stderr: bytes

    @property
    def out(self) -> str:
        return self.stdout.decode()

    @property
    def err(self) -> str:
        return self.stderr.decode()


def environment_with(**changes: str) -> dict[str, str]:
    """The environment of the tests with changes; the package is found from any folder."""
    return {**os.environ, "PYTHONPATH": str(ROOT), **changes}


def run_fresh(*arguments: object, code: str = CONSOLE_SCRIPT, cwd: Path = ROOT, **environment: str) -> Done:
    """Runs `tf-hqgnn ARGUMENTS`, or other code, in a Python that has imported nothing yet.

    Args:
      arguments: of the command.
      code: what runs, the console script by default.
      cwd: where it runs.
      environment: changes of this process's environment.
    """
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, env=environment_with(**environment), cwd=cwd, check=False)
    return Done(done.returncode, done.stdout, done.stderr)


class Commands:
    """Runs commands in forks of a Python that has imported what they need.

    Args:
      python: that Python.
      folder: gets what they print.
    """

    def __init__(self, python: WarmPython, folder: Path) -> None:
        self._python, self._folder, self._count = python, folder, 0

    def __call__(self, *arguments: object, cwd: Path = ROOT, **environment: str) -> Done:
        """Runs `tf-hqgnn ARGUMENTS`; `environment` are changes of this process's."""
        return self.run(["tf-hqgnn", *arguments], cwd, **environment)

    def run(self, command: Sequence[object], cwd: Path = ROOT, **environment: str) -> Done:
        """Runs any command that `WarmPython.run` takes."""
        self._count += 1
        out, err = (self._folder / f"{self._count}.{name}" for name in ("out", "err"))
        code = self._python.run(command, environment_with(**environment), cwd, out, err)
        return Done(code, out.read_bytes(), err.read_bytes())
