"""The REST interface with nothing but the standard library as client."""

import http.client
import json
import math
import threading
import urllib.error
import urllib.request
from concurrent import futures

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tf_hqgnn.serving import rest
from tf_hqgnn.serving.client import Client
from tf_hqgnn.serving.server import Server
from tf_hqgnn.serving.signature import Signature
from tf_hqgnn.types import InputError


@pytest.fixture(scope="module")
def call(shared_server):
    def call(method, path, body=None):
        connection = http.client.HTTPConnection("127.0.0.1", shared_server.rest_port, timeout=30)
        content = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        connection.request(method, path, content)
        response = connection.getresponse()
        text = response.read()
        connection.close()
        assert response.getheader("Content-Type") == "application/json"
        return response.status, json.loads(text)

    return call


def predict(call, body, path="/v1/models/hqgnn:predict"):
    return call("POST", path, body)


ROW = {"item_id": ["100-0", "100-1", "100-2"], "known_user": True, "num_valid": 3, "score": [100.0, 99.0, 98.0]}


def test_rows(call):
    assert predict(call, {"instances": ["a"]}) == (200, {"predictions": [ROW]})
    unknown = {**ROW, "known_user": False}
    status, answer = predict(
        call, {"instances": [{"user_id": "a"}, {"user_id": "new"}]}, "/v1/models/hqgnn/versions/7:predict"
    )
    assert (status, answer) == (200, {"predictions": [ROW, unknown]})
    assert predict(call, {"instances": [{"b64": "bmV3"}]}) == (200, {"predictions": [unknown]})


def test_columns(call):
    body = {
        "signature_name": "recommend",
        "inputs": {"user_id": ["a"], "k": 2, "exclude_item_id": [["100-0"]], "category": [""]},
    }
    status, answer = predict(call, body)
    assert status == 200
    assert answer["outputs"]["item_id"] == [["100-1", ""]]
    assert answer["outputs"]["score"] == [[99, -math.inf]]
    assert answer["outputs"]["num_valid"] == [1]


def test_a_lone_output_comes_bare(call):
    assert predict(call, {"signature_name": "one_output", "instances": [1.5, 2]}) == (
        200,
        {"predictions": [101.5, 102]},
    )
    assert predict(call, {"signature_name": "one_output", "inputs": [1.5]}) == (200, {"outputs": [101.5]})


@pytest.mark.parametrize(
    ("path", "body", "status", "message"),
    [
        ("/v1/models/x:predict", {"instances": ["a"]}, 404, "Servable not found for request: Latest(x)"),
        ("/v1/models/a%3Ab:predict", {"instances": ["a"]}, 404, "Servable not found for request: Latest(a:b)"),
        ("/v1/models/hqgnn/versions/8:predict", {"instances": ["a"]}, 404, "request: Specific(hqgnn, 8)"),
        ("/v1/models/hqgnn/versions/99999999999999999999:predict", {}, 400, "Failed to convert version"),
        ("/v1/models/hqgnn/labels/b:predict", {"instances": ["a"]}, 400, "Unrecognized servable version label: b"),
        (
            "/v1/models/hqgnn:predict",
            {"signature_name": "x", "instances": ["a"]},
            400,
            'Serving signature name: "x" not found in signature def',
        ),
        ("/v1/models/hqgnn:predict", b"{", 400, "JSON Parse error"),
        ("/v1/models/hqgnn:predict", {"instances": [1]}, 400, "is not of expected type: string"),
        ("/v1/models/hqgnn:predict", {"inputs": [["a"]]}, 400, 'input "user_id" has shape [1,1]'),
        ("/v1/models/hqgnn:predict", {"inputs": {"user": ["a"]}}, 400, "Missing named input: user_id"),
        ("/v1/models/hqgnn:classify", {}, 501, "classify is not implemented: use hqgnn:predict"),
        ("/v1/models/hqgnn", {}, 400, "Malformed request: POST /v1/models/hqgnn"),
        ("/v1/other", {}, 400, "Malformed request: POST /v1/other"),
    ],
)
def test_wrong_calls(call, path, body, status, message):
    code, answer = predict(call, body, path)
    assert code == status
    assert list(answer) == ["error"]
    assert message in answer["error"]


def test_any_other_failure_is_500(call, shared_server, monkeypatch):
    monkeypatch.setattr(shared_server.manager, "lease", lambda *_: 1 / 0)
    assert predict(call, {"instances": ["a"]}) == (500, {"error": "ZeroDivisionError: division by zero"})


