"""Small SavedModels with the signatures of the export, and servers over them."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Callable

import grpc
import pytest

import tf_hqgnn  # noqa: F401  (before TensorFlow)

import tensorflow as tf  # isort: skip

from tf_hqgnn.serving.server import Server

IDS = tf.TensorSpec([None], tf.string)
K = tf.TensorSpec([], tf.int32)
LISTS = tf.TensorSpec([None, None], tf.string)


class Recommender(tf.Module):
    """Answers items "<mark>-0", "<mark>-1".. with scores mark, mark - 1..; the user "new" is unknown.

    `mark` tells versions apart. The items of even rank are of the category "even".
    """

    def __init__(self, mark: int) -> None:
        super().__init__()
        self.mark = tf.Variable(float(mark))

    def _answer(self, user_id, k, exclude, category=None):
        batch = tf.shape(user_id)[0]
        with tf.control_dependencies([tf.debugging.assert_positive(k, message="k must be positive")]):
            ranks = tf.range(k)
        ids = tf.strings.join([tf.as_string(tf.cast(self.mark, tf.int32)), tf.as_string(ranks)], "-")
        ids = tf.repeat(ids[None], batch, 0)
        excluded = tf.reduce_any(ids[:, :, None] == exclude[:, None, :], -1)
        if category is not None:
            excluded |= (category[:, None] == "even") & (ranks % 2 == 1)
        order = tf.argsort(tf.cast(excluded, tf.int32), axis=-1, stable=True)
        excluded = tf.gather(excluded, order, batch_dims=1)
        scores = tf.repeat(self.mark - tf.cast(ranks, tf.float32)[None], batch, 0)
        return {
            "item_id": tf.where(excluded, "", tf.gather(ids, order, batch_dims=1)),
            "score": tf.where(excluded, -float("inf"), tf.gather(scores, order, batch_dims=1)),
            "num_valid": k - tf.reduce_sum(tf.cast(excluded, tf.int32), -1),
            "known_user": user_id != "new",
        }

    @tf.function(input_signature=[IDS])
    def serving_default(self, user_id):
        return self._answer(user_id, 3, tf.zeros([tf.shape(user_id)[0], 0], tf.string))

    @tf.function(input_signature=[IDS, K, LISTS, IDS])
    def recommend(self, user_id, k, exclude_item_id, category):
        return self._answer(user_id, k, exclude_item_id, category)

    @tf.function(input_signature=[LISTS, K, LISTS, IDS])
    def recommend_for_history(self, history_item_id, k, exclude_item_id, category):
        """Whoever has a history is known."""
        users = tf.where(tf.reduce_any(history_item_id != "", -1), "known", "new")
        return self._answer(users, k, tf.concat([history_item_id, exclude_item_id], -1), category)

    @tf.function(input_signature=[IDS, K])
    def similar_items(self, item_id, k):
        answer = self._answer(item_id, k, item_id[:, None])
        answer["known_item"] = answer.pop("known_user")
        return answer

    @tf.function(input_signature=[IDS])
    def embed_user(self, user_id):
        lengths = tf.cast(tf.strings.length(user_id), tf.float32)
        return {"embedding": tf.stack([lengths, lengths + self.mark], -1), "known_user": user_id != "new"}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32)])
    def one_output(self, value):
        return {"value": value + self.mark}

    @tf.function(input_signature=[tf.TensorSpec([], tf.int64)])
    def spin(self, steps):
        """Takes time in proportion to `steps`."""
        return {"steps": tf.while_loop(lambda i: i < steps, lambda i: [i + 1], [tf.constant(0, tf.int64)])[0]}


NAMES = (
    "serving_default",
    "recommend",
    "recommend_for_history",
    "similar_items",
    "embed_user",
    "one_output",
    "spin",
)


@pytest.fixture(scope="session")
def saved_models(tmp_path_factory) -> dict[int, Path]:
    """The SavedModel of each mark."""
    root = tmp_path_factory.mktemp("saved_models")
    paths = {mark: root / str(mark) for mark in (100, 200)}
    for mark, path in paths.items():
        model = Recommender(mark)
        tf.saved_model.save(model, str(path), signatures={name: getattr(model, name) for name in NAMES})
    return paths


@pytest.fixture
def publish(saved_models, tmp_path) -> Callable[..., Path]:
    """Puts a version of a model into the export directory, by rename as the exporter does it."""

    def publish(version: int | str, mark: int = 100, model: str = "hqgnn") -> Path:
        target = tmp_path / "export" / model / str(version)
        temporary = target.parent / f".tmp-{version}"
        shutil.copytree(saved_models[mark], temporary)
        temporary.rename(target)
        return target

    return publish


@pytest.fixture
def export_dir(tmp_path, publish) -> Path:
    """Holds hqgnn version 1, of mark 100."""
    publish(1)
    return tmp_path / "export"


@pytest.fixture
def server(export_dir):
    """Over `export_dir`, looking for new versions all the time."""
    with Server(export_dir, grpc_port=0, rest_port=0, poll_seconds=0.02) as server:
        yield server


@pytest.fixture(scope="module")
def shared_server(saved_models, tmp_path_factory):
    """For tests that only ask: hqgnn version 7, of mark 100."""
    export = tmp_path_factory.mktemp("export")
    shutil.copytree(saved_models[100], export / "hqgnn" / "7")
    with Server(export, grpc_port=0, rest_port=0) as server:
        yield server


@pytest.fixture(scope="module")
def channel(shared_server):
    """To its gRPC port."""
    with grpc.insecure_channel(f"127.0.0.1:{shared_server.grpc_port}") as channel:
        yield channel


def eventually(condition: Callable[[], object], what: str, seconds: float = 30.0):
    """Returns the first true value of `condition`; fails after `seconds`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.005)
    pytest.fail(f"still not so after {seconds:g} s: {what}")


@pytest.fixture(name="eventually")
def eventually_fixture():
    return eventually
