"""Every signature of an export through the official stubs and curl: the answers are those of the SavedModel."""

import json
import shutil
import subprocess

import grpc
import numpy as np
import pytest
import tensorflow as tf
from export_oracle import make_bundle, with_several_categories, with_user_features
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from tf_hqgnn.config import ExportConfig
from tf_hqgnn.export.bundle import export_exact
from tf_hqgnn.export.loading import load_saved_model
from tf_hqgnn.serving.server import Server

pytestmark = pytest.mark.skipif(shutil.which("curl") is None, reason="curl isn't installed")

BUNDLE = with_user_features(with_several_categories(make_bundle()))
USERS, ITEMS, K = ["u1", "u3", "nobody"], ["i3", "i4", "nothing"], 3
WISHES = {"k": K, "exclude_item_id": [["i1"], [""], ["i2"]], "category": ["", "film", ""]}
QUESTIONS = {
    "serving_default": {"user_id": USERS},
    "recommend": {"user_id": USERS, **WISHES},
    "recommend_for_history": {"history_item_id": [["i1"], ["i2"], ["nothing"]], **WISHES},
    "recommend_with_history": {"user_id": USERS, "history_item_id": [["i9"], [""], ["i2"]], **WISHES},
    "recommend_for_features": {"user_feature": [["age=24"], ["gender=F"], [""]], **WISHES},
    "similar_items": {"item_id": ITEMS, "k": K},
    "similar_users": {"user_id": USERS, "k": K},
    "score": {"user_id": USERS, "item_id": [ITEMS]},
    "rerank": {"user_id": USERS, "candidate_item_id": [ITEMS], "k": K, "allow_seen": [True]},
    "explain": {"user_id": USERS, "item_id": ITEMS, "k": K},
    "recommend_where": {
        "user_id": USERS,
        "k": K,
        "exclude_item_id": [[""]],
        "include_item_id": [["i1", "i2", "i7"], ["", "", ""], ["", "", ""]],
        "category": [["film", "book"]],
        "exclude_category": [["rare"]],
        "allow_seen": [True, False, False],
        "diversity": [0.5],
        "popularity": [0.0, -1.0, 0.0],
    },
    "embed_user": {"user_id": USERS},
    "tf_example": None,
}


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """`(signatures, server)`."""
    out = tmp_path_factory.mktemp("export")
    root = load_saved_model(export_exact(BUNDLE, out, ExportConfig(default_k=K), version=1))
    with Server(out, grpc_port=0, rest_port=0) as server:
        yield root.signatures, server
    del root


def example(user_id):
    feature = tf.train.Feature(bytes_list=tf.train.BytesList(value=[user_id.encode()]))
    return tf.train.Example(features=tf.train.Features(feature={"user_id": feature})).SerializeToString()


def tensors(signature, asked):
    if asked is None:
        return {"examples": tf.constant([example(user) for user in USERS])}
    types = {name: spec.dtype for name, spec in signature.structured_input_signature[1].items()}
    return {name: tf.constant(value, types[name]) for name, value in asked.items()}


@pytest.mark.parametrize("name", QUESTIONS)
def test_the_official_stubs(exported, name):
    signatures, server = exported
    assert set(QUESTIONS) == set(signatures)
    inputs = tensors(signatures[name], QUESTIONS[name])
    request = predict_pb2.PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = "hqgnn", name
    for key, value in inputs.items():
        request.inputs[key].CopyFrom(tf.make_tensor_proto(value.numpy()))
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        response = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict(request, timeout=60)
    expected = signatures[name](**inputs)
    assert set(response.outputs) == set(expected)
    for key, value in expected.items():
        found = tf.make_ndarray(response.outputs[key])
        assert found.shape == value.shape
        check_equal(found, value.numpy())


@pytest.mark.parametrize("name", [name for name, asked in QUESTIONS.items() if asked is not None])
def test_curl(exported, name):
    signatures, server = exported
    body = json.dumps({"signature_name": name, "inputs": QUESTIONS[name]})
    address = f"http://127.0.0.1:{server.rest_port}/v1/models/hqgnn:predict"
    header = ["--header", "Content-Type: application/json"]
    command = ["curl", "--silent", "--max-time", "60", *header, "--data", body, address]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=90)
    outputs = json.loads(done.stdout)["outputs"]
    expected = signatures[name](**tensors(signatures[name], QUESTIONS[name]))
    assert set(outputs) == set(expected)
    for key, value in expected.items():
        texts = value.dtype == tf.string
        found = np.array(outputs[key], object if texts else value.dtype.as_numpy_dtype)
        check_equal(found, np.vectorize(bytes.decode, [object])(value.numpy()) if texts else value.numpy())


def check_equal(found, expected):
    if expected.dtype.kind == "f":
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    else:
        np.testing.assert_array_equal(found, expected)
