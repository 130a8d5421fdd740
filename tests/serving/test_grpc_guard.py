"""The gRPC port against calls that are too many, half sent or endless; grpc's own clients are the clients."""

import asyncio
import collections
import threading
import time

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

import tf_hqgnn  # noqa: F401

import tensorflow as tf  # isort: skip
from tensorflow_serving.apis import get_model_status_pb2, model_service_pb2_grpc, predict_pb2

from tf_hqgnn.serving import grpc_guard
from tf_hqgnn.serving import server as server_module
from tf_hqgnn.serving.batching import BatchingParameters
from tf_hqgnn.serving.server import Server
from tf_hqgnn.serving.signature import Signature

PREDICT = "/tensorflow.serving.PredictionService/Predict"


def predict_request(user=b"a"):
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "hqgnn"
    request.inputs["user_id"].CopyFrom(tf.make_tensor_proto([user]))
    return request.SerializeToString()


def spin_request(steps):
    """Takes time in proportion to `steps`."""
    request = predict_pb2.PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = "hqgnn", "spin"
    request.inputs["steps"].CopyFrom(tf.make_tensor_proto(np.int64(steps)))
    return request.SerializeToString()


class HalfSent:
    """Calls whose request doesn't come."""

    def __init__(self, address, method=PREDICT):
        self._channel = grpc.insecure_channel(address)
        self._method = self._channel.stream_unary(method)
        self._never = threading.Event()
        self.calls = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._never.set()
        self._channel.close()

    def _requests(self):
        self._never.wait()
        yield from ()

    def begin(self):
        self.calls.append(self._method.future(self._requests()))
        return self.calls[-1]


def test_more_calls_than_there_may_be_are_unavailable_and_none_is_cancelled(export_dir):
    """These are beyond what the core of gRPC takes by itself: it cancelled 3,091 of the 7,500."""
    batching = BatchingParameters(max_batch_size=1, max_enqueued_batches=10_000, num_batch_threads=1)

    async def ask_all(port):
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            predict, content = channel.unary_unary(PREDICT), spin_request(200)

            async def ask():
                try:
                    await predict(content, timeout=120)
                except grpc.aio.AioRpcError as error:
                    return error.code().name
                return "OK"

            codes = await asyncio.gather(*(ask() for _ in range(1500)))
            codes += await asyncio.gather(*(ask() for _ in range(6000)))
        return collections.Counter(codes)

    with Server(export_dir, grpc_port=0, rest_port=None, batching=batching) as server:
        codes = asyncio.run(ask_all(server.grpc_port))
        text = server.metrics.render()
    assert set(codes) == {"OK", "UNAVAILABLE"}
    assert f'request_count{{model_name="",status="UNAVAILABLE"}} {codes["UNAVAILABLE"]}' in text


@pytest.mark.usefixtures("shared_server")
def test_beyond_the_limit_health_and_status_are_answered(channel, monkeypatch):
    monkeypatch.setattr(grpc_guard, "MAX_CALLS", 0)
    with pytest.raises(grpc.RpcError) as refused:
        channel.unary_unary(PREDICT)(predict_request(), timeout=60)
    assert refused.value.code() == grpc.StatusCode.UNAVAILABLE
    assert refused.value.details() == "0 calls are under way: try again later"
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = "hqgnn"
    assert model_service_pb2_grpc.ModelServiceStub(channel).GetModelStatus(request, timeout=60).model_version_status
    health = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=60)
    assert health.status == health_pb2.HealthCheckResponse.SERVING


def test_half_sent_calls_keep_nobody_waiting(shared_server, channel, monkeypatch):
    monkeypatch.setattr(grpc_guard, "MAX_CALLS", 1)
    with HalfSent(f"127.0.0.1:{shared_server.grpc_port}") as half:
        for _ in range(50):
            half.begin()
        for _ in range(5):
            assert channel.unary_unary(PREDICT)(predict_request(), timeout=60)


def test_a_request_that_does_not_arrive_ends(shared_server, monkeypatch):
    monkeypatch.setattr(grpc_guard, "ARRIVAL_SECONDS", 0.05)
    for method in (PREDICT, "/grpc.health.v1.Health/Watch"):
        with HalfSent(f"127.0.0.1:{shared_server.grpc_port}", method) as half:
            error = half.begin().exception(60)
        assert (error.code(), error.details()) == (
            grpc.StatusCode.DEADLINE_EXCEEDED,
            "the request didn't arrive in time",
        )


def test_of_too_many_half_sent_calls_the_oldest_goes(shared_server, channel, monkeypatch):
    monkeypatch.setattr(grpc_guard, "MAX_ARRIVING", 3)
    monkeypatch.setattr(grpc_guard, "YOUNG_SECONDS", 0)
    with HalfSent(f"127.0.0.1:{shared_server.grpc_port}") as half:
        for _ in range(3):
            half.begin()
            # Only the order of arrival is of interest: each is there before the next.
            assert channel.unary_unary(PREDICT)(predict_request(), timeout=60)
        assert half.calls[0].exception(60).code() == grpc.StatusCode.DEADLINE_EXCEEDED
        assert not half.calls[2].done()


def test_a_call_without_a_request_is_a_mistake(channel):
    with pytest.raises(grpc.RpcError) as caught:
        channel.stream_unary(PREDICT)(iter([]), timeout=60)
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT


def test_bytes_in_flight_are_limited_in_total(export_dir, monkeypatch):
    monkeypatch.setattr(server_module, "MAX_BYTES_IN_FLIGHT", 100_000)
    begun, gate = threading.Event(), threading.Event()
    run = Signature.run

    def held(signature, arrays):
        begun.set()
        assert gate.wait(60)
        return run(signature, arrays)

    content = predict_request(b"a" * 60_000)
    with (
        Server(export_dir, grpc_port=0, rest_port=None) as server,
        grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel,
    ):
        predict = channel.unary_unary(PREDICT)
        monkeypatch.setattr(Signature, "run", held)
        first = predict.future(content, timeout=60)
        assert begun.wait(60)
        with pytest.raises(grpc.RpcError, match="holds as many bytes of requests as it may") as refused:
            predict(content, timeout=60)
        assert refused.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        small = predict.future(predict_request(), timeout=60)
        gate.set()
        assert first.result(60)
        assert small.result(60)
        # All of it is given back.
        for _ in range(5):
            assert predict(content, timeout=60)


def test_stop_ends_watchers_and_half_sent_calls_and_lets_calls_end(export_dir, eventually):
    server = Server(export_dir, grpc_port=0, rest_port=0, grace_seconds=600).start()
    address = f"127.0.0.1:{server.grpc_port}"
    with grpc.insecure_channel(address) as channel, HalfSent(address) as half:
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
        half.begin()
        call = channel.unary_unary(PREDICT).future(spin_request(100_000), timeout=600)
        eventually(lambda: server.manager.in_flight("hqgnn") == 1 or call.done(), "the call runs")
        began = time.monotonic()
        server.stop()
        assert time.monotonic() - began < 300
        assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
        with pytest.raises(grpc.RpcError) as ended:
            next(watch)
        assert ended.value.code() == grpc.StatusCode.UNAVAILABLE
        assert call.result(60)
        assert half.calls[0].exception(60).code() == grpc.StatusCode.UNAVAILABLE
