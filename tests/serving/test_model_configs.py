"""Model config file and HandleReloadConfigRequest: version policies, labels, canary and rollback."""

import contextlib
import json
import threading
import urllib.request

import grpc
import numpy as np
import pytest
from google.protobuf import text_format

import tf_hqgnn  # noqa: F401
from tf_hqgnn.serving.config_files import read_model_configs
from tf_hqgnn.serving.errors import ServingError
from tf_hqgnn.serving.server import Server
from tf_hqgnn.types import InputError

import tensorflow as tf  # isort: skip
from tensorflow_serving.apis import (
    model_management_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

CANARY = """
model_config_list {
  config {
    name: "hqgnn" base_path: "export/hqgnn" model_platform: "tensorflow"
    model_version_policy { specific { versions: 1 versions: 2 } }
    version_labels { key: "stable" value: 1 }
    version_labels { key: "canary" value: 2 }
  }
}
"""


def states(manager):
    """The states of all versions of all models."""
    for name in list(manager.known()):
        with contextlib.suppress(ServingError):  # There is no version.
            yield from (status.state for status in manager.status(name))


@pytest.fixture
def start(tmp_path, eventually):
    """Starts servers over a model config file beside export/, and waits for versions too new to be loaded at once."""
    servers = []

    def start(text):
        path = tmp_path / "models.config"
        path.write_text(text)
        models = read_model_configs(path)
        servers.append(Server(None, grpc_port=0, rest_port=0, poll_seconds=0.02, models=models).start())
        eventually(lambda: all(state >= 30 for state in states(servers[-1].manager)), "all are loaded")
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


@pytest.fixture
def reloadable(export_dir):
    """Over a directory, and allowed to be reloaded."""
    with Server(export_dir, grpc_port=0, rest_port=0, poll_seconds=0.02, may_reload=True) as server:
        yield server


@pytest.fixture
def versions(publish):
    """Versions 1 and 3 of mark 100, version 2 of mark 200."""
    for version, mark in ((1, 100), (2, 200), (3, 100)):
        publish(version, mark)


def channel_of(server):
    return grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}")


def ask(server, version=None, label=None):
    """(version, best score)."""
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "hqgnn"
    if version is not None:
        request.model_spec.version.value = version
    if label is not None:
        request.model_spec.version_label = label
    request.inputs["user_id"].CopyFrom(tf.make_tensor_proto(["a"]))
    with channel_of(server) as channel:
        response = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict(request, timeout=60)
    return response.model_spec.version.value, tf.make_ndarray(response.outputs["score"])[0, 0]


def reload(server, text):
    request = model_management_pb2.ReloadConfigRequest()
    text_format.Parse(text, request.config)
    with channel_of(server) as channel:
        return model_service_pb2_grpc.ModelServiceStub(channel).HandleReloadConfigRequest(request, timeout=60)


def refused(call):
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return caught.value.code().name, caught.value.details()


def config(base_path, more="", name="hqgnn"):
    return f'model_config_list {{ config {{ name: "{name}" base_path: "{base_path}" {more} }} }}'


def available(server):
    return sorted(status.version for status in server.manager.status("hqgnn") if status.state == 30)


@pytest.mark.parametrize(
    ("policy", "served"),
    [
        ("", [3]),
        ("model_version_policy { latest { num_versions: 2 } }", [2, 3]),
        ("model_version_policy { latest { } }", [3]),
        ("model_version_policy { all { } }", [1, 2, 3]),
        ("model_version_policy { specific { versions: 1 versions: 2 versions: 9 } }", [1, 2]),
    ],
)
@pytest.mark.usefixtures("versions")
def test_the_policy_says_which_versions_are_served(start, policy, served):
    server = start(config("export/hqgnn", policy))
    assert available(server) == served
    for version in served:
        assert ask(server, version) == (version, 200 if version == 2 else 100)
    assert ask(server)[0] == served[-1]
    for version in {1, 2, 3} - set(served):
        assert refused(lambda version=version: ask(server, version))[0] == "NOT_FOUND"


@pytest.mark.usefixtures("versions")
def test_latest_two_go_on_with_a_new_version(start, publish, eventually):
    server = start(config("export/hqgnn", "model_version_policy { latest { num_versions: 2 } }"))
    publish(4, mark=200)
    eventually(lambda: available(server) == [3, 4], "versions 3 and 4 are served")
    assert ask(server) == (4, 200)


@pytest.mark.usefixtures("versions")
def test_labels_lead_to_versions_over_grpc_and_rest(start):
    server = start(CANARY)
    assert ask(server, label="stable") == (1, 100)
    assert ask(server, label="canary") == (2, 200)
    assert refused(lambda: ask(server, label="x")) == ("INVALID_ARGUMENT", "Unrecognized servable version label: x")
    misspelt = "Unrecognized servable version label: canari; did you mean 'canary'?"
    assert refused(lambda: ask(server, label="canari")) == ("INVALID_ARGUMENT", misspelt)
    base = f"http://127.0.0.1:{server.rest_port}/v1/models/hqgnn/labels"
    for label, score in (("stable", 100), ("canary", 200)):
        request = urllib.request.Request(f"{base}/{label}:predict", b'{"instances": ["a"]}')
        request.add_header("Content-Type", "application/json")
        with urllib.request.urlopen(request, timeout=60) as response:
            assert json.loads(response.read())["predictions"][0]["score"][0] == score


