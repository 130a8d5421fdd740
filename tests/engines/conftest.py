"""A cluster of each engine, of which one runs at a time, and a model to ask in bulk."""

import pytest
from export_oracle import make_bundle

from engines.flink import Flink
from engines.install import is_installed
from engines.spark import Spark
from tf_hqgnn.config import ExportConfig
from tf_hqgnn.export.bundle import export_exact

ENGINES = {"flink": Flink, "spark": Spark}


@pytest.fixture(scope="module", params=ENGINES)
def engine(request, tmp_path_factory):
    """A running cluster."""
    if not is_installed(request.param):
        pytest.skip(f"{request.param} isn't installed here: make engines")
    cluster = ENGINES[request.param](tmp_path_factory.mktemp(request.param))
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    """An exported model of 300 users."""
    folder = tmp_path_factory.mktemp("export")
    export_exact(make_bundle(num_users=300, num_items=400, dim=8), folder, ExportConfig(), 1)
    return str(folder / "hqgnn" / "1")