def test_status(call):
    entry = {"version": "7", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
    assert call("GET", "/v1/models/hqgnn") == (200, {"model_version_status": [entry]})
    assert call("GET", "/v1/models/hqgnn/versions/7") == (200, {"model_version_status": [entry]})
    assert call("GET", "/v1/models/x") == (404, {"error": "Could not find any versions of model x"})
    assert call("GET", "/v1/models") == (400, {"error": "Missing model name in request."})
    assert call("DELETE", "/v1/models/hqgnn") == (400, {"error": "Malformed request: DELETE /v1/models/hqgnn"})


def test_metadata(call):
    status, answer = call("GET", "/v1/models/hqgnn/metadata")
    assert status == 200
    assert answer["model_spec"] == {"name": "hqgnn", "signature_name": "", "version": "7"}
    recommend = answer["metadata"]["signature_def"]["signature_def"]["recommend"]
    assert recommend["inputs"]["k"]["dtype"] == "DT_INT32"
    assert recommend["inputs"]["user_id"]["tensor_shape"]["dim"] == [{"size": "-1", "name": ""}]
    assert call("GET", "/v1/models/x/metadata")[0] == 404


def samples(server, path="/monitoring/prometheus/metrics"):
    with urllib.request.urlopen(f"http://127.0.0.1:{server.rest_port}{path}", timeout=30) as response:
        assert response.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        text = response.read().decode()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_prometheus_counts_what_was_asked(export_dir):
    with Server(export_dir, grpc_port=0, rest_port=0) as server:
        with Client(f"127.0.0.1:{server.grpc_port}") as client:
            for _ in range(3):
                client.recommend(["a", "b"])
            for name in ("x", "y"):
                with pytest.raises(InputError):
                    client.recommend(["a"], model=name)
        request = urllib.request.Request(
            f"http://127.0.0.1:{server.rest_port}/v1/models/hqgnn:predict",
            b'{"instances": ["a"]}',
            {"Content-Type": "application/json"},
        )
        urllib.request.urlopen(request, timeout=30).close()
        found = samples(server)
    prefix = ":tensorflow:serving:"
    count = f"{prefix}request_count_total"
    assert found[count, (("model_name", "hqgnn"), ("status", "OK"))] == 4
    # Names that clients make up don't become labels.
    assert found[count, (("model_name", ""), ("status", "NOT_FOUND"))] == 2
    for entrypoint, number in (("GRPC", 3), ("REST", 1)):
        labels = (("API", "Predict"), ("entrypoint", entrypoint), ("model_name", "hqgnn"))
        assert found[f"{prefix}request_latency_count", labels] == number
    assert found[f"{prefix}batching:processed_batch_size_sum", (("model_name", "hqgnn"),)] == 7
    path = (("model_path", str(export_dir / "hqgnn" / "1")),)
    attempts = ":tensorflow:cc:saved_model:load_attempt_count_total"
    assert found[attempts, (*path, ("status", "success"))] == 1


def test_the_metrics_are_where_the_monitoring_config_wants_them(export_dir):
    for path, other in (("/m", "/monitoring/prometheus/metrics"), (None, "/monitoring/prometheus/metrics")):
        with Server(export_dir, grpc_port=0, rest_port=0, metrics_path=path) as server:
            if path is not None:
                assert samples(server, path)
            with pytest.raises(urllib.error.HTTPError, match="404"):
                samples(server, other)


def test_a_call_that_takes_too_long_is_504(call, monkeypatch):
    monkeypatch.setattr(rest, "REQUEST_SECONDS", 0.0)
    assert predict(call, {"instances": ["a"]}) == (
        504,
        {"error": "the deadline passed before the request was run"},
    )


def test_more_calls_at_once_than_there_is_memory_for_are_503_and_counted_and_status_is_answered(
    call, shared_server, monkeypatch
):
    begun, gate = threading.Event(), threading.Event()
    run = Signature.run

    def held(signature, arrays):
        begun.set()
        assert gate.wait(60)
        return run(signature, arrays)

    labels = (("model_name", "hqgnn"), ("status", "UNAVAILABLE"))
    before = samples(shared_server).get((":tensorflow:serving:request_count_total", labels), 0)
    monkeypatch.setattr(rest, "MAX_UNDER_WAY", 1)
    monkeypatch.setattr(Signature, "run", held)
    with futures.ThreadPoolExecutor(1) as pool:
        first = pool.submit(predict, call, {"instances": ["a"]})
        begun.wait(60)
        assert predict(call, {"instances": ["a"]}) == (503, {"error": "1 requests are under way: try again later"})
        assert call("GET", "/v1/models/hqgnn")[0] == 200
        assert samples(shared_server)[":tensorflow:serving:request_count_total", labels] == before + 1
        gate.set()
        assert first.result()[0] == 200
