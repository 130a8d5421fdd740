"""Clean environments with the wheel in them, and what a stranger does there."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
UV = Path(sys.executable).with_name("uv")
SUPPORTED = ("3.10", "3.11", "3.12", "3.13")
# So that a command that hangs fails the test instead.
PATIENCE_SECONDS = 600


def pythons() -> dict[str, Path]:
    """Every supported Python of this machine: version -> program."""
    folders = [Path(folder) for folder in os.get_exec_path()]
    try:
        root = subprocess.run(["pyenv", "root"], capture_output=True, text=True, check=True).stdout.strip()
        folders += sorted(Path(root, "versions").glob("*/bin"))
    except (OSError, subprocess.CalledProcessError):
        pass
    found: dict[str, Path] = {}
    for version in SUPPORTED:
        for folder in folders:
            program = folder / f"python{version}"
            # pyenv's own stand-ins fail for versions that aren't chosen.
            if (
                program.is_file()
                and subprocess.run([program, "-c", "import venv"], capture_output=True).returncode == 0
            ):
                found.setdefault(version, program)
    return found


def build_wheel(folder: Path) -> Path:
    """Builds the wheel of this checkout, from a copy: setuptools leaves a folder, and takes what it left before."""
    source = folder / "source"
    source.mkdir()
    for name in ("tf_hqgnn", "configs", "pipelines"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    subprocess.run([UV, "build", "--quiet", "--wheel", "--out-dir", folder, source], check=True, cwd=folder)
    (wheel,) = folder.glob("*.whl")
    return wheel


@dataclass
class Environment:
    """A virtual environment with the wheel.

    Args:
      folder: it is made there.
      python: the program that it is made with.
      wheel: what is installed.
      extras: of pyproject.toml.
      resolution: of `uv pip install`.
    """

    folder: Path
    python: Path
    wheel: Path
    extras: tuple[str, ...] = ()
    resolution: str = "highest"
    versions: dict[str, str] = field(default_factory=dict)

    def make(self) -> Environment:
        """Makes it; returns self."""
        subprocess.run([UV, "venv", "--quiet", "--python", self.python, self.folder], check=True)
        target = ["--python", str(self.folder / "bin" / "python")]
        install = [UV, "pip", "install", "--quiet", *target]
        if self.resolution == "highest":
            wanted = f"{self.wheel}[{','.join(self.extras)}]" if self.extras else str(self.wheel)
            subprocess.run([*install, wanted], check=True)
        else:
            # Direct requirements are those of the project itself, not those of a wheel.
            extras = [word for extra in self.extras for word in ("--extra", extra)]
            project = ["--resolution", self.resolution, "--requirements", ROOT / "pyproject.toml", *extras]
            subprocess.run([*install, *project], check=True)
            subprocess.run([*install, "--no-deps", self.wheel], check=True)
        listed = subprocess.run(
            [UV, "pip", "list", "--format", "json", *target], capture_output=True, text=True, check=True
        )
        self.versions = {entry["name"]: entry["version"] for entry in json.loads(listed.stdout)}
        return self


@dataclass
class Stranger:
    """Runs `tf-hqgnn` in a folder of its own, with an environment of nothing but PATH and HOME.

    Args:
      environment: whose command it is.
      folder: where the command runs.
      home: what must stay empty; None for none at all.
      variables: more of the process's environment.
      before: words before each command, such as those that make it another user's.
    """

    environment: Environment
    folder: Path
    home: Path | None
    variables: dict[str, str] = field(default_factory=dict)
    before: tuple[str, ...] = ()

    def command(self, *arguments: object) -> list[str]:
        """The words of a command."""
        return [*self.before, str(self.environment.folder / "bin" / "tf-hqgnn"), *map(str, arguments)]

    def options(self) -> dict:
        """What every process is started with."""
        home = {} if self.home is None else {"HOME": str(self.home)}
        variables = {"PATH": os.defpath, **home, **self.variables}
        return {"cwd": self.folder, "env": variables, "text": True}

    def run(self, *arguments: object, code: int = 0) -> str:
        """Standard output of a command that ends with `code`, and without a traceback."""
        done = subprocess.run(
            self.command(*arguments), capture_output=True, check=False, timeout=PATIENCE_SECONDS, **self.options()
        )
        said = f"{' '.join(map(str, arguments))} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
        assert done.returncode == code, said
        assert "Traceback" not in done.stdout + done.stderr, said
        if code:
            lines = done.stderr.strip().splitlines()
            assert len(lines) == 1, said
            return lines[0]
        return done.stdout

    def journey(self, out: Path, epochs: int = 2) -> None:
        """From a log to recommendations, all in `out`."""
        log, run, export = out / "log.csv", out / "run", out / "export"
        assert "recommend" in self.run("--help")
        self.run("generate", "--users", 200, "--items", 120, "--interactions", 4000, "--out", log)
        settings = (f"data.path={log}", f"training.max_epochs={epochs}")
        trained = self.run("train", "default", "--out", run, *(word for s in settings for word in ("--set", s)))
        assert json.loads(trained)["epochs"] == epochs
        assert (run / "report.html").exists() == ("report" in self.environment.extras)
        evaluated = json.loads(self.run("evaluate", run, "--json"))
        assert evaluated["num_users"] > 100
        assert 0 < evaluated["metrics"]["ndcg@20"] < 1
        assert "hqgnn (exact), hqgnn_scann (exact)" in self.run("export", run, "--out", export)
        self.asked = ("--user", "u000001", "-k", 5, "--json")
        self.answer = json.loads(self.run("recommend", "--model", export / "hqgnn" / "1", *self.asked))
        assert len({item["item_id"] for item in self.answer["items"]}) == 5
        assert self.answer["known_user"]

    def serve(self, export: Path) -> None:
        """Serves an export and asks the server what was asked before."""
        ports = [free_port(), free_port()]
        command = self.command("serve", export, "--grpc-port", ports[0], "--rest-port", ports[1])
        with (
            tempfile.TemporaryFile("w+") as log,
            subprocess.Popen(command, stdout=log, stderr=log, **self.options()) as server,
        ):
            try:
                answer = self._ask(server, ports[0])
            finally:
                server.terminate()
                server.wait(PATIENCE_SECONDS)
            log.seek(0)
            said = log.read()
        assert "Traceback" not in said
        assert [item["item_id"] for item in answer["items"]] == [item["item_id"] for item in self.answer["items"]], said

    def _ask(self, server, port):
        while server.poll() is None:
            done = subprocess.run(
                self.command("recommend", "--server", f"127.0.0.1:{port}", *self.asked),
                capture_output=True,
                check=False,
                timeout=PATIENCE_SECONDS,
                **self.options(),
            )
            if done.returncode == 0:
                return json.loads(done.stdout)
            assert "Traceback" not in done.stderr
            # Not there yet, or, on a busy machine, not as fast as the client waits.
            assert re.search("nothing answers|gave no answer|not found|NOT_FOUND|no version", done.stderr), done.stderr
        raise AssertionError(f"the server ended with {server.returncode}")


def unknown_user() -> tuple[str, ...]:
    """Words before a command that run it under a user id that no name belongs to; none where that isn't allowed."""
    words = ("unshare", "--user", "--map-user=54321", "--map-group=54321")
    try:
        allowed = subprocess.run([*words, "true"], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        allowed = False
    return words if allowed else ()


def free_port() -> int:
    """A port of the loopback that nobody listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]
