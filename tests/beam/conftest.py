"""Exported models to ask in bulk, and one that waits for a file."""

import pytest
import tensorflow as tf
from export_oracle import make_bundle

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


class Waiting(tf.Module):
    """Recommends to user "u" the items "u-0".."u-<k-1>", but to "wait" only once a file is there."""

    def __init__(self, gate):
        super().__init__()
        self.gate = str(gate)

    @tf.function(
        input_signature=[
            tf.TensorSpec([None], tf.string),
            tf.TensorSpec([], tf.int32),
            tf.TensorSpec([None, None], tf.string),
            tf.TensorSpec([None], tf.string),
        ]
    )
    def recommend(self, user_id, k, exclude_item_id, category):
        must_wait = tf.reduce_any(user_id == "wait")
        still = lambda _: must_wait & (tf.size(tf.io.matching_files(self.gate)) == 0)  # noqa: E731
        waited = tf.while_loop(still, lambda n: [n + 1], [tf.constant(0)])
        with tf.control_dependencies(waited):
            ranks = tf.range(k)
        shape = [tf.size(user_id), k]
        item_id = tf.broadcast_to(user_id[:, None], shape) + "-" + tf.broadcast_to(tf.as_string(ranks), shape)
        return {
            "item_id": item_id,
            "score": tf.repeat(-tf.cast(ranks, tf.float32)[None], tf.size(user_id), 0),
            "num_valid": tf.fill([tf.size(user_id)], k),
            "known_user": user_id != "wait",
        }


@pytest.fixture
def waiting_model(tmp_path):
    """`(path, gate)`: a SavedModel, and the file that it waits for."""
    gate = tmp_path / "gate"
    module = Waiting(gate)
    path = tmp_path / "waiting"
    tf.saved_model.save(module, str(path), signatures={"recommend": module.recommend})
    return path, gate
