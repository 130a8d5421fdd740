"""What the local server adds to its model: `python -m benchmarks.serving --export DIR`.

Clients are coroutines of another process, each of which asks again as soon as it has its answer. The bare model is
`tf.saved_model.load(..).signatures["recommend"]` in the server's process, called by as many threads, arrays in and out.
The two take turns, and each figure is the median of the rounds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import grpc
import numpy as np

from benchmarks.timing import describe_run
from tf_hqgnn.export.layout import EXACT_MODEL
from tf_hqgnn.export.loading import load_saved_model
from tf_hqgnn.serving.directory import find_versions
from tf_hqgnn.serving.server import Server
from tf_hqgnn.serving.tensors import encode_tensor

import tensorflow as tf  # isort: skip  The package comes first, it chooses Keras 2.
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc  # isort: skip

CLIENTS = (1, 8, 64)
K = 10
Inputs = dict[str, np.ndarray]


def question(number: int) -> Inputs:
    """One user; ids that are unknown ask for as much work."""
    user = np.array([str(number % 900 + 1).encode()], object)
    return {"user_id": user, "k": np.array(K, np.int32), "exclude_item_id": np.array([[b"1"]], object)}


def bare_call(path: Path, extra: Inputs) -> Callable[[int], object]:
    """A call of the model, as a program that imports it would do it."""
    root = load_saved_model(path)

    def call(number: int) -> dict[str, np.ndarray]:
        inputs = {**question(number), **extra}
        outputs = root.signatures["recommend"](**{name: tf.constant(array) for name, array in inputs.items()})
        return {name: tensor.numpy() for name, tensor in outputs.items()}

    return call


def in_threads(call: Callable[[int], object], clients: int, seconds: float) -> list[float]:
    """Seconds of each call."""
    durations: list[float] = []
    stop = time.perf_counter() + seconds

    def ask(number: int) -> None:
        while (start := time.perf_counter()) < stop:
            call(number)
            durations.append(time.perf_counter() - start)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return durations


def ask_over_grpc(address: str, clients: int, seconds: float, extra: Inputs) -> list[float]:
    """Seconds of each call, in the client's process."""
    requests = []
    for number in range(clients):
        request = predict_pb2.PredictRequest()
        request.model_spec.name, request.model_spec.signature_name = EXACT_MODEL, "recommend"
        for name, array in {**question(number), **extra}.items():
            encode_tensor(array, request.inputs[name])
        requests.append(request)
    if clients == 1:
        with grpc.insecure_channel(address) as channel:
            predict = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict
            predict(requests[0], wait_for_ready=True)
            return in_threads(lambda _: predict(requests[0]), 1, seconds)
    durations: list[float] = []

    async def ask_all() -> None:
        async with grpc.aio.insecure_channel(address) as channel:
            predict = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict
            await predict(requests[0], wait_for_ready=True)
            stop = time.perf_counter() + seconds

            async def ask(request: predict_pb2.PredictRequest) -> None:
                while (start := time.perf_counter()) < stop:
                    await predict(request)
                    durations.append(time.perf_counter() - start)

            await asyncio.gather(*map(ask, requests))

    asyncio.run(ask_all())
    return durations


def summary(durations: list[float], seconds: float) -> np.ndarray:
    """p50 and p99 in milliseconds, calls a second."""
    return np.array([*np.percentile(durations, [50, 99]) * 1e3, len(durations) / seconds])


def measure(export: Path, seconds: float, rounds: int) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """Of each number of clients, the summary of the bare model and of the server."""
    version = next(iter(find_versions(export / EXACT_MODEL).values()))
    wanted = load_saved_model(version).signatures["recommend"].structured_input_signature[1]
    extra: Inputs = {"category": np.array([b""], object)} if "category" in wanted else {}
    call = bare_call(version, extra)
    for number in range(200):
        call(number)
    found: dict[int, tuple[list[np.ndarray], list[np.ndarray]]] = {clients: ([], []) for clients in CLIENTS}
    with Server(export, grpc_port=0, rest_port=0) as server:
        for _ in range(rounds):
            for clients in CLIENTS:
                found[clients][0].append(summary(in_threads(call, clients, seconds), seconds))
                command = [sys.executable, "-m", "benchmarks.serving", "--client", f"127.0.0.1:{server.grpc_port}"]
                command += ["--clients", str(clients), "--seconds", str(seconds), "--extra", ",".join(extra)]
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                found[clients][1].append(np.array(json.loads(done.stdout)))
    return {clients: (np.median(bare, 0), np.median(served, 0)) for clients, (bare, served) in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--export", type=Path, help="an export directory, with hqgnn/<version>")
    parser.add_argument("--seconds", type=float, default=3.0, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--client", help=argparse.SUPPRESS)
    parser.add_argument("--clients", type=int, default=1, help=argparse.SUPPRESS)
    parser.add_argument("--extra", default="", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.client:
        extra = {name: np.array([b""], object) for name in options.extra.split(",") if name}
        durations = ask_over_grpc(options.client, options.clients, options.seconds, extra)
        print(json.dumps(summary(durations, options.seconds).tolist()))
        return
    if options.export is None:
        parser.error("--export is needed: a directory that `tf-hqgnn export` wrote")
    print(describe_run("benchmarks.serving"))
    found = measure(options.export, options.seconds, options.rounds)
    print(f"{'':>7}  {'bare model':^27}  {'server, gRPC':^27}  server")
    print("clients   p50 ms   p99 ms   calls/s   p50 ms   p99 ms   calls/s  adds ms  throughput of bare")
    for clients, (bare, served) in found.items():
        cells = "  ".join(f"{p50:7.2f}  {p99:7.2f}  {rate:8.0f}" for p50, p99, rate in (bare, served))
        print(f"{clients:7d}  {cells}  {served[0] - bare[0]:7.2f}  {served[2] / bare[2]:17.0%}")


if __name__ == "__main__":
    main()
