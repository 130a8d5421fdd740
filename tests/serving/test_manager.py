import contextlib
import logging
import os
import re
import resource
import shutil
from concurrent import futures
from pathlib import Path

import grpc
import numpy as np
import pytest

import tf_hqgnn  # noqa: F401

import tensorflow as tf  # isort: skip
from tensorflow_serving.apis import get_model_status_pb2, prediction_log_pb2

from tf_hqgnn.export.layout import WARMUP_FILE
from tf_hqgnn.serving import loader, model
from tf_hqgnn.serving.errors import ServingError
from tf_hqgnn.serving.manager import ModelManager

USER = {"user_id": np.array([b"a"], object)}
state_name = get_model_status_pb2.ModelVersionStatus.State.Name


@pytest.fixture
def manager(export_dir):
    manager = ModelManager(export_dir, poll_seconds=0.02)
    manager.start()
    yield manager
    manager.stop()


def best_score(manager, version=None):
    with manager.lease("hqgnn", version) as loaded:
        return loaded.predict("", USER)["score"][0, 0]


def states(manager, model="hqgnn"):
    try:
        return {status.version: state_name(status.state) for status in manager.status(model)}
    except ServingError:  # No version has been seen yet.
        return {}


def failure(manager, version):
    [status] = manager.status("hqgnn", version)
    return status.error


def test_a_new_version_takes_over_and_the_old_one_is_unloaded(manager, publish, eventually):
    assert manager.served() == {"hqgnn": 1}
    assert states(manager) == {1: "AVAILABLE"}
    publish(2, mark=200)
    eventually(lambda: manager.served() == {"hqgnn": 2}, "version 2 is served")
    assert best_score(manager) == 200
    eventually(lambda: states(manager) == {2: "AVAILABLE", 1: "END"}, "version 1 is unloaded")
    assert failure(manager, 1) is None


def test_a_version_in_use_is_unloaded_when_its_last_request_ends(manager, publish, eventually):
    with manager.lease("hqgnn") as old:
        publish(2, mark=200)
        eventually(lambda: states(manager) == {2: "AVAILABLE", 1: "UNLOADING"}, "version 2 has taken over")
        assert manager.served() == {"hqgnn": 2}
        assert old.predict("", USER)["score"][0, 0] == 100
        with pytest.raises(ServingError, match=r"Specific\(hqgnn, 1\)"), manager.lease("hqgnn", 1):
            pass
    eventually(lambda: states(manager) == {2: "AVAILABLE", 1: "END"}, "version 1 is unloaded")


def test_the_old_version_answers_while_the_new_one_loads(manager, publish, eventually, monkeypatch):
    loading, go_on = futures.Future(), futures.Future()

    def slow_warm_up(*_):
        loading.set_result(None)
        go_on.result(timeout=30)
        return 0

    monkeypatch.setattr(loader, "warm_up_version", slow_warm_up)
    publish(2, mark=200)
    loading.result(timeout=30)
    assert states(manager) == {2: "LOADING", 1: "AVAILABLE"}
    assert best_score(manager) == 100
    with pytest.raises(ServingError, match=r"Servable not found for request: Specific\(hqgnn, 2\)"):
        best_score(manager, version=2)
    go_on.set_result(None)
    eventually(lambda: manager.served() == {"hqgnn": 2}, "version 2 is served")


def test_a_broken_version_leaves_the_old_one_and_is_tried_again_when_mended(
    manager, saved_models, export_dir, eventually
):
    broken = export_dir / "hqgnn" / ".tmp"
    shutil.copytree(saved_models[200], broken)
    content = (broken / "saved_model.pb").read_bytes()
    (broken / "saved_model.pb").write_bytes(content[:1000])
    broken.rename(export_dir / "hqgnn" / "2")
    eventually(lambda: states(manager).get(2) == "END", "version 2 has failed")
    assert "is damaged or cut short" in failure(manager, 2).message
    assert failure(manager, 2).code == grpc.StatusCode.DATA_LOSS
    assert manager.served() == {"hqgnn": 1}
    assert best_score(manager) == 100
    (export_dir / "hqgnn" / "2" / "saved_model.pb").write_bytes(content)
    eventually(lambda: manager.served() == {"hqgnn": 2}, "the mended version 2 is served")
    assert best_score(manager) == 200
    assert failure(manager, 2) is None


