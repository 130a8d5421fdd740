"""Exported models to ask in bulk, and one that waits for a file."""

import pytest
from export_oracle import make_bundle
from waiting_model import save_waiting

from tf_hqgnn.config import ExportConfig, RetrievalConfig
from tf_hqgnn.export.bundle import export_exact, export_scann

NUM_USERS = 300


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    """The export directory, and in it version 1 of both models; ScaNN looks at every candidate."""
    folder = tmp_path_factory.mktemp("export")
    bundle = make_bundle(num_users=NUM_USERS, num_items=400, dim=8)
    export_exact(bundle, folder, ExportConfig(), 1)
    thorough = RetrievalConfig(num_leaves=10, num_leaves_to_search=10, reorder=400)
    export_scann(bundle, folder, ExportConfig(), thorough, 1)
    return folder


@pytest.fixture(scope="session")
def hasty_model(tmp_path_factory):
    """A ScaNN model that searches half of its index: what it finds for a user depends on who is asked about with it."""
    bundle = make_bundle(num_users=NUM_USERS, num_items=400, dim=8)
    hasty = RetrievalConfig(num_leaves=10, num_leaves_to_search=5, reorder=10)
    return str(export_scann(bundle, tmp_path_factory.mktemp("hasty"), ExportConfig(), hasty, 1))


@pytest.fixture
def waiting_model(tmp_path):
    """`(path, gate)`: a SavedModel, and the file that it waits for."""
    gate = tmp_path / "gate"
    path = tmp_path / "waiting"
    save_waiting(path, gate)
    return path, gate