@pytest.mark.usefixtures("versions")
def test_a_reload_moves_labels_and_versions_and_rolls_back(start, tmp_path, eventually):
    server = start(CANARY)
    path = tmp_path / "export" / "hqgnn"
    both = "model_version_policy { specific { versions: 1 versions: 2 } }"
    response = reload(server, config(path, both + 'version_labels { key: "stable" value: 2 }'))
    assert (response.HasField("status"), response.status.error_code) == (True, 0)
    assert ask(server, label="stable") == (2, 200)
    assert refused(lambda: ask(server, label="canary"))[0] == "INVALID_ARGUMENT"
    reload(server, config(path, "model_version_policy { specific { versions: 1 } }"))
    assert ask(server) == (1, 100)
    eventually(lambda: available(server) == [1], "version 2 is unloaded")
    reload(server, config(path))
    assert ask(server) == (3, 100)


@pytest.mark.usefixtures("versions")
def test_a_reload_drops_and_brings_back_models(start, publish, tmp_path):
    publish(5, mark=200, model="other")
    server = start('model_config_list { config { name: "hqgnn" base_path: "export/hqgnn" } config { name: "other" '
                   'base_path: "export/other" } }')  # fmt: skip
    reload(server, config(tmp_path / "export" / "other", name="other"))
    assert server.manager.served() == {"other": 5}
    assert refused(lambda: ask(server)) == ("NOT_FOUND", "Servable not found for request: Latest(hqgnn)")
    reload(server, config(tmp_path / "export" / "hqgnn"))
    assert server.manager.served() == {"hqgnn": 3}


def test_a_server_of_a_directory_can_be_reloaded_and_looks_for_models_no_more(
    reloadable, publish, export_dir, eventually
):
    server = reloadable
    publish(2, mark=200)
    eventually(lambda: server.manager.served() == {"hqgnn": 2}, "version 2 is served")
    reload(server, config(export_dir / "hqgnn", "model_version_policy { specific { versions: 1 } }"))
    publish(1, model="other")
    publish(3, mark=200)
    assert ask(server) == (1, 100)
    assert server.manager.served() == {"hqgnn": 1}


