"""A cluster of each engine, of which one runs at a time, and a model to ask in bulk."""

import fcntl
import os
import tempfile
from pathlib import Path

import pytest

from engines.flink import Flink
from engines.install import is_installed
from engines.prism import Prism
from engines.spark import Spark

CLUSTERS = {"flink": Flink, "spark": Spark}


@pytest.fixture(scope="session", params=CLUSTERS)
def engine(request, tmp_path_factory):
    """A running cluster; other runs of the tests wait until it is gone, since two need too much memory."""
    if not is_installed(request.param):
        pytest.skip(f"{request.param} isn't installed here: make engines")
    if request.param == "prism":
        yield Prism(tmp_path_factory.mktemp("prism"))
        return
    with Path(tempfile.gettempdir(), "engine.lock").open("w") as lock, pytest.MonkeyPatch.context() as patched:
        fcntl.flock(lock, fcntl.LOCK_EX)
        # Java's second compiler is for programs that run longer than these jobs.
        patched.setenv("JAVA_TOOL_OPTIONS", "-XX:TieredStopAtLevel=1")
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
