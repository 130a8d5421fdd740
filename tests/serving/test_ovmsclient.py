"""OpenVINO's client for TF Serving, in its own environment (`make setup` makes it): gRPC and REST."""

import json
import subprocess
from pathlib import Path

PYTHON = Path(__file__).parents[2] / ".venv-clients" / "bin" / "python"

SCRIPT = """
import json, sys
import numpy as np
from ovmsclient import make_grpc_client, make_http_client
from ovmsclient.tfs_compat.base.errors import InvalidInputError, ModelNotFoundError

def error(call):
    try:
        call()
    except (InvalidInputError, ModelNotFoundError) as caught:
        return type(caught).__name__
    return None

report = {}
for kind, client in (("grpc", make_grpc_client(sys.argv[1])), ("http", make_http_client(sys.argv[2]))):
    outputs = client.predict({"user_id": np.array([b"a", b"new"])}, "hqgnn")
    metadata = client.get_model_metadata("hqgnn")
    # Of TF Serving's REST answer it makes nothing, and hands it over as it came.
    signatures = {} if kind == "grpc" else metadata["metadata"]["signature_def"]["signature_def"]
    signature = signatures.get("serving_default", metadata)
    report[kind] = {
        "items": [[item.decode() if isinstance(item, bytes) else item for item in row] for row in outputs["item_id"]],
        "scores": np.asarray(outputs["score"]).tolist(),
        "known": np.asarray(outputs["known_user"]).tolist(),
        "status": {str(version): entry["state"] for version, entry in client.get_model_status("hqgnn").items()},
        "dtype": signature["inputs"]["user_id"]["dtype"],
        "unknown model": error(lambda: client.predict({"user_id": np.array([b"a"])}, "x")),
        "wrong type": error(lambda: client.predict({"user_id": np.array([1.5])}, "hqgnn")),
        "wrong version": error(lambda: client.predict({"user_id": np.array([b"a"])}, "hqgnn", 99)),
    }
print(json.dumps(report))
"""


def test_ovmsclient_asks_over_grpc_and_rest(shared_server):
    assert PYTHON.exists(), f"{PYTHON} is missing: `make setup` makes it from tests/clients/requirements.lock"
    addresses = [f"127.0.0.1:{port}" for port in (shared_server.grpc_port, shared_server.rest_port)]
    done = subprocess.run([PYTHON, "-c", SCRIPT, *addresses], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    expected = {
        "items": [["100-0", "100-1", "100-2"]] * 2,
        "scores": [[100.0, 99.0, 98.0]] * 2,
        "known": [True, False],
        "status": {"7": "AVAILABLE"},
        "dtype": "DT_STRING",
        "unknown model": "ModelNotFoundError",
        "wrong type": "InvalidInputError",
        "wrong version": "ModelNotFoundError",
    }
    assert json.loads(done.stdout) == {"grpc": expected, "http": expected}