@pytest.mark.usefixtures("versions")
def test_no_request_fails_while_versions_labels_and_models_change(start, publish, tmp_path):
    """The label moves to another version, the one it was on goes, and a second model loads, over and over."""
    publish(5, mark=200, model="other")
    one = 'model_version_policy { specific { versions: 1 } } version_labels { key: "stable" value: 1 }'
    both = config("export/hqgnn", one)[:-1] + config("export/other", name="other")[len("model_config_list {") :]
    server = start(both)
    scores = {1: 100, 2: 200}
    failures, answers, stop = [], [], threading.Event()

    def ask_on(stub, request):
        while not stop.is_set():
            try:
                response = stub.Predict(request, timeout=60)
                version = response.model_spec.version.value
                answers.append((version, float(tf.make_ndarray(response.outputs["score"])[0, 0])))
            except grpc.RpcError as error:
                failures.append((error.code().name, error.details()))

    request = predict_pb2.PredictRequest()
    request.model_spec.name, request.model_spec.version_label = "hqgnn", "stable"
    request.inputs["user_id"].CopyFrom(tf.make_tensor_proto(["a"]))
    with channel_of(server) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        threads = [threading.Thread(target=ask_on, args=(stub, request)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for turn in range(6):
            version = 2 - turn % 2
            text = config(
                tmp_path / "export" / "hqgnn",
                f"model_version_policy {{ specific {{ versions: {version} }} }} "
                f'version_labels {{ key: "stable" value: {version} }}',
            )
            more = config(tmp_path / "export" / "other", name="other")[len("model_config_list {") :]
            reload(server, text[:-1] + more if turn % 2 else text)
            assert ask(server, label="stable") == (version, scores[version])
        stop.set()
        for thread in threads:
            thread.join()
    assert failures == []
    assert len(answers) > 20
    assert all(score == scores[version] for version, score in answers)


@pytest.mark.usefixtures("versions")
def test_a_label_may_be_on_a_version_that_the_same_reload_loads_but_not_on_one_that_goes(start, tmp_path):
    server = start(config("export/hqgnn", "model_version_policy { specific { versions: 1 } }"))
    path = tmp_path / "export" / "hqgnn"
    two = "model_version_policy { specific { versions: 2 } }"
    code, details = refused(lambda: reload(server, config(path, two + 'version_labels { key: "x" value: 1 }')))
    assert code == "FAILED_PRECONDITION"
    assert "label to version 1" in details
    assert ask(server) == (1, 100)
    reload(server, config(path, two + 'version_labels { key: "x" value: 2 }'))
    assert ask(server, label="x") == (2, 200)


def test_a_server_of_a_directory_refuses_reloads_unless_told(server, export_dir):
    code, details = refused(lambda: reload(server, config(export_dir / "hqgnn")))
    assert code == "PERMISSION_DENIED"
    assert "--allow-reload" in details
    assert ask(server) == (1, 100)


@pytest.mark.usefixtures("versions")
def test_wrong_reloads_are_refused_and_change_nothing(start, tmp_path):
    server = start(CANARY)
    path = tmp_path / "export" / "hqgnn"
    elsewhere = tmp_path / "secret"
    cases = [
        ("", "INVALID_ARGUMENT", "Only ModelConfigList is currently supported"),
        ("model_config_list { }", "INVALID_ARGUMENT", "the list of models is empty"),
        (config(path, name="a\\nforged"), "INVALID_ARGUMENT", "a\\nforged: a model's name has"),
        (config(path, name="a/b"), "INVALID_ARGUMENT", "model a/b: a model's name has 1 to 128 letters"),
        (config(path, name="n" * 9000), "INVALID_ARGUMENT", "(9000 characters): a model's name has 1 to 128 letters"),
        (
            config(path)[:-1] + config(path, name="twin")[len("model_config_list {") :],
            "INVALID_ARGUMENT",
            "models hqgnn and twin have one base_path: list it once",
        ),
        (config(elsewhere), "PERMISSION_DENIED", "isn't one that this server was started with: name it in --model_con"),
        (config(f"{path}/../../secret"), "PERMISSION_DENIED", "isn't one that this server was started with"),
        (config("export/hqgnn"), "INVALID_ARGUMENT", "Expected model hqgnn to have an absolute path"),
        (config(path, name=""), "INVALID_ARGUMENT", "a model config has no name"),
        (config(path, 'model_platform: "x"'), "INVALID_ARGUMENT", 'expected model_platform "tensorflow", got "x"'),
        (
            config(path, 'version_labels { key: "a" value: 9 }'),
            "FAILED_PRECONDITION",
            "Request to assign label to version 9 of model hqgnn, which is not currently available for inference",
        ),
        (
            config(path)[:-1] + config(path)[len("model_config_list {") :],
            "INVALID_ARGUMENT",
            "Illegal to list model hqgnn multiple times in config list",
        ),
    ]
    for text, code, message in cases:
        found = refused(lambda text=text: reload(server, text))
        assert found[0] == code
        assert message in found[1]
    assert ask(server, label="canary") == (2, 200)
    assert available(server) == [1, 2]


@pytest.mark.usefixtures("versions")
def test_a_path_is_only_opened_as_the_server_was_told_it(start, tmp_path):
    """A request may spell a known path as it likes; through a symbolic link ".." would lead elsewhere."""
    server = start(config("export/hqgnn"))
    (tmp_path / "secret" / "inner").mkdir(parents=True)
    (tmp_path / "export" / "link").symlink_to(tmp_path / "secret" / "inner")
    reload(server, config(tmp_path / "export" / "link" / ".." / "hqgnn"))
    assert ask(server) == (3, 100)


@pytest.mark.usefixtures("versions")
def test_a_reload_without_a_version_that_loads_says_so(start, tmp_path):
    """What can be served is."""
    server = start('model_config_list { config { name: "hqgnn" base_path: "export/hqgnn" } config { name: "none" '
                   'base_path: "export/none" } }')  # fmt: skip
    code, details = refused(lambda: reload(server, config(tmp_path / "export" / "none", name="none")))
    assert code == "NOT_FOUND"
    assert details == f"not served: none: none has no version in {tmp_path / 'export' / 'none'}"
    wanted = "model_version_policy { specific { versions: 9 versions: 2 } }"
    code, details = refused(lambda: reload(server, config(tmp_path / "export" / "hqgnn", wanted)))
    assert (code, details) == ("NOT_FOUND", "not served: hqgnn version 9: there are no such versions")
    assert ask(server) == (2, 200)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (config("export/hqgnn", 'model_platform: "x"'), 'expected model_platform "tensorflow", got "x"'),
        (config(""), "Expected model hqgnn to have an absolute path"),
        (config("export/absent"), "the model config file: no model can be served: hqgnn has no version in .*absent"),
    ],
)
def test_wrong_config_files_are_explained(start, text, message):
    with pytest.raises(InputError, match=message):
        start(text)


def test_either_a_directory_or_a_config_file_is_needed():
    with pytest.raises(InputError, match="expected either an export directory or a model config file"):
        Server(None)


@pytest.mark.usefixtures("versions")
def test_scores_of_two_served_versions_do_not_mix_in_a_batch(start):
    server = start(CANARY)
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "hqgnn"
    request.inputs["user_id"].CopyFrom(tf.make_tensor_proto(["a"]))
    with channel_of(server) as channel:
        predict = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict
        asked = []
        for number in range(200):
            request.model_spec.version.value = 1 + number % 2
            asked.append(predict.future(request, timeout=60))
        for number, one in enumerate(asked):
            score = tf.make_ndarray(one.result().outputs["score"])
            np.testing.assert_array_equal(score[0], (200 if number % 2 else 100) - np.arange(3))
