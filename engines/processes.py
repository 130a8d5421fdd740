"""The processes of a cluster on this machine, which a later command finds again by their ids."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

# Long enough for a Java process to start on a machine whose cores have other work.
_SECONDS_TO_START = 300.0
_SECONDS_TO_END = 15.0

_OPENED = (
    *(
        "java.lang",
        "java.lang.invoke",
        "java.lang.reflect",
        "java.io",
        "java.net",
        "java.nio",
        "java.text",
        "java.time",
    ),
    *("java.util", "java.util.concurrent", "java.util.concurrent.atomic"),
    *("jdk.internal.ref", "sun.nio.ch", "sun.nio.cs", "sun.security.action", "sun.util.calendar"),
)
# What Flink's and Spark's own scripts open of Java 17 to libraries that look into its classes.
JAVA = (
    *("java", "-XX:+IgnoreUnrecognizedVMOptions", "-XX:+UseSerialGC", "-Djdk.reflect.useDirectMethodHandle=false"),
    *(f"--add-opens=java.base/{package}=ALL-UNNAMED" for package in _OPENED),
    "--add-opens=java.security.jgss/sun.security.krb5=ALL-UNNAMED",
    "--add-exports=java.base/sun.net.util=ALL-UNNAMED",
    f"-Dlog4j.configurationFile={Path(__file__).with_name('log4j.properties')}",
)


class Processes:
    """Starts and ends processes, each in a group of its own with what it starts itself.

    Args:
      folder: for `NAME.log` and `NAME.pid` of each process.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._started: dict[str, subprocess.Popen[bytes]] = {}
        folder.mkdir(parents=True, exist_ok=True)

    def start(self, name: str, command: Sequence[str], environment: Mapping[str, str] = {}) -> None:
        """Starts a process; its output goes to its log.

        Raises:
          RuntimeError: A process of this name runs.
        """
        if self.pid(name) is not None:
            raise RuntimeError(f"{name} runs already, with the id {self.pid(name)}")
        if name in self._started:
            # It may have ended by itself.
            self._started[name].wait()
        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [*command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **environment},
                start_new_session=True,
            )
        self._started[name] = process
        (self.folder / f"{name}.pid").write_text(f"{process.pid} {_start_time(process.pid)}")

    def pid(self, name: str) -> int | None:
        """Returns the id of a process; None if it has ended, and another one may have its id."""
        path = self.folder / f"{name}.pid"
        if not path.exists():
            return None
        pid, started = path.read_text().split()
        return int(pid) if _start_time(int(pid)) == started else None

    def wait(self, name: str, is_ready: Callable[[], bool]) -> None:
        """Waits until a process that was started is ready.

        Raises:
          RuntimeError: It has ended instead, or takes too long; the end of its log is in the message.
        """
        deadline = time.monotonic() + _SECONDS_TO_START
        while not is_ready():
            if self.pid(name) is None or time.monotonic() > deadline:
                log = (self.folder / f"{name}.log").read_text(errors="replace")
                raise RuntimeError(f"{name} isn't ready:\n{log[-3000:]}")
            time.sleep(0.1)

    def kill(self, name: str) -> None:
        """Ends a process at once, with all that it has started, as if its machine had failed."""
        self._end(name, signal.SIGKILL)

    def children(self, name: str, text: str) -> list[int]:
        """Returns the ids of what a process has started, or what that has, with `text` in its command."""
        group, found = self.pid(name), []
        for entry in Path("/proc").iterdir():
            if entry.name.isdecimal() and int(entry.name) != group:
                with suppress(OSError):
                    is_of_group = os.getpgid(int(entry.name)) == group
                    if is_of_group and text in (entry / "cmdline").read_bytes().decode(errors="replace"):
                        found.append(int(entry.name))
        return found

    def stop(self) -> None:
        """Ends all processes, the last one first."""
        paths = sorted(self.folder.glob("*.pid"), key=lambda path: path.stat().st_mtime_ns, reverse=True)
        for path in paths:
            self._end(path.stem, signal.SIGTERM)

    def _end(self, name: str, how: signal.Signals) -> None:
        pid = self.pid(name)
        if pid is not None:
            os.killpg(pid, how)
            deadline = time.monotonic() + _SECONDS_TO_END
            while self.pid(name) is not None and time.monotonic() < deadline:
                time.sleep(0.05)
            # What it had started itself may be left, or all of it.
            with suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)
        if name in self._started:
            self._started.pop(name).wait()
        (self.folder / f"{name}.pid").unlink(missing_ok=True)


def free_ports(count: int) -> list[int]:
    """Returns ports of the loopback interface that nothing listens on."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


def listens(port: int) -> bool:
    """Whether something listens on a port of the loopback interface."""
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0


def _start_time(pid: int) -> str | None:
    """When a process was started, in the kernel's ticks; None if there is none, or only its exit code is left."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else fields[19]
