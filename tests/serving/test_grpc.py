"""The official stubs against the server: answers, codes and messages as from TF Serving 2.16."""

from concurrent import futures

import grpc
import numpy as np
import pytest
from google.protobuf import descriptor_pool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import proto_reflection_descriptor_database

import tf_hqgnn  # noqa: F401

import tensorflow as tf  # isort: skip
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
)

from tf_hqgnn.serving.server import Server


@pytest.fixture(scope="module")
def prediction(channel):
    return prediction_service_pb2_grpc.PredictionServiceStub(channel)


@pytest.fixture(scope="module")
def model_service(channel):
    return model_service_pb2_grpc.ModelServiceStub(channel)


def request(signature="", model="hqgnn", version=None, label=None, outputs=(), **inputs):
    result = predict_pb2.PredictRequest(output_filter=outputs)
    result.model_spec.name = model
    result.model_spec.signature_name = signature
    if version is not None:
        result.model_spec.version.value = version
    if label is not None:
        result.model_spec.version_label = label
    for name, value in inputs.items():
        result.inputs[name].CopyFrom(tf.make_tensor_proto(value))
    return result


def test_predict_answers_and_names_what_answered(prediction):
    response = prediction.Predict(request(user_id=["a", "new"]), timeout=30)
    assert response.model_spec.name == "hqgnn"
    assert response.model_spec.version.value == 7
    assert response.model_spec.signature_name == "serving_default"
    outputs = {name: tf.make_ndarray(proto) for name, proto in response.outputs.items()}
    assert outputs["item_id"].tolist() == [[b"100-0", b"100-1", b"100-2"]] * 2
    np.testing.assert_array_equal(outputs["score"], np.array([[100, 99, 98]] * 2, np.float32))
    assert outputs["num_valid"].tolist() == [3, 3]
    assert outputs["known_user"].tolist() == [True, False]


def test_predict_with_signature_version_and_filter(prediction):
    response = prediction.Predict(
        request(
            "recommend",
            version=7,
            outputs=["item_id"],
            user_id=["a"],
            k=2,
            exclude_item_id=[["100-0", ""]],
            category=[""],
        ),
        timeout=30,
    )
    assert list(response.outputs) == ["item_id"]
    assert tf.make_ndarray(response.outputs["item_id"]).tolist() == [[b"100-1", b""]]
    assert response.model_spec.signature_name == "recommend"


def test_version_zero_is_whichever_is_served(prediction, model_service):
    assert prediction.Predict(request(version=0, user_id=["a"]), timeout=30).model_spec.version.value == 7
    status = get_model_status_pb2.GetModelStatusRequest()
    status.model_spec.name = "hqgnn"
    status.model_spec.version.value = 0
    assert model_service.GetModelStatus(status, timeout=30).model_version_status[0].version == 7


