"""A server under mixed load for a long time: `python -m benchmarks.soak --seconds 3600`, also `make soak`.

64 clients ask all signatures over gRPC and REST, each as soon as it has its answer; a new version appears every minute
and old ones are deleted; every second a client dies in the middle of a request. Every answer is compared with that of
the SavedModel it came from, no request may fail except where the queue is full (UNAVAILABLE, 503), and memory,
threads and open files stay within a tenth. Then versions are loaded one after the other, and nothing may grow either.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import http.client
import json
import random
import shutil
import socket
import struct
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import numpy as np

from benchmarks.served import CATEGORIES, ITEMS, USERS, ServerProcess, Usage, write_version
from tf_hqgnn.export.warmup import write_warmup
from tf_hqgnn.serving.loader import load_version
from tf_hqgnn.serving.tensors import decode_tensor, encode_tensor
from tf_hqgnn.types import Array

from tensorflow_serving.apis import get_model_status_pb2, predict_pb2  # isort: skip

CLIENTS = 64
# Shares of the time whose usage is compared.
EARLY, LATE = (0.2, 0.5), (0.6, 1.0)
# Of them, by REST.
REST_CLIENTS = 16
QUESTIONS = 60
KEPT_VERSIONS = 3
# How long a client waits that was told that the queue is full.
PATIENCE_SECONDS = 0.1
Question = tuple[str, dict[str, Array]]
Answer = dict[str, Array]


def questions() -> list[Question]:
    """Calls of all signatures, known and unknown ids, with exclusions and categories."""
    rng = random.Random(0)
    found: list[Question] = []

    def ids(kind: str, count: int, most: int) -> Array:
        array = np.empty(count, object)
        array[:] = [f"{kind}{rng.randrange(most + 20)}".encode() for _ in range(count)]
        return array

    for number in range(QUESTIONS):
        rows = rng.choice((1, 1, 2, 5, 80))
        wishes = {
            "k": np.array(rng.choice((1, 5, 10)), np.int32),
            "exclude_item_id": ids("i", 3 * rows, ITEMS).reshape(rows, 3),
            "category": np.array([rng.choice(("", "", *CATEGORIES)).encode() for _ in range(rows)], object),
        }
        found.append(
            [
                ("serving_default", {"user_id": ids("u", rows, USERS)}),
                ("recommend", {"user_id": ids("u", rows, USERS), **wishes}),
                ("recommend_for_history", {"history_item_id": ids("i", 4 * rows, ITEMS).reshape(rows, 4), **wishes}),
                ("similar_items", {"item_id": ids("i", rows, ITEMS), "k": wishes["k"]}),
                ("embed_user", {"user_id": ids("u", rows, USERS)}),
                ("score", {"user_id": ids("u", rows, USERS), "item_id": ids("i", 3 * rows, ITEMS).reshape(rows, 3)}),
                ("similar_users", {"user_id": ids("u", rows, USERS), "k": wishes["k"]}),
                (
                    "rerank",
                    {
                        "user_id": ids("u", rows, USERS),
                        "candidate_item_id": ids("i", 4 * rows, ITEMS).reshape(rows, 4),
                        "k": wishes["k"],
                        "allow_seen": np.array([rng.random() < 0.5 for _ in range(rows)]),
                    },
                ),
                (
                    "recommend_with_history",
                    {
                        "user_id": ids("u", rows, USERS),
                        "history_item_id": ids("i", 2 * rows, ITEMS).reshape(rows, 2),
                        **wishes,
                    },
                ),
                ("explain", {"user_id": ids("u", rows, USERS), "item_id": ids("i", rows, ITEMS), "k": wishes["k"]}),
                (
                    "recommend_where",
                    {
                        "user_id": ids("u", rows, USERS),
                        "k": wishes["k"],
                        "exclude_item_id": wishes["exclude_item_id"],
                        "include_item_id": ids("i", 30 * rows, ITEMS).reshape(rows, 30),
                        "category": np.full((1, 1), b"", object),
                        "exclude_category": np.array([[rng.choice(CATEGORIES).encode()]], object),
                        "allow_seen": np.array([False]),
                        "diversity": np.array([0], np.float32),
                        "popularity": np.array([rng.choice((0, -0.5))], np.float32),
                    },
                ),
            ][number % 11]
        )
    return found


def differs(expected: Answer, found: Answer) -> bool:
    """Whether two answers differ by more than the order in which numbers of a batch are added."""
    if expected.keys() != found.keys():
        return True
    for name, array in expected.items():
        other = found[name]
        if array.dtype.kind == "f":
            if array.shape != other.shape or not np.allclose(array, other, rtol=1e-4, atol=1e-4):
                return True
        elif not np.array_equal(array, other):
            return True
    return False


@dataclass
class Soak:
    """What the threads of a run share.

    Args:
      folder: Holds the export, and a version of each of the two kinds.
      answers: Of each kind, for each question.
    """

    folder: Path
    answers: list[list[Answer]]
    asked: list[Question] = field(default_factory=questions)
    wrong: list[str] = field(default_factory=list)
    count: int = 0
    refused: int = 0
    deaths: int = 0
    published: int = 1
    usages: list[tuple[float, Usage]] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)

    @staticmethod
    def prepare(folder: Path) -> Soak:
        """Writes both kinds of versions, and asks them."""
        answers = []
        for kind in (0, 1):
            path = write_version(folder / f"kind{kind}", 1, seed=kind)
            loaded = load_version(path, 1)
            answers.append([loaded.predict(signature, inputs) for signature, inputs in questions()])
        soak = Soak(folder, answers)
        soak.publish(1)
        return soak

    def publish(self, version: int) -> None:
        """Puts a version in place, the even ones of one kind, and deletes old ones."""
        model = self.folder / "export" / "hqgnn"
        model.mkdir(parents=True, exist_ok=True)
        shutil.copytree(self.folder / f"kind{version % 2}" / "hqgnn" / "1", model / f".tmp-{version}")
        (model / f".tmp-{version}").rename(model / str(version))
        self.published = version
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(model / str(version - KEPT_VERSIONS))

    async def ask_over_grpc(self, address: str) -> None:
        """All gRPC clients, each with a connection of its own."""

        async def ask(number: int) -> None:
            rng = random.Random(number)
            options = [("grpc.use_local_subchannel_pool", 1)]
            async with grpc.aio.insecure_channel(address, options) as channel:
                call = channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
                while not self.stop.is_set():
                    place = rng.randrange(QUESTIONS)
                    signature, inputs = self.asked[place]
                    request = predict_pb2.PredictRequest()
                    request.model_spec.name, request.model_spec.signature_name = "hqgnn", signature
                    for name, array in inputs.items():
                        encode_tensor(array, request.inputs[name])
                    try:
                        content = await call(request.SerializeToString(), timeout=120)
                    except grpc.RpcError as error:
                        if error.code() == grpc.StatusCode.UNAVAILABLE and "is full" in str(error.details()):
                            self.refused += 1
                            await asyncio.sleep(PATIENCE_SECONDS)
                            continue
                        self.wrong.append(f"{signature}: {error.code()}: {error.details()}")
                        continue
                    response = predict_pb2.PredictResponse.FromString(content)
                    found = {name: decode_tensor(name, proto) for name, proto in response.outputs.items()}
                    version = response.model_spec.version.value
                    if differs(self.answers[version % 2][place], found):
                        self.wrong.append(f"{signature}: a wrong answer of version {version}")
                    self.count += 1

        await asyncio.gather(*map(ask, range(CLIENTS - REST_CLIENTS)))

    def ask_over_rest(self, number: int, port: int) -> None:
        """One REST client, its connection kept open."""
        rng = random.Random(number)
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        while not self.stop.is_set():
            place = rng.randrange(QUESTIONS)
            signature, inputs = self.asked[place]
            columns = {
                name: json.loads(json.dumps(array.tolist(), default=bytes.decode)) for name, array in inputs.items()
            }
            body = json.dumps({"signature_name": signature, "inputs": columns})
            try:
                connection.request("POST", "/v1/models/hqgnn:predict", body, {"Content-Type": "application/json"})
                response = connection.getresponse()
                content = json.loads(response.read())
            except (OSError, http.client.HTTPException) as error:
                self.wrong.append(f"REST {signature}: {error!r}")
                connection.close()
                continue
            if response.status == 503 and "is full" in content["error"]:
                self.refused += 1
                time.sleep(PATIENCE_SECONDS)
            elif response.status != 200:
                self.wrong.append(f"REST {signature}: {response.status} {content}")
            elif all(differs(kind[place], _as(kind[place], content["outputs"])) for kind in self.answers):
                self.wrong.append(f"REST {signature}: a wrong answer")
            self.count += 1
        connection.close()

    def die(self, ports: tuple[int, int]) -> None:
        """Every second a client sends half a request and is gone, by turns on both ports."""
        halves = [
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9) + b"\x00\x00\x20\x01",
            b"POST /v1/models/hqgnn:predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Content-Length: 100\r\n\r\n{",
        ]
        while not self.stop.wait(1.0):
            turn = self.deaths % 2
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", ports[turn]), timeout=10) as one:
                one.sendall(halves[turn])
                # Closed by a reset, as the kernel does for a process that is killed with data unread.
                one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.deaths += 1


def _as(expected: Answer, outputs: dict[str, object]) -> Answer:
    """The outputs of a JSON answer by column, as arrays of the expected types."""
    found: Answer = {}
    for name, array in expected.items():
        if array.dtype == object:
            flat = [text.encode() for text in np.array(outputs[name], object).ravel()]
            found[name] = np.empty(len(flat), object)
            found[name][:] = flat
            found[name] = found[name].reshape(np.array(outputs[name], object).shape)
        else:
            found[name] = np.array(outputs[name], array.dtype)
    return found


def run(folder: Path, seconds: float, version_seconds: float = 60.0, slack_mebibytes: float = 0.0) -> Soak:
    """Runs for so long.

    Args:
      folder: for exports and the server's log.
      seconds: how long.
      version_seconds: time between two versions.
      slack_mebibytes: by which memory may grow besides a tenth, in a run too short for allocators to have settled.

    Returns:
      What was counted.

    Raises:
      AssertionError: An answer was wrong, a request failed, or something has grown.
    """
    soak = Soak.prepare(folder)
    with ServerProcess(folder / "export", folder / "log") as server, ThreadPoolExecutor(REST_CLIENTS + 2) as threads:
        running = [threads.submit(asyncio.run, soak.ask_over_grpc(f"127.0.0.1:{server.grpc_port}"))]
        running += [threads.submit(soak.ask_over_rest, number, server.rest_port) for number in range(REST_CLIENTS)]
        running.append(threads.submit(soak.die, (server.grpc_port, server.rest_port)))
        start, seen = time.monotonic(), -1
        try:
            while (now := time.monotonic() - start) < seconds:
                # A busy machine may take longer to load a version than the next comes after: each is seen alone.
                if now >= version_seconds * soak.published and len(soak.usages) > seen:
                    soak.publish(soak.published + 1)
                    seen = len(soak.usages)
                usage = server.usage()
                # While two versions are loaded there is more of everything.
                if available_versions(server) == [soak.published]:
                    soak.usages.append((now / seconds, usage))
                time.sleep(min(0.5, seconds / 100))
        finally:
            soak.stop.set()
            for one in running:
                one.result()
        assert soak.wrong == [], soak.wrong[:10]
        assert server.faults() == [], server.faults()[:10]
        before, after = _least(soak.usages, *EARLY), _least(soak.usages, *LATE)
        assert not after.exceeds(before, slack_mebibytes), after.exceeds(before, slack_mebibytes)
        assert server.process.poll() is None
    return soak


def reloads(folder: Path, count: int) -> list[Usage]:
    """Publishes versions one after the other, each once the one before it answers; the usage after each.

    A version is warmed up by one request: what an unload leaves is looked for, not how long a load takes.

    Raises:
      AssertionError: Something has grown between the first third and the last.
    """
    soak = Soak.prepare(folder)
    for kind in (0, 1):
        request = ("serving_default", {"user_id": np.array(["u1"], object)})
        write_warmup(folder / f"kind{kind}" / "hqgnn" / "1", "hqgnn", [request])
    usages = []
    with ServerProcess(folder / "export", folder / "log", poll_seconds=0.05) as server:
        for version in range(2, count + 2):
            soak.publish(version)
            while available_versions(server) != [version]:
                time.sleep(0.05)
            usages.append(server.usage())
        third = count // 3
        before = _least([(0.0, usage) for usage in usages[:third]], 0, 1)
        after = _least([(0.0, usage) for usage in usages[-third:]], 0, 1)
        assert not after.exceeds(before), after.exceeds(before)
        assert server.faults() == []
    return usages


def available_versions(server: ServerProcess) -> list[int]:
    """The versions that are loaded; none while one is loaded or unloaded."""
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = "hqgnn"
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        status = channel.unary_unary("/tensorflow.serving.ModelService/GetModelStatus")
        content = status(request.SerializeToString(), timeout=60)
    response = get_model_status_pb2.GetModelStatusResponse.FromString(content)
    states = {one.version: one.state for one in response.model_version_status if one.state != 50}
    return sorted(states) if all(state == 30 for state in states.values()) else []


def _least(usages: list[tuple[float, Usage]], begin: float, end: float) -> Usage:
    """The least of everything between two shares of the time."""
    found = [usage for share, usage in usages if begin <= share <= end]
    assert found, f"never was one version loaded alone from {begin:.0%} to {end:.0%} of the time"
    return Usage(*(min(getattr(one, name) for one in found) for name in ("memory", "threads", "files")))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=3600.0)
    parser.add_argument("--version-seconds", type=float, default=60.0, help="between two versions")
    parser.add_argument("--reloads", type=int, default=30, help="versions one after the other, afterwards")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        soak = run(Path(folder), options.seconds, options.version_seconds)
    before, after = _least(soak.usages, *EARLY), _least(soak.usages, *LATE)
    print(
        f"{soak.count:,d} right answers, {soak.published} versions, {soak.deaths} dead clients, "
        f"{soak.refused:,d} requests that found the queue full"
    )
    print(f"early: {before}\nlate:  {after}")
    if options.reloads:
        with tempfile.TemporaryDirectory() as folder:
            usages = reloads(Path(folder), options.reloads)
        print(f"after {len(usages)} reloads in a row: {usages[-1]}")


if __name__ == "__main__":
    main()
