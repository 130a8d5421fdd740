"""The REST interface with nothing but the standard library as client."""

import http.client
import json
import math
import shutil
import socket
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


def wire(server, request):
    """[(status, headers, body)] of what is sent as it is and answered until the server or the client ends."""
    with socket.create_connection(("127.0.0.1", server.rest_port), timeout=60) as client:
        client.sendall(request)
        client.shutdown(socket.SHUT_WR)
        content = b"".join(iter(lambda: client.recv(1 << 16), b""))
    answers = []
    while content:
        head, _, content = content.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines)
        length = 0 if request.startswith(b"HEAD") else int(headers["Content-Length"])
        answers.append((int(first.split()[1]), headers, content[:length]))
        content = content[length:]
    return answers


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "TRACE", "PUT", "PATCH", "DELETE", "CONNECT", "BREW", "get"])
@pytest.mark.parametrize("path", ["/v1/models/hqgnn:predict", "/v1", "/v1/", "/v1/models/", "/", "*", "//", "/metrics"])
def test_errors_are_always_json_of_one_form(shared_server, method, path):
    [(status, headers, body)] = wire(shared_server, f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    assert status == (400 if path.startswith("/v1") else 404)
    assert headers["Content-Type"] == "application/json"
    if method == "HEAD":
        assert body == b""
        assert int(headers["Content-Length"]) > 0
    else:
        assert list(json.loads(body)) == ["error"]


def test_head_is_get_without_its_body(shared_server):
    for path in ("/v1/models/hqgnn", "/monitoring/prometheus/metrics"):
        [(status, headers, body)] = wire(shared_server, f"HEAD {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        assert (status, body) == (200, b"")
        assert int(headers["Content-Length"]) > 100


@pytest.mark.parametrize("prefix", ["http://localhost:1", "http://localhost", "HTTPS://LOCALHOST"])
def test_absolute_uris_are_taken_and_their_host_counts(shared_server, prefix):
    [(status, _, body)] = wire(
        shared_server, f"GET {prefix}/v1/models/hqgnn?a=b HTTP/1.1\r\nHost: evil.example\r\n\r\n".encode()
    )
    assert status == 200
    assert b"AVAILABLE" in body
    [(status, _, _)] = wire(
        shared_server, b"GET http://evil.example/v1/models/hqgnn HTTP/1.1\r\nHost: localhost\r\n\r\n"
    )
    assert status == 403


def test_http_1_0_with_keep_alive_as_apache_bench_sends_it(shared_server):
    request = b"GET /v1/models/hqgnn HTTP/1.0\r\nConnection: Keep-Alive\r\nHost: localhost\r\n\r\n"
    answers = wire(shared_server, request * 3)
    assert [(status, headers["Connection"]) for status, headers, _ in answers] == [(200, "keep-alive")] * 3


def post(server, *headers, host="localhost"):
    body = b'{"instances": ["a"]}'
    lines = ["POST /v1/models/hqgnn:predict HTTP/1.1", f"Host: {host}", f"Content-Length: {len(body)}", *headers]
    [(status, _, answer)] = wire(server, "\r\n".join(lines).encode() + b"\r\n\r\n" + body)
    return status, json.loads(answer)


JSON = "Content-Type: application/json"


@pytest.mark.parametrize(
    "host", ["localhost", "LocalHost:8501", "127.0.0.1", "127.1.2.3:80", "[::1]", "[::1]:1", "a.localhost."]
)
def test_on_loopback_its_names_are_served(shared_server, host):
    assert post(shared_server, JSON, host=host)[0] == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8501",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "0.0.0.0",
        "10.0.0.1",
        "[::2]",
        "localhost:8501:1",
        "[::1",
        "localhost@evil.example",
        "",
    ],
)
def test_on_loopback_other_names_are_not_which_a_web_page_could_have_lead_here(shared_server, host):
    status, answer = post(shared_server, JSON, host=host)
    assert status == 403
    assert "isn't served here" in answer["error"]
    for path in ("/v1/models/hqgnn", "/monitoring/prometheus/metrics"):
        [(status, _, _)] = wire(shared_server, f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        assert status == 403


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ([JSON], 200),
        (["content-type: Application/JSON; charset=utf-8"], 200),
        (["Content-Type: application/vnd.api+json"], 200),
        ([], 200),
        (["Origin: http://evil.example"], 415),
        (["Content-Type: text/plain"], 415),
        (["Content-Type: text/plain;application/json"], 415),
        (["Content-Type: application/x-www-form-urlencoded"], 415),
        (["Content-Type: multipart/form-data; boundary=application/json"], 415),
        (["Content-Type: "], 415),
        (["Content-Type: application/json", "Content-Type: text/plain"], 415),
    ],
)
def test_bodies_must_be_said_to_be_json(shared_server, headers, status):
    """What a web page can send without asking the server first is exactly what isn't JSON."""
    found, answer = post(shared_server, *headers)
    assert found == status
    if status == 415:
        assert answer["error"].startswith("expected the header Content-Type: application/json, got ")


