"""What a server must survive: too much, too late, and what was never meant as a request."""

import json
import threading
import urllib.error
import urllib.request
from concurrent import futures
from pathlib import Path

import grpc
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tf_hqgnn  # noqa: F401

import tensorflow as tf  # isort: skip
from tensorflow.core.framework import types_pb2

from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc  # isort: skip

from tf_hqgnn.serving.batching import BatchingParameters
from tf_hqgnn.serving.client import Client, ServerUnavailable
from tf_hqgnn.serving.limits import Limits
from tf_hqgnn.serving.server import Server
from tf_hqgnn.serving.signature import Signature

PREDICT = "/tensorflow.serving.PredictionService/Predict"
JSON = {"Content-Type": "application/json"}
SPIN = {"steps": np.array(30_000, np.int64)}


@pytest.fixture(scope="module")
def send(channel):
    """Sends bytes as a PredictRequest; returns the code."""
    method = channel.unary_unary(PREDICT)

    def send(content, timeout=60):
        try:
            method(content, timeout=timeout)
        except grpc.RpcError as error:
            return error.code().name
        return "OK"

    return send


def good_request(user=b"a"):
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "hqgnn"
    request.inputs["user_id"].CopyFrom(tf.make_tensor_proto([user]))
    return request


@pytest.fixture(autouse=True)
def still_answers(request):
    """After whatever a test has sent, a good request is answered."""
    yield
    if "send" in request.fixturenames:
        assert request.getfixturevalue("send")(good_request().SerializeToString()) == "OK"


# What a client's mistake may be answered with: never INTERNAL or UNKNOWN.
MISTAKES = {"OK", "INVALID_ARGUMENT", "NOT_FOUND", "FAILED_PRECONDITION"}


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=200))
def test_bytes_that_are_no_request(send, content):
    assert send(content) in MISTAKES


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_request_with_bytes_changed(send, data):
    content = bytearray(good_request().SerializeToString())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    assert send(bytes(content)) in MISTAKES


@settings(max_examples=60, deadline=None)
@given(
    dtype=st.sampled_from([*types_pb2.DataType.values(), 9999]),
    sizes=st.lists(st.sampled_from([-1, 0, 1, 2, 2**31, 2**62, -(2**63)]), max_size=4),
    content=st.binary(max_size=16),
    texts=st.lists(st.binary(max_size=4), max_size=3),
)
def test_tensors_of_any_type_and_shape(send, dtype, sizes, content, texts):
    request = good_request()
    proto = request.inputs["user_id"]
    proto.Clear()
    proto.dtype, proto.tensor_content = dtype, content
    proto.string_val.extend(texts)
    for size in sizes:
        proto.tensor_shape.dim.add(size=size)
    code = send(request.SerializeToString())
    assert code == "INVALID_ARGUMENT" or (code == "OK" and dtype == types_pb2.DT_STRING)


@settings(max_examples=40, deadline=None)
@given(st.binary(min_size=1, max_size=8))
def test_ids_are_any_bytes_utf8_or_not(send, user):
    assert send(good_request(user).SerializeToString()) == "OK"


def test_a_shape_of_gigabytes_with_one_value_is_refused_before_it_is_made(send):
    request = good_request()
    request.inputs["user_id"].tensor_shape.dim[0].size = 2**33
    assert send(request.SerializeToString()) == "INVALID_ARGUMENT"


@settings(max_examples=40, deadline=None)
@given(st.binary(max_size=100) | st.builds(lambda x: b'{"instances": [' + x + b"]}", st.binary(max_size=20)))
def test_bodies_that_are_no_json(shared_server, body):
    url = f"http://127.0.0.1:{shared_server.rest_port}/v1/models/hqgnn:predict"
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body, JSON), timeout=60) as response:
            answer, status = json.loads(response.read()), response.status
    except urllib.error.HTTPError as error:
        answer, status = json.loads(error.read()), error.code
    assert (status, list(answer)) in ((200, ["predictions"]), (400, ["error"]))


def test_deadlines_of_a_millisecond_end_as_such_and_leave_nothing_behind(shared_server, send, eventually):
    content = good_request().SerializeToString()
    with futures.ThreadPoolExecutor(16) as pool:
        codes = set(pool.map(lambda _: send(content, timeout=0.001), range(400)))
    assert codes <= {"DEADLINE_EXCEEDED", "OK"}
    eventually(lambda: shared_server.waiting_rows == 0, "the queue is empty")
    eventually(lambda: shared_server.manager.in_flight("hqgnn") == 0, "no request holds the version")


@pytest.mark.usefixtures("shared_server")
def test_a_deadline_that_has_passed_is_not_run(channel, monkeypatch):
    """The deadline reaches the queue: with a clock that is always past it nothing runs."""
    monkeypatch.setattr("tf_hqgnn.serving.batch_tasks.Task.is_too_late", lambda self: self.deadline is not None)
    predict = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict
    with pytest.raises(grpc.RpcError) as caught:
        predict(good_request(), timeout=60)
    assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    assert "the deadline passed before the request was run" in caught.value.details()
    assert predict(good_request()).model_spec.version.value == 7


class Gate:
    """Holds every call of a model until it is opened."""

    def __init__(self, monkeypatch):
        self.opened = threading.Event()
        run = Signature.run

        def held(signature, arrays):
            assert self.opened.wait(60)
            return run(signature, arrays)

        monkeypatch.setattr(Signature, "run", held)