def test_a_version_whose_warm_up_fails_leaves_the_old_one(manager, publish, export_dir, eventually):
    """A record that asks for a signature that isn't there."""
    log = prediction_log_pb2.PredictionLog()
    log.predict_log.request.model_spec.signature_name = "x"
    target = publish(".held", mark=200)
    (target / "assets.extra").mkdir()
    with tf.io.TFRecordWriter(str(target / WARMUP_FILE)) as writer:
        writer.write(log.SerializeToString())
    target.rename(export_dir / "hqgnn" / "2")
    eventually(lambda: states(manager).get(2) == "END", "version 2 has failed")
    assert 'warm-up record 1 of tf_serving_warmup_requests: Serving signature key "x"' in failure(manager, 2).message
    assert best_score(manager) == 100


def test_a_version_that_arrives_slowly_is_not_loaded_before_it_is_complete(
    manager, saved_models, export_dir, eventually, caplog
):
    """A SavedModel without its variables loads without an error, and fails at the first request."""
    caplog.set_level(logging.INFO, "tf_hqgnn.serving")
    source, target = saved_models[200], export_dir / "hqgnn" / "2"
    data = "variables/variables.data-00000-of-00001"
    (target / "variables").mkdir(parents=True)
    steps = [
        (None, "saved_model.pb"),
        ("saved_model.pb", "variables/variables.index"),
        ("variables/variables.index", data),
        (data, None),
    ]
    for name, awaited in steps:
        if name == data:
            content = (source / data).read_bytes()
            (target / data).write_bytes(content[:-1])
            awaited = f"the rest of {data} ({len(content) - 1} of {len(content)} bytes are there)"
        elif name is not None:
            shutil.copy2(source / name, target / name)
        eventually(lambda awaited=awaited: f"waits for {awaited}" in caplog.text, f"the log says {awaited}")
        assert states(manager)[2] == "START"
        assert best_score(manager) == 100
    assert "version 2: loading" not in caplog.text
    (target / data).write_bytes(content)
    eventually(lambda: manager.served() == {"hqgnn": 2}, "the complete version 2 is served")
    assert best_score(manager) == 200


def test_a_version_that_stays_incomplete_has_failed_until_the_rest_comes(manager, saved_models, export_dir, eventually):
    target = export_dir / "hqgnn" / "2"
    target.mkdir()
    shutil.copy2(saved_models[200] / "saved_model.pb", target)
    eventually(lambda: states(manager).get(2) == "END", "version 2 has failed")
    assert failure(manager, 2).code == grpc.StatusCode.NOT_FOUND
    assert failure(manager, 2).message.endswith("is incomplete: it lacks variables/variables.index")
    shutil.copytree(saved_models[200], target, dirs_exist_ok=True)
    eventually(lambda: manager.served() == {"hqgnn": 2}, "the complete version 2 is served")


def test_a_load_that_lacks_file_descriptors_is_tried_again(manager, publish, eventually):
    held = []
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    target = publish(".held", mark=200)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(list(Path("/proc/self/fd").iterdir())) + 16, limits[1]))
    try:
        with contextlib.suppress(OSError):
            while True:
                held.append(os.open(os.devnull, os.O_RDONLY))
        # One is left, so that the folder can be looked into.
        os.close(held.pop())
        target.rename(target.with_name("2"))
        eventually(lambda: states(manager).get(2) == "END", "version 2 has failed")
        assert failure(manager, 2).code == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert best_score(manager) == 100
    finally:
        for descriptor in held:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    eventually(lambda: manager.served() == {"hqgnn": 2}, "version 2 is served, though none of its files has changed")


@pytest.mark.parametrize("error", [MemoryError(), tf.errors.ResourceExhaustedError(None, None, "OOM")])
def test_a_load_that_lacks_memory_is_tried_again_with_backoff(manager, publish, eventually, monkeypatch, caplog, error):
    loads = []

    def load(path, version):
        loads.append(version)
        if len(loads) < 4:
            raise error
        return loader.load_version(path, version)

    monkeypatch.setattr("tf_hqgnn.serving.model.load_version", load)
    publish(2, mark=200)
    eventually(lambda: manager.served() == {"hqgnn": 2}, "version 2 is served in the end")
    waits = [float(wait) for wait in re.findall(r"tried again in ([\d.]+) s: RESOURCE_EXHAUSTED", caplog.text)]
    assert waits == [0.04, 0.08, 0.16]


