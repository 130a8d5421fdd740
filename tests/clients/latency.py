"""Measures `recommend` from Python, Java, C and Go in one run: `python tests/clients/latency.py [CALLS]`.

Prints the median of so many calls (300) for one user and for 64, k = 10, of a model of 41,000 items in 64 columns of 8
bits: in the client's own process, its tensors made before, and by gRPC from a local server.
"""

import sys
import tempfile
from pathlib import Path
from time import perf_counter

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tf_hqgnn.config import ExportConfig  # isort: skip  (before TensorFlow)

import grpc
import tensorflow as tf
from client_programs import build_c, build_go, build_java, build_java_grpc, java_sources, make_go_module, run
from exchange import read_answers, write_requests
from export_oracle import to_csr
from java_parts import HERE, PARTS
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from tf_hqgnn.export.bundle import ServingBundle, export_exact
from tf_hqgnn.quantization.codes import Codes
from tf_hqgnn.serving.server import Server

USERS, ITEMS, COLUMNS = 2_000, 41_000, 64


def make_bundle():
    rng = np.random.default_rng(0)
    users, items = (rng.normal(size=(size, COLUMNS)).astype(np.float32) for size in (USERS, ITEMS))
    return ServingBundle(
        user_ids=np.array([f"u{row}" for row in range(USERS)], object),
        item_ids=np.array([f"i{row}" for row in range(ITEMS)], object),
        users=Codes.quantize(users, num_bits=8),
        items=Codes.quantize(items, num_bits=8),
        seen=to_csr([rng.choice(ITEMS, 20, replace=False) for _ in range(USERS)]),
        item_popularity=rng.integers(1, 100, ITEMS).astype(np.float32),
        hop_map=np.eye(COLUMNS, dtype=np.float32),
    )


def request(batch):
    users = np.array([f"u{row}".encode() for row in range(batch)], object)
    nothing = {"exclude_item_id": np.array([[b""]], object), "category": np.array([b""], object)}
    return {"user_id": users, "k": np.array(10, np.int32), **nothing}


def median_ms(call, calls):
    for _ in range(50):
        call()
    ms = []
    for _ in range(calls):
        start = perf_counter()
        call()
        ms.append(1000 * (perf_counter() - start))
    return float(np.median(ms))


def of_program(command, folder, calls):
    write_requests(folder / "requests.txt", [("recommend", request(batch)) for batch in (1, 64)])
    run([*command, folder / "requests.txt", folder / "answers.txt", "--bench", calls])
    return [answer.ms for answer in read_answers(folder / "answers.txt")]


def of_python(version, calls):
    function = tf.saved_model.load(str(version)).signatures["recommend"]
    inputs = [{name: tf.constant(value) for name, value in request(batch).items()} for batch in (1, 64)]
    return [median_ms(lambda one=one: function(**one), calls) for one in inputs]


def of_python_grpc(port, calls):
    found = []
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        for batch in (1, 64):
            asked = predict_pb2.PredictRequest()
            asked.model_spec.name, asked.model_spec.signature_name = "hqgnn", "recommend"
            for name, value in request(batch).items():
                asked.inputs[name].CopyFrom(tf.make_tensor_proto(value))
            found.append(median_ms(lambda asked=asked: stub.Predict(asked, timeout=60), calls))
    return found


def main():
    calls = int(sys.argv[1]) if len(sys.argv) > 1 else 300
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        version = export_exact(make_bundle(), folder / "export", ExportConfig(), version=1)
        print("client                 | 1 user, ms | 64 users, ms")
        programs = {"C": [build_c(HERE / "c" / "client.c", folder)]}
        for part in PARTS:
            if part.startswith("tensorflow"):
                programs[f"Java {part}"] = build_java(java_sources("SavedModelClient"), part, folder / part)
        show("Python", of_python(version, calls))
        for client, command in programs.items():
            show(client, of_program([*command, version], folder, calls))
        (folder / "java").mkdir()
        (folder / "go").mkdir()
        by_grpc = {
            "Java, gRPC": build_java_grpc(folder / "java"),
            "Go, gRPC": [build_go(make_go_module(folder / "go"))],
        }
        with Server(folder / "export", grpc_port=0, rest_port=None) as server:
            show("Python, gRPC", of_python_grpc(server.grpc_port, calls))
            for client, command in by_grpc.items():
                show(client, of_program([*command, f"127.0.0.1:{server.grpc_port}", "hqgnn"], folder, calls))


def show(client, found):
    print(f"{client:22} | {found[0]:10.2f} | {found[1]:12.2f}", flush=True)


if __name__ == "__main__":
    main()
