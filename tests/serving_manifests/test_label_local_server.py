"""serving/ against the local server, over gRPC: label.py moves its labels, and it reads the same config files."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import grpc
import label
import pytest

import tf_hqgnn  # noqa: F401  (before TensorFlow)

import tensorflow as tf  # isort: skip
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from tf_hqgnn.serving import config_files
from tf_hqgnn.serving.server import Server

SERVING = Path(__file__).resolve().parents[2] / "serving"
# Canary, full and back, as the page says it.
PAGE = SERVING.parent / "docs" / "serving.md"
COMMANDS = re.findall(r"^python serving/label\.py --server localhost:8500 (.*)$", PAGE.read_text("utf-8"), re.MULTILINE)
CONFIG = """model_config_list {
  config {
    name: "hqgnn" base_path: "%s" model_platform: "tensorflow"
    model_version_policy { specific { versions: 6 } }
    version_labels { key: "stable" value: 6 }
    version_labels { key: "canary" value: 6 }
  }
}
"""


class Numbered(tf.Module):
    """Answers its number."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = tf.Variable(number)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def serve(self, user_id):
        return {"number": tf.fill(tf.shape(user_id), self.number)}


@pytest.fixture(scope="module")
def base_path(tmp_path_factory):
    """Versions 6 and 7, which answer with their number."""
    base_path = tmp_path_factory.mktemp("export") / "hqgnn"
    for version in (6, 7):
        model = Numbered(version)
        tf.saved_model.save(model, str(base_path / str(version)), signatures={"serving_default": model.serve})
    return base_path


def test_label_moves_the_labels_of_the_local_server(base_path, tmp_path, capsys):
    config = tmp_path / "models.config"
    config.write_text(CONFIG % base_path)
    models = config_files.read_model_configs(config)
    with Server(None, grpc_port=0, rest_port=0, models=models, poll_seconds=0.02) as server:
        address = f"127.0.0.1:{server.grpc_port}"

        def run(*arguments: str) -> tuple[int, str]:
            code = label.main(["--server", address, "--config", str(config), *arguments])
            return code, "".join(capsys.readouterr())

        with grpc.insecure_channel(address) as channel:
            stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)

            def answers() -> tuple[int, ...]:
                """What clients of `stable` and `canary` get."""
                numbers = []
                for name in ("stable", "canary"):
                    request = predict_pb2.PredictRequest()
                    request.model_spec.name, request.model_spec.version_label = "hqgnn", name
                    request.inputs["user_id"].CopyFrom(tf.make_tensor_proto(["a"]))
                    numbers.append(tf.make_ndarray(stub.Predict(request, timeout=30).outputs["number"]).item())
                return tuple(numbers)

            assert answers() == (6, 6)
            canary, full, back = map(shlex.split, COMMANDS)
            assert run(*canary) == (0, "hqgnn: canary 7, stable 6 (1 server)\n")
            assert answers() == (6, 7)
            assert run(*full)[0] == 0
            assert answers() == (7, 7)
            assert run(*back)[0] == 0
            assert answers() == (6, 7)
            code, error = run("--model", "hqgnn", "--label", "stable", "--version", "9", "--timeout", "0.5")
            assert code == 1
            assert "version 9" in error
            assert "no label was moved" in error
            assert answers() == (6, 7)


def test_the_local_server_reads_the_config_files_of_serving():
    for name in ("models.config", "models_scann.config"):
        (model,) = config_files.read_model_configs(SERVING / name)
        assert set(model.version_labels) == {"stable", "canary"}
    assert config_files.read_batching_parameters(SERVING / "batching.config").max_batch_size == 64
    assert config_files.read_monitoring_path(SERVING / "monitoring.config") == "/monitoring/prometheus/metrics"
