"""A Flink cluster on this machine: a job manager, two task managers, and Beam's job server."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engines.cluster import Cluster
from engines.install import class_path
from engines.processes import JAVA, listens

TASK_MANAGERS = ("taskmanager-1", "taskmanager-2")
# Python workers wait shortly less for the next step: a job would fail that started again with one that had died.
_RESTART_SECONDS = 10
# Without it a task manager whose heap is full loses the thread that hears from Python, and its job waits for ever.
_FULL_HEAP = "-XX:+ExitOnOutOfMemoryError"


@dataclass(frozen=True)
class TaskManagerMemory:
    """MiB of each task manager; Python's workers come on top of them.

    Args:
      heap: of Java's objects, the 128 of Flink itself not counted.
      direct: for the network, for shuffles that are read (64), and for what is on its way to Python: a hundred pieces.
      network: of `direct`.
      managed: for sorting.
    """

    heap: int = 512
    direct: int = 256
    network: int = 128
    managed: int = 256


class Flink(Cluster):
    """A cluster of Flink; see `Cluster`.

    Args:
      folder: as of `Cluster`.
      memory: of each task manager.
    """

    name = "flink"
    # A killed task manager leaves its part of shuffles, and jars.
    written = ("tmp", "artifacts")
    machines = TASK_MANAGERS
    cache_millis = (_RESTART_SECONDS - 2) * 1000

    def __init__(self, folder: Path, memory: TaskManagerMemory | None = None) -> None:
        super().__init__(folder)
        self._memory = memory or TaskManagerMemory()

    def start(self) -> None:
        """Starts everything, and returns once the job server listens and both task managers are there."""
        self._prepare("rpc", "rest", "blob", "job", "artifact", "expansion")
        self._empty_scratch("jobmanager")
        (self.folder / "config.yaml").write_text("".join(f"{key}: {value}\n" for key, value in self._config().items()))
        self.start_job_manager()
        for name in TASK_MANAGERS:
            self.start_task_manager(name)
        self.start_job_server()
        self.wait_for_machines()

    @property
    def flags(self) -> list[str]:
        """Options of Beam with which a job runs here."""
        return [*super().flags, f"--flink_master=127.0.0.1:{self.port('rest')}", "--parallelism=2"]

    def rest(self, path: str) -> Any:
        """Asks the job manager, such as for `jobs/overview`."""
        return self._ask("rest", path)

    def jobs(self) -> dict[str, str]:
        """Returns the state of each job by its id, the newest last."""
        jobs = sorted(self.rest("jobs/overview")["jobs"], key=lambda job: job["start-time"])
        return {job["jid"]: job["state"] for job in jobs}

    def was_cancelled(self) -> bool:
        """Whether the newest job was cancelled; one that was tried until the last attempt has failed instead."""
        return list(self.jobs().values())[-1] == "CANCELED"

    def num_faults(self) -> int:
        """Returns how often any part of any job was started again because of a fault."""
        faults = [self.rest(f"jobs/{job}/exceptions")["exceptionHistory"]["entries"] for job in self.jobs()]
        return sum(map(len, faults))

    def kill_machine(self, name: str | None = None) -> None:
        """Kills a task manager, with its Python workers, and returns once the job manager has noticed.

        Args:
          name: None for one that has Python workers.
        """
        self._kill_one(name)
        self.wait_for_machines(len(TASK_MANAGERS) - 1)

    def replace_machine(self) -> None:
        """Starts the task manager again that was killed."""
        self.start_task_manager(self.killed)
        self.wait_for_machines()

    def wait_for_machines(self, count: int = len(TASK_MANAGERS)) -> None:
        """Returns once the job manager has so many task managers."""
        self.processes.wait("jobmanager", lambda: self.rest("overview")["taskmanagers"] == count)

    def start_job_manager(self) -> None:
        """Starts the job manager."""
        entry = "org.apache.flink.runtime.entrypoint.StandaloneSessionClusterEntrypoint"
        self._java("jobmanager", "-Xmx512m", entry, "--configDir", str(self.folder), "--executionMode", "cluster")
        self.processes.wait("jobmanager", lambda: listens(self.port("rest")))

    def start_task_manager(self, name: str, memory: TaskManagerMemory | None = None) -> None:
        """Starts a task manager; what one of this name has left that was killed is deleted.

        Args:
          name: of the task manager.
          memory: None for that of all.
        """
        memory = memory or self._memory
        sizes: dict[str, object] = {
            "taskmanager.resource-id": name,
            "io.tmp.dirs": self._empty_scratch(name),
            "taskmanager.cpu.cores": "1.0",
            "taskmanager.memory.framework.heap.size": "128mb",
            "taskmanager.memory.framework.off-heap.size": "64mb",
            "taskmanager.memory.task.heap.size": f"{memory.heap}mb",
            "taskmanager.memory.task.off-heap.size": f"{memory.direct - memory.network - 64}mb",
            "taskmanager.memory.network.min": f"{memory.network}mb",
            "taskmanager.memory.network.max": f"{memory.network}mb",
            "taskmanager.memory.managed.size": f"{memory.managed}mb",
            "taskmanager.memory.jvm-metaspace.size": "256mb",
            "taskmanager.memory.jvm-overhead.min": "192mb",
            "taskmanager.memory.jvm-overhead.max": "192mb",
        }
        limits = (f"-Xmx{memory.heap + 128}m", f"-XX:MaxDirectMemorySize={memory.direct}m", _FULL_HEAP)
        entry = "org.apache.flink.runtime.taskexecutor.TaskManagerRunner"
        given = [part for key, value in sizes.items() for part in ("-D", f"{key}={value}")]
        self._java(name, *limits, entry, "--configDir", str(self.folder), *given)

    def start_job_server(self) -> None:
        """Starts Beam's job server."""
        ports = [f"--{name}-port={self.port(name)}" for name in ("job", "artifact", "expansion")]
        where = [f"--flink-master=127.0.0.1:{self.port('rest')}", f"--artifacts-dir={self.folder / 'artifacts'}"]
        entry = "org.apache.beam.runners.flink.FlinkJobServerDriver"
        self._java("jobserver", "-Xmx512m", entry, *where, "--job-host=127.0.0.1", *ports)
        self.processes.wait("jobserver", lambda: listens(self.port("job")))

    def _java(self, name: str, *arguments: str) -> None:
        command = [*JAVA, "-cp", class_path("flink/jars", "flink/beam"), *arguments]
        # Each thread of Java would else keep a pool of what it has freed.
        self.processes.start(name, command, {"FLINK_CONF_DIR": str(self.folder), "MALLOC_ARENA_MAX": "2"})

    def _config(self) -> dict[str, object]:
        return {
            "jobmanager.rpc.address": "127.0.0.1",
            "jobmanager.rpc.port": self.port("rpc"),
            "jobmanager.bind-host": "127.0.0.1",
            "jobmanager.memory.process.size": "1024m",
            "rest.address": "127.0.0.1",
            "rest.bind-address": "127.0.0.1",
            "rest.port": self.port("rest"),
            "blob.server.port": self.port("blob"),
            "taskmanager.host": "127.0.0.1",
            "taskmanager.bind-host": "127.0.0.1",
            "taskmanager.numberOfTaskSlots": 2,
            # A job of two tasks runs on both, and on one if the other dies.
            "cluster.evenly-spread-out-slots": "true",
            "restart-strategy.type": "fixed-delay",
            "restart-strategy.fixed-delay.attempts": 5,
            "restart-strategy.fixed-delay.delay": f"{_RESTART_SECONDS} s",
            # An attempt of a job whose task managers have all died ends after 30 seconds, not after 5 minutes.
            "slot.request.timeout": 30000,
            "heartbeat.interval": 2000,
            "heartbeat.timeout": 15000,
            # The job server asks a job manager that doesn't answer any more for 15 seconds, not for a minute.
            "rest.retry.max-attempts": 5,
            "io.tmp.dirs": self.scratch("jobmanager"),
            # 2 MB of buffers for each shuffle that a task manager writes, not 16: jobs of TFX write many at once.
            "taskmanager.network.sort-shuffle.min-buffers": 64,
            # Each job's jars, 250 MB a task manager, are deleted so many seconds after its end; by default an hour.
            "blob.service.cleanup.interval": 10,
            # Beam is on the cluster's class path; by default Flink would load it anew for each job, which then keeps no
            # worker from one step to the next.
            "classloader.resolve-order": "parent-first",
        }