CODES = [
    (predict_pb2.PredictRequest(), "INVALID_ARGUMENT", "Missing ModelSpec"),
    (request(model="", user_id=["a"]), "INVALID_ARGUMENT", "ModelSpec has no name specified."),
    (request(model="x", user_id=["a"]), "NOT_FOUND", "Servable not found for request: Latest(x)"),
    (request(version=8, user_id=["a"]), "NOT_FOUND", "Servable not found for request: Specific(hqgnn, 8)"),
    (request(label="canary", user_id=["a"]), "INVALID_ARGUMENT", "Unrecognized servable version label: canary"),
    (request("x", user_id=["a"]), "FAILED_PRECONDITION", 'Serving signature key "x" not found.'),
    (
        request(user=["a"]),
        "INVALID_ARGUMENT",
        "input tensor alias not found in signature: user. Inputs expected to be in the set {user_id}.",
    ),
    (
        request(),
        "INVALID_ARGUMENT",
        "input size does not match signature: 0!=1 len({}) != len({user_id}). Sent extra: {}. Missing but required: "
        "{user_id}.",
    ),
    (request(user_id=[1]), "INVALID_ARGUMENT", "Expects arg[0] to be string but int32 is provided (input \"user_id\")"),
    (
        request(user_id=[["a"]]),
        "INVALID_ARGUMENT",
        'input "user_id" has shape [1,1], the signature expects [?]',
    ),
    (
        request(outputs=["x"], user_id=["a"]),
        "INVALID_ARGUMENT",
        "output tensor alias not found in signature: x Outputs expected to be in the set "
        "{item_id,known_user,num_valid,score}.",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("wrong", "code", "message"), CODES, ids=[message[:30] for _, _, message in CODES])
def test_wrong_requests_get_tf_servings_code_and_message(prediction, wrong, code, message):
    with pytest.raises(grpc.RpcError) as caught:
        prediction.Predict(wrong, timeout=30)
    assert (caught.value.code().name, caught.value.details()) == (code, message)


def test_an_error_inside_the_graph_keeps_its_code_and_message(prediction):
    with pytest.raises(grpc.RpcError) as caught:
        prediction.Predict(request("recommend", user_id=["a"], k=-2, exclude_item_id=[[""]], category=[""]), timeout=30)
    assert caught.value.code().name == "INVALID_ARGUMENT"
    assert "k must be positive" in caught.value.details()
    assert "Traceback" not in caught.value.details()


def test_a_bad_tensor_is_refused_and_the_server_goes_on(prediction):
    wrong = request(user_id=["a"])
    wrong.inputs["user_id"].tensor_shape.dim[0].size = 2**40
    with pytest.raises(grpc.RpcError) as caught:
        prediction.Predict(wrong, timeout=30)
    assert caught.value.code().name == "INVALID_ARGUMENT"
    assert 'rows of input "user_id": got 1099511627776, this server allows 4096' in caught.value.details()
    assert prediction.Predict(request(user_id=["a"]), timeout=30).model_spec.version.value == 7


def test_any_other_failure_is_internal(prediction, shared_server, monkeypatch):
    monkeypatch.setattr(shared_server.manager, "lease", lambda *_: 1 / 0)
    with pytest.raises(grpc.RpcError) as caught:
        prediction.Predict(request(user_id=["a"]), timeout=30)
    assert (caught.value.code().name, caught.value.details()) == ("INTERNAL", "ZeroDivisionError: division by zero")


def metadata_request(*fields, model="hqgnn"):
    result = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=fields)
    result.model_spec.name = model
    return result


def test_metadata_holds_every_signature(prediction):
    response = prediction.GetModelMetadata(metadata_request("signature_def"), timeout=30)
    assert (response.model_spec.name, response.model_spec.version.value) == ("hqgnn", 7)
    definitions = get_model_metadata_pb2.SignatureDefMap()
    assert response.metadata["signature_def"].Unpack(definitions)
    recommend = definitions.signature_def["recommend"]
    assert recommend.method_name == "tensorflow/serving/predict"
    assert set(recommend.inputs) == {"user_id", "k", "exclude_item_id", "category"}
    assert recommend.inputs["k"].dtype == tf.int32.as_datatype_enum


@pytest.mark.parametrize(
    ("wrong", "code", "message"),
    [
        (get_model_metadata_pb2.GetModelMetadataRequest(), "INVALID_ARGUMENT", "Missing ModelSpec"),
        (metadata_request(), "INVALID_ARGUMENT", "must specify at least one metadata_field"),
        (metadata_request("x"), "INVALID_ARGUMENT", "Metadata field x is not supported"),
        (metadata_request("signature_def", model="x"), "NOT_FOUND", "Servable not found for request: Latest(x)"),
    ],
)
def test_wrong_metadata_requests(prediction, wrong, code, message):
    with pytest.raises(grpc.RpcError) as caught:
        prediction.GetModelMetadata(wrong, timeout=30)
    assert caught.value.code().name == code
    assert message in caught.value.details()


