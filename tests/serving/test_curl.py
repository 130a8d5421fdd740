"""curl as the client of the REST interface, as a shell script would use it."""

import json
import shutil
import subprocess

import pytest

pytestmark = pytest.mark.skipif(shutil.which("curl") is None, reason="curl isn't installed")

JSON = ("--header", "Content-Type: application/json")


def curl(port, path, *options):
    """`(status, body)`."""
    command = ["curl", "--silent", "--max-time", "30", "--write-out", "\n%{http_code}", *options]
    done = subprocess.run(
        [*command, f"http://127.0.0.1:{port}{path}"], capture_output=True, text=True, check=True, timeout=60
    )
    body, _, status = done.stdout.rpartition("\n")
    return int(status), body


def test_rows_and_columns(shared_server):
    port = shared_server.rest_port
    status, body = curl(port, "/v1/models/hqgnn:predict", *JSON, "--data", '{"instances": [{"user_id": "a"}]}')
    assert status == 200
    (prediction,) = json.loads(body)["predictions"]
    assert prediction["item_id"] == ["100-0", "100-1", "100-2"]
    asked = {"user_id": ["a", "new"], "k": 2, "exclude_item_id": [["100-0"], [""]], "category": ["", ""]}
    request = json.dumps({"signature_name": "recommend", "inputs": asked})
    status, body = curl(port, "/v1/models/hqgnn/versions/7:predict", *JSON, "--data", request)
    assert (status, json.loads(body)["outputs"]["num_valid"]) == (200, [1, 2])


def test_a_body_that_is_sent_in_pieces_and_compressed_connections_that_stay_open(shared_server, tmp_path):
    """`--data` of a file waits for `100 Continue` when it is large, and two addresses share a connection."""
    users = ["a"] * 400
    (tmp_path / "request.json").write_text(json.dumps({"instances": [{"user_id": user} for user in users]}))
    port = shared_server.rest_port
    options = [*JSON, "--header", "Expect: 100-continue", "--data", f"@{tmp_path / 'request.json'}"]
    status, body = curl(port, "/v1/models/hqgnn:predict", *options)
    assert (status, len(json.loads(body)["predictions"])) == (200, len(users))
    chunked = [*JSON, "--header", "Transfer-Encoding: chunked", "--data", f"@{tmp_path / 'request.json'}"]
    status, body = curl(port, "/v1/models/hqgnn:predict", *chunked)
    assert (status, len(json.loads(body)["predictions"])) == (200, len(users))


def test_status_metadata_metrics_and_errors(shared_server):
    port = shared_server.rest_port
    status, body = curl(port, "/v1/models/hqgnn")
    assert (status, json.loads(body)["model_version_status"][0]["state"]) == (200, "AVAILABLE")
    status, body = curl(port, "/v1/models/hqgnn/metadata")
    assert (status, "signature_def" in json.loads(body)["metadata"]) == (200, True)
    status, body = curl(port, "/monitoring/prometheus/metrics")
    assert (status, "# TYPE" in body) == (200, True)
    status, body = curl(port, "/v1/models/nothing:predict", *JSON, "--data", '{"instances": ["a"]}')
    assert (status, "nothing" in json.loads(body)["error"]) == (404, True)
    status, body = curl(port, "/v1/models/hqgnn:predict", *JSON, "--data", "{")
    assert (status, "error" in json.loads(body)) == (400, True)