def test_names_that_could_forge_a_log_are_not_served(manager, publish, eventually, caplog):
    publish(1, model="x\nforged line")
    eventually(lambda: "isn't served" in caplog.text, "the log tells of the odd name")
    assert "x\\nforged line isn't served: a model's name has" in caplog.text
    assert "\nforged" not in caplog.text
    assert manager.served() == {"hqgnn": 1}


def test_a_version_still_being_written_waits(export_dir, publish, eventually):
    """With looks an hour apart everything counts as freshly written, so nothing is loaded at the first look."""
    publish(2, mark=200)
    model = ModelManager(export_dir, poll_seconds=3600)
    try:
        model.look()
        eventually(lambda: len(states(model)) == 2, "the model has looked")
        assert states(model) == {2: "START", 1: "START"}
        assert model.served() == {}
    finally:
        model.stop()


def test_content_that_changes_while_it_loads_is_not_served(manager, publish, eventually, monkeypatch):
    real = loader.warm_up_version

    def warm_up(loaded, path):
        if loaded.version == 2 and not (path.parent / "late").exists():
            path.parent.mkdir(exist_ok=True)
            (path.parent / "late").touch()
            reached.set_result(None)
        return real(loaded, path)

    reached = futures.Future()
    monkeypatch.setattr(loader, "warm_up_version", warm_up)
    seen = []
    monkeypatch.setattr("tf_hqgnn.serving.model.log.error", lambda *args: seen.append(args))
    publish(2, mark=200)
    reached.result(timeout=30)
    eventually(lambda: manager.served() == {"hqgnn": 2}, "version 2 is served at the second try")
    assert "changed while it was loaded" in seen[0][-1]


def test_deleting_the_newest_version_brings_the_one_before_it_back(manager, publish, export_dir, eventually):
    publish(2, mark=200)
    eventually(lambda: manager.served() == {"hqgnn": 2}, "version 2 is served")
    shutil.rmtree(export_dir / "hqgnn" / "2")
    eventually(lambda: manager.served() == {"hqgnn": 1}, "version 1 is served again")
    assert best_score(manager) == 100
    publish(2, mark=200)
    eventually(lambda: manager.served() == {"hqgnn": 2}, "version 2 is back")


def test_a_model_whose_folder_vanishes_stays_served(manager, publish, export_dir, eventually):
    publish(1, model="other")
    eventually(lambda: manager.served() == {"hqgnn": 1, "other": 1}, "a model that appeared later is served")
    shutil.rmtree(export_dir / "hqgnn")
    publish(2, mark=200, model="other")
    eventually(lambda: manager.served().get("other") == 2, "the manager has looked again")
    assert best_score(manager) == 100


def test_a_start_with_a_broken_newest_version_serves_the_one_before(export_dir, publish):
    (publish(2, mark=200) / "saved_model.pb").write_bytes(b"")
    manager = ModelManager(export_dir, poll_seconds=0.02)
    manager.start()
    try:
        assert manager.served() == {"hqgnn": 1}
        assert states(manager) == {2: "END", 1: "AVAILABLE"}
    finally:
        manager.stop()


def test_names_that_are_no_numbers_are_left_alone(manager, publish, eventually):
    publish("2.partial", mark=200)
    publish("tmp-3", mark=200)
    publish(1, model="other")
    eventually(lambda: "other" in manager.served(), "the manager has looked again")
    assert states(manager) == {1: "AVAILABLE"}


def test_what_is_not_there_is_not_found(manager):
    for version, message in ((None, r"Latest\(x\)"), (3, r"Specific\(x, 3\)")):
        with (
            pytest.raises(ServingError, match=f"Servable not found for request: {message}") as caught,
            manager.lease("x", version),
        ):
            pass
        assert caught.value.code == grpc.StatusCode.NOT_FOUND
    with pytest.raises(ServingError, match="Could not find any versions of model x"):
        manager.status("x")
    with pytest.raises(ServingError, match="Could not find version 9 of model hqgnn"):
        manager.status("hqgnn", 9)


def test_the_list_of_ended_versions_stays_short(manager, export_dir, eventually, monkeypatch):
    # Half a second each otherwise.
    monkeypatch.setattr(model, "_PATIENCE", 2)
    for version in range(2, 24):
        (export_dir / "hqgnn" / str(version)).mkdir()
        eventually(lambda version=version: states(manager).get(version) == "END", f"version {version} has failed")
        shutil.rmtree(export_dir / "hqgnn" / str(version))
    eventually(lambda: len(states(manager)) <= 17, "old failures are forgotten")
    assert states(manager)[1] == "AVAILABLE"