def test_allowed_hosts_are_served_beside_loopback(export_dir):
    with Server(export_dir, grpc_port=None, rest_port=0, allowed_hosts=["Recommend.Example"]) as server:
        for host, status in (("recommend.example:80", 200), ("localhost", 200), ("evil.example", 403)):
            assert post(server, JSON, host=host)[0] == status


def test_elsewhere_than_on_loopback_every_name_is_served_unless_some_are_named(export_dir):
    for names, status in (((), 200), (("recommend.example",), 403)):
        with Server(export_dir, host="0.0.0.0", grpc_port=None, rest_port=0, allowed_hosts=names) as server:
            assert post(server, JSON, host="any.example")[0] == status


def test_a_wrong_name_of_a_host_is_explained(export_dir):
    with pytest.raises(
        InputError, match=r"--allowed-hosts: expected host names without scheme and port, got 'http://a'"
    ):
        Server(export_dir, allowed_hosts=["http://a"])


SHOP = "https://shop.example"


@pytest.fixture(scope="module")
def open_to_a_shop(saved_models, tmp_path_factory):
    """A server that the pages of `SHOP` may call."""
    out = tmp_path_factory.mktemp("shop") / "export"
    shutil.copytree(saved_models[100], out / "hqgnn" / "1")
    with Server(out, grpc_port=None, rest_port=0, allowed_origins=[SHOP]) as server:
        yield server


def of_page(server, request, origin, *headers, body=b""):
    lines = [f"{request} HTTP/1.1", "Host: localhost", f"Origin: {origin}", f"Content-Length: {len(body)}", *headers]
    [(status, found, answer)] = wire(server, "\r\n".join(lines).encode() + b"\r\n\r\n" + body)
    return status, {name: value for name, value in found.items() if name.startswith("Access-Control")}, answer


def test_pages_of_an_allowed_origin_may_ask_first_and_read_answers(open_to_a_shop):
    asked = ("Access-Control-Request-Method: POST", "Access-Control-Request-Headers: content-type")
    status, found, body = of_page(open_to_a_shop, "OPTIONS /v1/models/hqgnn:predict", SHOP, *asked)
    assert (status, body) == (200, b"")
    assert found["Access-Control-Allow-Origin"] == SHOP
    assert "POST" in found["Access-Control-Allow-Methods"].split(", ")
    assert "Content-Type" in found["Access-Control-Allow-Headers"].split(", ")
    for request, asked, code in (
        ("POST /v1/models/hqgnn:predict", b'{"instances": ["a"]}', 200),
        ("POST /v1/models/hqgnn:predict", b"{", 400),
        ("GET /v1/models/nothing", b"", 404),
    ):
        status, found, body = of_page(open_to_a_shop, request, SHOP, JSON, body=asked)
        assert (status, found) == (code, {"Access-Control-Allow-Origin": SHOP})
        assert json.loads(body)


def test_other_pages_are_told_nothing(open_to_a_shop, shared_server):
    call = "POST /v1/models/hqgnn:predict"
    for origin in ("https://evil.example", "null", "https://shop.example.evil"):
        assert of_page(open_to_a_shop, "OPTIONS /v1/models/hqgnn:predict", origin)[1] == {}
        assert of_page(open_to_a_shop, call, origin, JSON, body=b'{"instances": ["a"]}')[1] == {}
    # A page may send a text without asking first: that is refused from whatever origin.
    assert of_page(open_to_a_shop, call, SHOP, "Content-Type: text/plain", body=b"{}")[:2] == (
        415,
        {"Access-Control-Allow-Origin": SHOP},
    )
    assert of_page(shared_server, "OPTIONS /v1/models/hqgnn:predict", SHOP)[:2] == (400, {})
    assert of_page(shared_server, call, SHOP, JSON, body=b'{"instances": ["a"]}')[:2] == (200, {})


@pytest.mark.parametrize("origin", ["shop.example", "https://shop.example/", "ftp://a", "null", ""])
def test_a_wrong_origin_is_explained(export_dir, origin):
    with pytest.raises(InputError, match="expected scheme and host of a page, such as https:"):
        Server(export_dir, allowed_origins=[origin])


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
        labels = (("model_name", "hqgnn"), ("signature_name", "recommend" if number == 3 else "serving_default"))
        assert found[":tf_hqgnn:serving:signature_latency_count", labels] == number
    assert len([name for name, _ in found if name == ":tf_hqgnn:serving:signature_latency_count"]) == 2
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
