"""Requests that were answered with 500, stopped the server for others, or took a gigabyte, over both protocols."""

import json
import urllib.error
import urllib.request

import grpc
import pytest

import tf_hqgnn  # noqa: F401
from tf_hqgnn.serving.errors import ServingError, printable
from tf_hqgnn.serving.json_request import MAX_VALUES, parse_body

import tensorflow as tf  # isort: skip
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    predict_pb2,
    prediction_service_pb2_grpc,
)
from tensorflow_serving.apis import model_service_pb2_grpc as model_service

LONG = "n" * 9000
VERY_LONG = "é" * 20_000


@pytest.fixture
def post(shared_server):
    """Status and parsed answer of a body, given as it goes over the wire."""

    def post(body, path="hqgnn:predict"):
        url = f"http://127.0.0.1:{shared_server.rest_port}/v1/models/{path}"
        request = urllib.request.Request(url, body, {"Content-Type": "application/json"}, method="POST")
        try:
            with urllib.request.urlopen(request, timeout=120) as response:
                return response.status, json.loads(response.read())
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())

    return post


@pytest.fixture
def predict(channel):
    """The status of a PredictRequest, and what it says."""

    def predict(request):
        with pytest.raises(grpc.RpcError) as caught:
            prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict(request, timeout=120)
        return caught.value.code().name, caught.value.details()

    return predict


def nested(depth):
    return b"[" * depth + b'"a"' + b"]" * depth


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"inputs": ' + nested(33) + b"}", "nested more than 16 deep"),
        (b'{"instances": ' + nested(33) + b"}", "nested more than 16 deep"),
        (b'{"instances": ' + nested(900) + b"}", "nested more than 16 deep"),
        (b'{"signature_name": "\\ud800", "instances": ["a"]}', "is not valid Unicode"),
        (b'{"instances": [{"\\ud800": "a"}]}', "keys must be equal to"),
        (json.dumps({"signature_name": LONG, "instances": ["a"]}).encode(), "not found in signature def"),
        (json.dumps({"signature_name": VERY_LONG, "instances": ["a"]}).encode(), "not found in signature def"),
        (json.dumps({"signature_name": "a\nforged\x1b[2J", "instances": ["a"]}).encode(), r"a\nforged\x1b[2J"),
        (b'{"instances": [' + b"[]," * 1_000_000 + b"[]]}", "JSON values, this server reads"),
        (b'{"x": [' + b"0," * 4_500_000 + b'0], "instances": ["a"]}', "JSON values, this server reads"),
        (b'{"instances": [' + b"[]," * 5000 + b"[]]}", "rows of input"),
        (b'{"inputs": [' + b'"a",' * 5000 + b'"a"]}', "rows of input"),
        ('{"instances": ["a"]}'.encode("utf-16"), "JSON Parse error"),
        (b'{"instances": [1e999999999]}', "not of expected type"),
        (b'{"instances": [' + b"9" * 5000 + b"]}", "JSON Parse error"),
    ],
)
def test_wrong_bodies_are_the_clients_error(post, body, message):
    status, answer = post(body)
    assert status == 400, answer
    assert message in answer["error"]
    assert len(answer["error"]) < 2100
    assert answer["error"].isprintable()


@pytest.mark.parametrize("name", [LONG, VERY_LONG, "a\nb"])
def test_wrong_names_are_shortened(predict, channel, name):
    request = predict_pb2.PredictRequest()
    request.inputs["user_id"].CopyFrom(tf.make_tensor_proto(["a"]))

    def asked(model="hqgnn", signature="", outputs=(), version_label=None, inputs=()):
        copy = predict_pb2.PredictRequest(output_filter=outputs)
        copy.CopyFrom(request)
        copy.output_filter.extend(outputs)
        copy.model_spec.name, copy.model_spec.signature_name = model, signature
        if version_label is not None:
            copy.model_spec.version_label = version_label
        for one in inputs:
            copy.inputs[one].CopyFrom(request.inputs["user_id"])
        return copy

    found = [
        (predict(asked(model=name)), "NOT_FOUND"),
        (predict(asked(signature=name)), "FAILED_PRECONDITION"),
        (predict(asked(outputs=[name])), "INVALID_ARGUMENT"),
        (predict(asked(inputs=[name])), "INVALID_ARGUMENT"),
        (predict(asked(version_label=name)), "INVALID_ARGUMENT"),
    ]
    status = get_model_status_pb2.GetModelStatusRequest()
    status.model_spec.name = name
    metadata = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=[name])
    metadata.model_spec.name = "hqgnn"
    stubs = model_service.ModelServiceStub(channel), prediction_service_pb2_grpc.PredictionServiceStub(channel)
    for call, message, code in (
        (stubs[0].GetModelStatus, status, "NOT_FOUND"),
        (stubs[1].GetModelMetadata, metadata, "INVALID_ARGUMENT"),
    ):
        with pytest.raises(grpc.RpcError) as caught:
            call(message, timeout=60)
        found.append(((caught.value.code().name, caught.value.details()), code))
    for (code, details), expected in found:
        assert code == expected, details
        assert printable(name)[:50] in details
        assert "\n" not in details


@pytest.mark.usefixtures("shared_server")
def test_bytes_that_are_no_utf8_in_an_example(tmp_path):
    """TensorFlow's Python can't make its error of a message that isn't UTF-8."""

    class Parses(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
        def tf_example(self, examples):
            feature = tf.io.FixedLenFeature([], tf.string, default_value="")
            return {"user_id": tf.io.parse_example(examples, {"user_id": feature})["user_id"]}

    module = Parses()
    tf.saved_model.save(module, str(tmp_path), signatures={"tf_example": module.tf_example})
    from tf_hqgnn.serving.loader import load_version

    loaded = load_version(tmp_path, 1)
    example = tf.train.Example()
    example.features.feature["user_id"].bytes_list.value.append(b"\xff\xfe")
    wrong = tf.train.Example()
    wrong.features.feature["user_id"].float_list.value.append(1)
    whole = example.SerializeToString()
    import numpy as np

    answers = loaded.predict("tf_example", {"examples": np.array([whole], object)})
    assert answers["user_id"].tolist() == [b"\xff\xfe"]
    for content in (b"\xff\xfe\xfd", whole[:-1], b"\x0a\xff", wrong.SerializeToString(), b"\x00"):
        with pytest.raises(ServingError) as caught:
            loaded.predict("tf_example", {"examples": np.array([content], object)})
        assert caught.value.code.name == "INVALID_ARGUMENT", content


def test_strings_full_of_commas_are_read():
    body = json.dumps({"instances": ["," * (MAX_VALUES + 10), '\\"' + "[{" * MAX_VALUES]}).encode()
    assert len(parse_body(body)["instances"]) == 2


def test_a_request_of_garbage(channel):
    call = channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
    for content in (b"\xff" * 100, b"\x0a", b"\x00" * (1 << 17)):
        with pytest.raises(grpc.RpcError) as caught:
            call(content, timeout=60)
        assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
