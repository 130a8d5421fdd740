"""SIGTERM under load: what has arrived is answered, nothing is cancelled, no connection is reset."""

import collections
import contextlib
import http.client
import json
import re
import resource
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from concurrent import futures
from pathlib import Path

import grpc
import pytest

import tf_hqgnn  # noqa: F401

import tensorflow as tf  # isort: skip
from tensorflow_serving.apis import predict_pb2

pytestmark = pytest.mark.engines
CLIENTS = 64
PREDICT = "/tensorflow.serving.PredictionService/Predict"
REQUEST = predict_pb2.PredictRequest(
    model_spec={"name": "hqgnn"}, inputs={"user_id": tf.make_tensor_proto(["a"])}
).SerializeToString()
BODY = b'{"instances": ["a"]}'
JSON = {"Content-Type": "application/json"}
# In a process of its own: threads of the test's process would wait for each other.
GRPC_CLIENTS = """
import asyncio, collections, json, sys
from grpc import aio

async def main():
    codes, content = collections.Counter(), sys.stdin.buffer.read()

    async def ask():
        async with aio.insecure_channel(sys.argv[1], options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
            predict = channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
            for _ in range(int(sys.argv[3])):
                while True:
                    try:
                        await predict(content, timeout=60)
                    except aio.AioRpcError as error:
                        codes[error.code().name] += 1
                        break
                    codes["OK"] += 1
                    if codes["OK"] == 500:
                        print("busy", flush=True)

    await asyncio.gather(*(ask() for _ in range(int(sys.argv[2]))))
    print(json.dumps(codes), flush=True)

asyncio.run(main())
"""


@contextlib.contextmanager
def serving(export_dir, **options):
    """(process, gRPC port, REST port) of a server of its own."""
    code = f"from tf_hqgnn.serving.server import serve; serve({str(export_dir)!r}, grpc_port=0, rest_port=0)"
    pipe = subprocess.PIPE
    process = subprocess.Popen([sys.executable, "-c", code], stdout=pipe, stderr=pipe, text=True, **options)
    try:
        line = process.stdout.readline()
        assert "Serving hqgnn" in line, process.stderr.read()
        yield process, *map(int, re.search(r"gRPC 127\.0\.0\.1:(\d+), REST http://127\.0\.0\.1:(\d+)", line).groups())
    finally:
        process.kill()
        process.communicate()


class RestClients:
    """Threads that each ask over one connection until it ends; a reset is raised by `last_headers`."""

    def __init__(self, port, pool):
        self._port = port
        self.busy = threading.Event()
        self.statuses = collections.Counter()
        self._asking = [pool.submit(self._ask) for _ in range(CLIENTS)]

    def _ask(self):
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        connection.connect()
        while connection.sock is not None:
            connection.request("POST", "/v1/models/hqgnn:predict", BODY, JSON)
            response = connection.getresponse()
            response.read()
            self.statuses[response.status] += 1
            if self.statuses[200] == 500:
                self.busy.set()
        return response.getheader("Connection")

    def last_headers(self):
        """What the last answers of all said of their connection."""
        return {one.result(60) for one in self._asking}


@pytest.mark.parametrize("tries", [1, 50], ids=["until the first refusal", "whatever the answer"])
def test_under_load_no_call_is_cancelled_and_no_connection_is_reset(export_dir, tries):
    with (
        serving(export_dir) as (process, port, rest_port),
        futures.ThreadPoolExecutor(CLIENTS) as pool,
        contextlib.ExitStack() as stack,
    ):
        command = [sys.executable, "-c", GRPC_CLIENTS, f"127.0.0.1:{port}", str(CLIENTS), str(tries)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        grpc_clients = stack.enter_context(subprocess.Popen(command, **pipes))
        grpc_clients.stdin.write(REQUEST)
        grpc_clients.stdin.close()
        assert grpc_clients.stdout.readline() == b"busy\n"
        rest_clients = RestClients(rest_port, pool)
        assert rest_clients.busy.wait(60)
        process.send_signal(signal.SIGTERM)
        codes = json.loads(grpc_clients.stdout.read())
        grpc_clients.wait()
        assert rest_clients.last_headers() == {"close"}
        assert process.wait(60) == 0
        for one in (port, rest_port):
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", one), timeout=60)
    assert set(codes) == {"OK", "UNAVAILABLE"}
    assert set(rest_clients.statuses) == {200}


def test_descriptors_used_up_by_others_keep_nobody_out(export_dir):
    """256 descriptors, and 400 connections to either port that say nothing, or half of something."""
    limit = 256
    mine = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert mine[0] > 2000, "this test holds 800 connections: raise the limit of open files (ulimit -n)"

    def lower():
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))

    with contextlib.ExitStack() as stack:
        process, grpc_port, rest_port = stack.enter_context(serving(export_dir, preexec_fn=lower))
        log = []
        reading = threading.Thread(target=lambda: log.append(process.stderr.read()), daemon=True)
        reading.start()
        for number in range(400):
            for port in (rest_port, grpc_port):
                with contextlib.suppress(OSError):
                    client = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=60))
                    if number % 2:
                        client.sendall(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nx")
        assert len(list(Path(f"/proc/{process.pid}/fd").iterdir())) < limit
        url = f"http://127.0.0.1:{rest_port}/v1/models/hqgnn"
        with urllib.request.urlopen(url, timeout=60) as response:
            assert b"AVAILABLE" in response.read()
        with urllib.request.urlopen(urllib.request.Request(url + ":predict", BODY, JSON), timeout=60) as response:
            assert response.status == 200
        # The core closes connections that don't begin as HTTP/2 does, and then the next try gets in.
        with grpc.insecure_channel(f"127.0.0.1:{grpc_port}") as channel:
            assert channel.unary_unary(PREDICT)(REQUEST, timeout=120, wait_for_ready=True)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
        reading.join(60)
    assert len(log[0]) < 10_000, log[0]