@pytest.mark.parametrize("protocol", ["grpc", "rest"])
def test_ten_times_too_much_is_refused_at_once_and_then_all_is_well(export_dir, monkeypatch, eventually, protocol):
    """One call runs, 8 rows wait; 80 more come. Those too many are told so before the model has moved at all."""
    batching = BatchingParameters(max_batch_size=4, max_enqueued_batches=2, num_batch_threads=1)
    with Server(export_dir, grpc_port=0, rest_port=0, batching=batching) as server:
        gate = Gate(monkeypatch)
        url = f"http://127.0.0.1:{server.rest_port}/v1/models/hqgnn:predict"

        def ask(_=None):
            if protocol == "rest":
                try:
                    request = urllib.request.Request(url, b'{"instances": ["a"]}', JSON)
                    with urllib.request.urlopen(request, timeout=60) as response:
                        return response.status
                except urllib.error.HTTPError as error:
                    return error.code
            with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
                try:
                    prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict(good_request(), timeout=60)
                except grpc.RpcError as error:
                    return error.code().name
                return "OK"

        fine, refused = (200, 503) if protocol == "rest" else ("OK", "UNAVAILABLE")
        with futures.ThreadPoolExecutor(90) as pool:
            running = pool.submit(ask)
            eventually(
                lambda: server.manager.in_flight("hqgnn") == 1 and server.waiting_rows == 0, "the first call runs"
            )
            asked = [pool.submit(ask) for _ in range(80)]
            eventually(lambda: sum(one.done() for one in asked) == 72, "72 are refused")
            assert {one.result() for one in asked if one.done()} == {refused}
            gate.opened.set()
            answers = [one.result(60) for one in (running, *asked)]
        assert answers.count(fine) == 9
        assert ask() == fine


def test_the_client_says_that_the_server_is_full(export_dir, monkeypatch, eventually):
    batching = BatchingParameters(max_batch_size=1, max_enqueued_batches=1, num_batch_threads=1)
    with Server(export_dir, grpc_port=0, rest_port=0, batching=batching) as server:
        gate = Gate(monkeypatch)
        with Client(f"127.0.0.1:{server.grpc_port}", timeout=60) as client, futures.ThreadPoolExecutor(2) as pool:
            first = pool.submit(client.recommend, ["a"])
            eventually(
                lambda: server.manager.in_flight("hqgnn") == 1 and server.waiting_rows == 0, "the first call runs"
            )
            second = pool.submit(client.recommend, ["a"])
            eventually(lambda: server.waiting_rows == 1, "the second waits")
            with pytest.raises(ServerUnavailable, match=r"is full: 1 rows wait, 1 may; try again later"):
                client.recommend(["a"])
            gate.opened.set()
            assert first.result(60)[0].item_ids == second.result(60)[0].item_ids


def test_requests_beyond_the_limits_are_refused_over_both_protocols(export_dir):
    limits = Limits(message_bytes=2000, rows=3, list_length=2, k=5)
    with Server(export_dir, grpc_port=0, rest_port=0, limits=limits) as server:
        with Client(f"127.0.0.1:{server.grpc_port}", timeout=60) as client:
            for call, message in (
                (lambda: client.recommend(["a"] * 4), 'rows of input ".*": got 4, this server allows 3'),
                (lambda: client.recommend(["a"], k=6), "k: got 6, this server allows 5"),
                (lambda: client.recommend(["a"], exclude=["x"] * 3), "got 3, this server allows 2"),
                (lambda: client.recommend(["a" * 3000]), "larger than max"),
            ):
                with pytest.raises(Exception, match=message):
                    call()
            assert len(client.recommend(["a"] * 3, k=5, exclude=["x"] * 2)) == 3
        url = f"http://127.0.0.1:{server.rest_port}/v1/models/hqgnn:predict"
        for user, message in ((["a"] * 4, "got 4, this server allows 3"), (["a" * 3000], "larger than 2000 bytes")):
            body = json.dumps({"instances": user}).encode()
            with pytest.raises(urllib.error.HTTPError) as caught:
                urllib.request.urlopen(urllib.request.Request(url, body, JSON), timeout=60)
            assert caught.value.code == 400
            assert message in json.loads(caught.value.read())["error"]


def resident_bytes():
    with Path("/proc/self/status").open(encoding="ascii") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmRSS"))


def test_reloads_do_not_add_up(tmp_path, eventually):
    """Each version has 16 MB of weights: what stayed of 15 of them would be 240 MB."""

    class Heavy(tf.Module):
        def __init__(self):
            super().__init__()
            self.weights = tf.Variable(tf.random.stateless_uniform([4 << 20], [1, 2]))

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
        def serving_default(self, user_id):
            return {"score": tf.fill(tf.shape(user_id), tf.reduce_sum(self.weights))}

    heavy = Heavy()
    source = tmp_path / "heavy"
    tf.saved_model.save(heavy, str(source), signatures={"serving_default": heavy.serving_default})
    model_dir = tmp_path / "export" / "hqgnn"
    model_dir.mkdir(parents=True)

    def put(version):
        # Links: what is measured is the server's memory, not the disk's.
        (model_dir / f".tmp-{version}").symlink_to(source)
        (model_dir / f".tmp-{version}").rename(model_dir / str(version))

    put(1)
    with Server(tmp_path / "export", grpc_port=0, rest_port=0, poll_seconds=0.02) as server:
        sizes = []
        with Client(f"127.0.0.1:{server.grpc_port}", timeout=60) as client:
            for version in range(2, 20):
                put(version)
                eventually(lambda version=version: server.manager.served()["hqgnn"] == version, f"version {version}")
                client.predict("serving_default", {"user_id": np.array([b"a"], object)})
                eventually(
                    lambda: all(status.state != 40 for status in server.manager.status("hqgnn")),
                    "the one before is unloaded",
                )
                sizes.append(resident_bytes())
                (model_dir / str(version - 1)).unlink()
    assert sizes[-1] - min(sizes[:4]) < 100 << 20, [size >> 20 for size in sizes]
