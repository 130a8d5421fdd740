"""min-tfs-client and the official stubs that it brings, in an environment without TensorFlow (`make test` makes it)."""

import json
import subprocess
from pathlib import Path

PYTHON = Path(__file__).parents[2] / ".venv-min-tfs-client" / "bin" / "python"

SCRIPT = """
import json, sys
import grpc, numpy as np
from min_tfs_client.requests import TensorServingClient
from min_tfs_client.tensors import ndarray_to_tensor_proto, tensor_proto_to_ndarray
from tensorflow_serving.apis.predict_pb2 import PredictRequest
from tensorflow_serving.apis.prediction_service_pb2_grpc import PredictionServiceStub

def rows(response):
    return {name: np.asarray(tensor_proto_to_ndarray(value)).tolist() for name, value in response.outputs.items()}

def text(values):
    return [[value.decode() if isinstance(value, bytes) else str(value) for value in row] for row in values]

host, port = sys.argv[1].split(":")
client = TensorServingClient(host=host, port=int(port))
answer = rows(client.predict_request("hqgnn", {"user_id": np.array(["a", "new"])}, model_version=7))
report = {"items": text(answer["item_id"]), "scores": answer["score"], "known": answer["known_user"]}
try:
    client.predict_request("hqgnn", {"user_id": np.array(["a"])}, model_version=99)
except grpc.RpcError as error:
    report["wrong version"] = error.code().name

request = PredictRequest()
request.model_spec.name, request.model_spec.signature_name = "hqgnn", "recommend"
request.output_filter.extend(["item_id", "num_valid"])
asked = {"user_id": np.array(["a"]), "k": np.array(2, np.int32), "exclude_item_id": np.array([["100-0"]])}
for name, value in {**asked, "category": np.array([""])}.items():
    request.inputs[name].CopyFrom(ndarray_to_tensor_proto(value))
answer = rows(PredictionServiceStub(grpc.insecure_channel(sys.argv[1])).Predict(request, 30))
report["recommend"] = {"names": sorted(answer), "items": text(answer["item_id"]), "valid": answer["num_valid"]}
print(json.dumps(report))
"""


def test_min_tfs_client_and_the_official_stubs(shared_server):
    assert PYTHON.exists(), f"{PYTHON} is missing: `make test` makes it from tests/clients/min-tfs-client.lock"
    address = f"127.0.0.1:{shared_server.grpc_port}"
    done = subprocess.run([PYTHON, "-c", SCRIPT, address], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "items": [["100-0", "100-1", "100-2"]] * 2,
        "scores": [[100.0, 99.0, 98.0]] * 2,
        "known": [True, False],
        "wrong version": "NOT_FOUND",
        "recommend": {"names": ["item_id", "num_valid"], "items": [["100-1", ""]], "valid": [1]},
    }
