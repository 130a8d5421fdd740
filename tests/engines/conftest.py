"""A cluster of each engine, of which one runs at a time, and a model to ask in bulk."""

import fcntl
import os
import subprocess
import tempfile
from pathlib import Path

import pytest

from engines.flink import TASK_MANAGERS, Flink
from engines.install import is_installed
from engines.prism import Prism
from engines.spark import Spark


class FlinkWithSmallDisk(Flink):
    """A cluster of which the first task manager has a small disk of its own, where this may be mounted."""

    has_small_disk = False

    def start_task_manager(self, name):
        if name == TASK_MANAGERS[0] and not self.has_small_disk and os.geteuid() == 0:
            self.small_disk.mkdir(parents=True)
            mount = ["mount", "-t", "tmpfs", "-o", "size=256m", "small", str(self.small_disk)]
            self.has_small_disk = subprocess.run(mount, capture_output=True, check=False).returncode == 0
        super().start_task_manager(name)

    def stop(self):
        self.processes.stop()
        if self.has_small_disk:
            subprocess.run(["umount", str(self.small_disk)], check=True)
        super().stop()

    @property
    def small_disk(self):
        return self.scratch(TASK_MANAGERS[0])


CLUSTERS = {"flink": FlinkWithSmallDisk, "spark": Spark}


@pytest.fixture(scope="module", params=CLUSTERS)
def engine(request, tmp_path_factory):
    """A running cluster; other workers of the tests wait until it is gone, since two need too much memory."""
    if not is_installed(request.param):
        pytest.skip(f"{request.param} isn't installed here: make engines")
    if request.param == "prism":
        yield Prism(tmp_path_factory.mktemp("prism"))
        return
    with Path(tempfile.gettempdir(), "engine.lock").open("w") as lock, pytest.MonkeyPatch.context() as patched:
        fcntl.flock(lock, fcntl.LOCK_EX)
        # Python workers import the steps of tests.
        patched.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep)
        cluster = CLUSTERS[request.param](tmp_path_factory.mktemp(request.param))
        try:
            cluster.start()
            yield cluster
        finally:
            cluster.stop()


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    """An exported model of 300 users; beside it the one with ScaNN, `hqgnn_scann`."""
    # TensorFlow takes a while, and few tests need a model.
    from export_oracle import make_bundle

    from tf_hqgnn.config import ExportConfig, RetrievalConfig
    from tf_hqgnn.export.bundle import export_exact, export_scann

    folder = tmp_path_factory.mktemp("export")
    bundle = make_bundle(num_users=300, num_items=400, dim=8)
    export_exact(bundle, folder, ExportConfig(), 1)
    export_scann(bundle, folder, ExportConfig(), RetrievalConfig(num_leaves=4, num_leaves_to_search=4, reorder=400), 1)
    return str(folder / "hqgnn" / "1")
