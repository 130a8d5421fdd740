"""The probe that the containers run: bash alone, over REST, against TF Serving's answers and the local server."""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml

import tf_hqgnn  # noqa: F401  (before TensorFlow)

import tensorflow as tf  # isort: skip

from tf_hqgnn.serving.server import Server

PROBE = Path(__file__).resolve().parents[2] / "serving" / "available.sh"


def probe(*arguments: object) -> subprocess.CompletedProcess:
    # Only what the stock image has: bash and coreutils.
    return subprocess.run(
        ["bash", PROBE, *map(str, arguments)], capture_output=True, text=True, timeout=30, check=False
    )


def answer(*states: str) -> str:
    """GetModelStatus over REST as TF Serving formats it."""
    status = {"error_code": "OK", "error_message": ""}
    entries = [{"version": str(7 + i), "state": state, "status": status} for i, state in enumerate(states)]
    return json.dumps({"model_version_status": entries}, indent=1)


class Answering(ThreadingHTTPServer):
    """Answers `answers[path]`, (status, body)."""

    def __init__(self, *arguments) -> None:
        super().__init__(*arguments)
        self.answers: dict[str, tuple[int, str]] = {}


@pytest.fixture
def rest():
    """A REST server for the probe."""

    class Handler(BaseHTTPRequestHandler):
        # As TF Serving: connections stay open unless the client asks otherwise.
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            status, body = server.answers.get(self.path, (404, '{"error": "Could not find any versions of model x"}'))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *arguments):
            """Quiet."""

    server = Answering(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(
    ("states", "available"),
    [
        (["AVAILABLE"], True),
        (["LOADING"], False),
        (["START"], False),
        (["END"], False),
        (["UNLOADING"], False),
        # A canary that loads, or failed, beside the version that serves.
        (["LOADING", "AVAILABLE"], True),
        (["AVAILABLE", "END"], True),
        ([], False),
    ],
)
def test_only_available_is_available(rest, states, available):
    rest.answers["/v1/models/hqgnn"] = (200, answer(*states))
    assert (probe(rest.server_port, "hqgnn").returncode == 0) == available


@pytest.mark.parametrize(("state", "code"), [("AVAILABLE", 0), ("LOADING", 1)])
def test_the_probe_of_kserve(rest, state, code):
    """It has the script in its manifest, since there is no ConfigMap of ours."""
    _, service = yaml.safe_load_all((PROBE.parent / "kserve" / "inferenceservice.yaml").read_text())
    *bash, script = service["spec"]["predictor"]["model"]["readinessProbe"]["exec"]["command"]
    rest.answers["/v1/models/hqgnn"] = (200, answer(state))
    command = [*bash, script.replace("/8080;", f"/{rest.server_port};")]
    assert subprocess.run(command, capture_output=True, timeout=30).returncode == code


def test_an_error_is_not_available(rest):
    rest.answers["/v1/models/hqgnn"] = (503, answer("AVAILABLE"))
    assert probe(rest.server_port, "hqgnn").returncode == 1
    assert probe(rest.server_port, "other").returncode == 1


def test_a_closed_port_is_not_available(rest):
    port = rest.server_port
    rest.shutdown()
    rest.server_close()
    assert probe(port, "hqgnn").returncode == 1


def test_wrong_usage():
    done = probe(8501)
    assert (done.returncode, done.stderr) == (2, "usage: available.sh REST_PORT MODEL\n")


def test_against_the_local_server(tmp_path):
    module = tf.Module()
    signature = tf.function(lambda user_id: {"length": tf.strings.length(user_id)}, [tf.TensorSpec([None], tf.string)])
    tf.saved_model.save(module, str(tmp_path / "made"), signatures={"serving_default": signature})
    shutil.copytree(tmp_path / "made", tmp_path / "export" / "hqgnn" / "3")
    with Server(tmp_path / "export", grpc_port=0, rest_port=0) as server:
        assert probe(server.rest_port, "hqgnn").returncode == 0
        assert probe(server.rest_port, "hqgnn_scann").returncode == 1