def status_request(**spec):
    result = get_model_status_pb2.GetModelStatusRequest()
    result.model_spec.SetInParent()
    for name, value in spec.items():
        if name == "version":
            result.model_spec.version.value = value
        else:
            setattr(result.model_spec, name, value)
    return result


def test_status_tells_the_state(model_service):
    for wanted in (status_request(name="hqgnn"), status_request(name="hqgnn", version=7)):
        [entry] = model_service.GetModelStatus(wanted, timeout=30).model_version_status
        assert entry.version == 7
        assert entry.state == get_model_status_pb2.ModelVersionStatus.AVAILABLE
        assert entry.HasField("status")
        assert entry.status.error_code == 0


@pytest.mark.parametrize(
    ("wrong", "code", "message"),
    [
        (get_model_status_pb2.GetModelStatusRequest(), "INVALID_ARGUMENT", "Missing ModelSpec"),
        (status_request(name="x"), "NOT_FOUND", "Could not find any versions of model x"),
        (status_request(name="hqgnn", version=3), "NOT_FOUND", "Could not find version 3 of model hqgnn"),
        (status_request(name="hqgnn", version_label="a"), "INVALID_ARGUMENT", "Unrecognized servable version label: a"),
    ],
)
def test_wrong_status_requests(model_service, wrong, code, message):
    with pytest.raises(grpc.RpcError) as caught:
        model_service.GetModelStatus(wrong, timeout=30)
    assert (caught.value.code().name, caught.value.details()) == (code, message)


def test_what_is_not_offered_says_so(prediction):
    calls = [
        (prediction.Classify, classification_pb2.ClassificationRequest()),
        (prediction.Regress, regression_pb2.RegressionRequest()),
        (prediction.MultiInference, inference_pb2.MultiInferenceRequest()),
    ]
    for method, message in calls:
        with pytest.raises(grpc.RpcError) as caught:
            method(message, timeout=30)
        assert caught.value.code().name == "UNIMPLEMENTED"
        assert "is not implemented" in caught.value.details()


def test_health_is_serving_for_the_server_and_each_service(channel):
    stub = health_pb2_grpc.HealthStub(channel)
    for service in ("", "tensorflow.serving.PredictionService", "tensorflow.serving.ModelService"):
        answer = stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=30)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
    with pytest.raises(grpc.RpcError) as caught:
        stub.Check(health_pb2.HealthCheckRequest(service="x"), timeout=30)
    assert caught.value.code().name == "NOT_FOUND"


def test_health_says_when_the_server_stops(export_dir):
    server = Server(export_dir, grpc_port=0, rest_port=0).start()
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        states = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(), timeout=60)
        assert next(states).status == health_pb2.HealthCheckResponse.SERVING
        with futures.ThreadPoolExecutor(1) as pool:
            stopping = pool.submit(server.stop)
            assert next(states).status == health_pb2.HealthCheckResponse.NOT_SERVING
            states.cancel()
            stopping.result(60)


def test_reflection_describes_both_services(channel):
    """With a pool that knows nothing but what the server tells."""
    database = proto_reflection_descriptor_database.ProtoReflectionDescriptorDatabase(channel)
    wanted = {f"tensorflow.serving.{name}" for name in ("PredictionService", "ModelService")}
    assert wanted <= set(database.get_services())
    pool = descriptor_pool.DescriptorPool(database)
    predict = pool.FindServiceByName("tensorflow.serving.PredictionService").FindMethodByName("Predict")
    assert predict.input_type.fields_by_name["inputs"].message_type.fields_by_name["value"].message_type.full_name == (
        "tensorflow.TensorProto"
    )
    reload = pool.FindServiceByName("tensorflow.serving.ModelService").FindMethodByName("HandleReloadConfigRequest")
    assert reload.output_type.full_name == "tensorflow.serving.ReloadConfigResponse"
