"""One client that asks for as much as it may, beside others: `python -m benchmarks.hostile`.

The server holds 1,000,000 items of 64 dimensions in 8 bits. Printed are the peak of its memory, which has to stay
within 2 GiB, and the latency of a polite client, alone and beside the hostile one; its p99 has to stay within a second.
"""

from __future__ import annotations

import argparse
import http.client
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import grpc
import numpy as np

from benchmarks.served import CATEGORIES, ServerProcess, write_version
from benchmarks.timing import describe_run
from tf_hqgnn.serving.limits import Limits
from tf_hqgnn.serving.tensors import encode_tensor
from tf_hqgnn.types import Array

from tensorflow.core.framework import types_pb2  # isort: skip
from tensorflow_serving.apis import predict_pb2  # isort: skip

LIMITS = Limits()
LARGEST_MESSAGE = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]


def _request(signature: str, **inputs: Array) -> bytes:
    request = predict_pb2.PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = "hqgnn", signature
    for name, array in inputs.items():
        encode_tensor(array, request.inputs[name])
    return request.SerializeToString()


def _ids(texts: list[str]) -> Array:
    array = np.empty(len(texts), object)
    array[:] = [text.encode() for text in texts]
    return array


def hostile_requests(num_items: int) -> dict[str, bytes]:
    """The largest that the limits allow, of each kind, and some beyond them."""
    rows, k = LIMITS.rows, LIMITS.answers // LIMITS.rows
    wide = LIMITS.values // 256
    users = _ids([f"u{number % 200}" for number in range(rows)])
    nothing, any_category = np.full((rows, 1), b"", object), _ids([""] * rows)
    lists = np.array([[f"i{(7 * a + b) % num_items}".encode() for b in range(wide)] for a in range(256)], object)
    some = _ids(["nobody", *(f"u{number % 200}" for number in range(255))])
    categories = _ids([CATEGORIES[0]] + [""] * 255)
    small = np.array(10, np.int32)
    filled = predict_pb2.PredictRequest()
    filled.model_spec.name = "hqgnn"
    filled.inputs["user_id"].dtype = types_pb2.DT_STRING
    for _ in range(2):
        filled.inputs["user_id"].tensor_shape.dim.add(size=4096)
    filled.inputs["user_id"].string_val.append(b"x")
    wishes = {"exclude_item_id": nothing, "category": any_category}
    return {
        "many rows, many answers": _request("recommend", user_id=users, k=np.array(k, np.int32), **wishes),
        "unknown users": _request("recommend", user_id=_ids(["x"] * rows), k=np.array(k, np.int32), **wishes),
        "a category for all": _request(
            "recommend", user_id=users, k=small, exclude_item_id=nothing, category=_ids([CATEGORIES[1]] * rows)
        ),
        "a category for one": _request(
            "recommend", user_id=some, k=small, exclude_item_id=nothing[:256], category=categories
        ),
        "many exclusions": _request("recommend", user_id=some, k=small, exclude_item_id=lists, category=categories),
        "long histories": _request(
            "recommend_for_history", history_item_id=lists, k=small, exclude_item_id=nothing[:256], category=categories
        ),
        "the largest k": _request(
            "recommend",
            user_id=users[:64],
            k=np.array(LIMITS.answers // 64, np.int32),
            exclude_item_id=nothing[:64],
            category=any_category[:64],
        ),
        "a shape of 16 million": filled.SerializeToString(),
        "a message as large as may be": _request("", user_id=_ids(["x" * (LIMITS.message_bytes // 4200)] * rows)),
    }


def attack(ports: tuple[int, int], num_items: int) -> None:
    """Asks all that is hostile, four at a time, until the process is ended."""
    body = b'{"x": [' + b"0," * (LIMITS.message_bytes // 2 - 100) + b'0], "instances": ["a"]}'

    def over_rest() -> None:
        while True:
            connection = http.client.HTTPConnection("127.0.0.1", ports[1], timeout=120)
            connection.request("POST", "/v1/models/hqgnn:predict", body, {"Content-Type": "application/json"})
            connection.getresponse().read()
            connection.close()

    def over_grpc(first: int) -> None:
        with grpc.insecure_channel(f"127.0.0.1:{ports[0]}", LARGEST_MESSAGE) as channel:
            call = channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
            requests = list(hostile_requests(num_items).items())
            for number in range(first, sys.maxsize):
                name, content = requests[number % len(requests)]
                try:
                    call(content, timeout=300)
                    code = "OK"
                except grpc.RpcError as error:
                    code = error.code().name
                print(f"{name}: {code}", flush=True)

    threads = [threading.Thread(target=over_rest)] + [threading.Thread(target=over_grpc, args=(n,)) for n in (0, 3, 6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def latencies(port: int, seconds: float) -> Array:
    """Milliseconds of calls for one user, 20 a second at most."""
    found = []
    content = _request("recommend", user_id=_ids(["u1"]), k=np.array(10, np.int32),
                       exclude_item_id=np.array([[b""]], object), category=_ids([""]))  # fmt: skip
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
        stop = time.monotonic() + seconds
        while (start := time.monotonic()) < stop:
            call(content, timeout=120)
            found.append((time.monotonic() - start) * 1e3)
            time.sleep(max(0.0, start + 0.05 - time.monotonic()))
    return np.array(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--attack", nargs=2, type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.attack:
        attack(tuple(options.attack), options.items)
    print(describe_run("benchmarks.hostile"))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_version(folder / "export", 1, seed=0, items=options.items, dim=64)
        with ServerProcess(folder / "export", folder / "log") as server:
            latencies(server.grpc_port, 3)
            print(f"before: {server.usage().memory:,.0f} MiB")
            alone = latencies(server.grpc_port, options.seconds / 4)
            command = [sys.executable, "-m", "benchmarks.hostile", "--items", str(options.items), "--attack"]
            command += [str(server.grpc_port), str(server.rest_port)]
            with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
                try:
                    beside = latencies(server.grpc_port, options.seconds)
                finally:
                    other.kill()
                answers = (other.stdout.read() if other.stdout is not None else "").splitlines()
            for when, found in (("alone", alone), ("beside a hostile client", beside)):
                p50, p99 = np.percentile(found, [50, 99])
                print(
                    f"{when}: p50 {p50:,.0f} ms, p99 {p99:,.0f} ms, highest {found.max():,.0f} ms, {len(found)} calls"
                )
            print(f"peak: {server.peak_memory():,.0f} MiB; hostile answers: {len(answers)}")
            for answer in sorted(set(answers)):
                print(f"  {answers.count(answer):4d} {answer}")
            print(f"faults in the log: {server.faults()}")


if __name__ == "__main__":
    main()
