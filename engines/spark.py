"""A standalone Spark cluster on this machine: a master, two workers, and Beam's job server, which is the driver."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from engines.cluster import Cluster
from engines.install import FOLDER, class_path
from engines.processes import JAVA, free_ports, listens

WORKERS = ("worker-1", "worker-2")
_EXECUTOR_MEMORY = "768m"


class Spark(Cluster):
    """A standalone cluster of Spark; see `Cluster`.

    Args:
      folder: as of `Cluster`.
      tasks: into which a step is cut. Spark keeps all that a task makes on the executor's heap.
      cores: tasks of each executor at a time.
    """

    name = "spark"
    # A killed worker leaves shuffles, and the executor's logs.
    written = ("tmp", "artifacts", "work")
    machines = WORKERS
    # An executor keeps its Python worker so long, also one that has died.
    cache_millis = 60_000

    def __init__(self, folder: Path, tasks: int = 2, cores: int = 2) -> None:
        super().__init__(folder)
        self._tasks = tasks
        self._cores = cores

    def start(self) -> None:
        """Starts everything, and returns once the job server listens and both workers are there."""
        self._prepare("master", "web", "job", "artifact", "expansion")
        self.start_master()
        for name in WORKERS:
            self._start_worker(name)
        self.wait_for_machines()
        self.start_job_server()

    @property
    def flags(self) -> list[str]:
        """Options of Beam with which a job runs here."""
        (jar,) = (FOLDER / "spark/beam").glob("beam-runners-spark-*.jar")
        # Beam is on every machine's class path. Otherwise each job would send it all jars of the job server's.
        return [*super().flags, f"--files_to_stage={jar}"]

    def jobs(self) -> dict[str, str]:
        """Returns the state of each job by its id, the newest last; a job is an application of Spark's."""
        asked = self._asked()
        apps = sorted([*asked["activeapps"], *asked["completedapps"]], key=lambda app: app["starttime"])
        return {app["id"]: app["state"] for app in apps}

    def num_faults(self) -> int:
        """Returns how often a task failed, or an executor was lost with its tasks."""
        said = (self.folder / "jobserver.log").read_text(errors="replace")
        return said.count("Lost task") + said.count("Lost executor")

    def kill_machine(self, name: str | None = None) -> None:
        """Kills a worker, with its executor and Python workers, and returns once the master has noticed.

        Args:
          name: None for one that has Python workers.
        """
        self._kill_one(name)
        self.wait_for_machines(len(WORKERS) - 1)

    def replace_machine(self) -> None:
        """Starts the worker again that was killed."""
        self._start_worker(self.killed)
        self.wait_for_machines()

    def was_cancelled(self) -> bool:
        """Whether no job runs any more: an application ends as FINISHED, too, if it is stopped."""
        return not any(state == "RUNNING" for state in self.jobs().values())

    def wait_for_machines(self, count: int = len(WORKERS)) -> None:
        """Returns once the master has so many workers."""
        self.processes.wait("master", lambda: self._asked()["aliveworkers"] == count)

    def _asked(self) -> Any:
        return self._ask("web", "json/")

    def start_master(self) -> None:
        """Starts the master."""
        ports = ["--port", str(self.port("master")), "--webui-port", str(self.port("web"))]
        # A worker that doesn't answer any more is lost after these seconds.
        entry = ["-Xmx256m", "-Dspark.worker.timeout=15", "org.apache.spark.deploy.master.Master"]
        self._java("master", class_path("spark/jars"), *entry, "--host", "127.0.0.1", *ports)
        self.processes.wait("master", lambda: listens(self.port("web")))

    def _start_worker(self, name: str) -> None:
        sizes = ["--cores", str(self._cores), "--memory", "1g", "--work-dir", str(self.folder / "work" / name)]
        entry = ["-Xmx256m", "-Dspark.worker.timeout=15", "org.apache.spark.deploy.worker.Worker"]
        address = ["--host", "127.0.0.1", "--webui-port", str(free_ports(1)[0])]
        master = f"spark://127.0.0.1:{self.port('master')}"
        environment = {"SPARK_LOCAL_DIRS": str(self._empty_scratch(name))}
        self._java(name, class_path("spark/jars"), *entry, *address, *sizes, master, **environment)

    def start_job_server(self) -> None:
        """Starts Beam's job server, in which Spark's drivers run."""
        settings = {
            "spark.local.dir": self._empty_scratch("jobserver"),
            "spark.driver.host": "127.0.0.1",
            "spark.driver.bindAddress": "127.0.0.1",
            "spark.ui.enabled": "false",
            "spark.executor.memory": _EXECUTOR_MEMORY,
            "spark.executor.cores": self._cores,
            "spark.cores.max": self._cores * len(WORKERS),
            "spark.default.parallelism": self._tasks,
            # Tasks are spread over both machines, and repeated on the other one if one dies.
            "spark.locality.wait": "0s",
            # Otherwise a task would be tried again, without a pause, on the executor that has lost its Python worker.
            # Both machines are one node here.
            "spark.excludeOnFailure.enabled": "true",
            "spark.excludeOnFailure.task.maxTaskAttemptsPerNode": 3,
            "spark.excludeOnFailure.stage.maxFailedExecutorsPerNode": 4,
            "spark.executor.extraClassPath": class_path("spark/beam"),
        }
        given = [f"-D{key}={value}" for key, value in settings.items()]
        ports = [f"--{name}-port={self.port(name)}" for name in ("job", "artifact", "expansion")]
        where = [
            f"--spark-master-url=spark://127.0.0.1:{self.port('master')}",
            f"--artifacts-dir={self.folder / 'artifacts'}",
        ]
        entry = ["-Xmx768m", *given, "org.apache.beam.runners.spark.SparkJobServerDriver"]
        jars = class_path("spark/beam", "spark/jars")
        self._java("jobserver", jars, *entry, *where, "--job-host=127.0.0.1", *ports)
        self.processes.wait("jobserver", lambda: listens(self.port("job")))

    def _java(self, name: str, jars: str, *arguments: str, **environment: str) -> None:
        environment |= {
            "SPARK_HOME": str(FOLDER / "spark"),
            "SPARK_LOCAL_IP": "127.0.0.1",
            "SPARK_SCALA_VERSION": "2.12",
            # As on Flink, for executors as well.
            "MALLOC_ARENA_MAX": "2",
        }
        self.processes.start(name, [*JAVA, "-cp", jars, *arguments], environment)
