"""TF Serving's gRPC services: their methods, and the descriptors that gRPC reflection shows to clients.

tensorflow-serving-api 2.16 has modules with the descriptors that fail on import with the protobuf it is installed with,
so they are declared here from the messages, whose modules are sound.
"""

from __future__ import annotations

from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.message import Message
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    predict_pb2,
    regression_pb2,
)

_Method = tuple[type[Message], type[Message]]
# Service -> method -> (request, response).
SERVICES: dict[str, dict[str, _Method]] = {
    "PredictionService": {
        "Classify": (classification_pb2.ClassificationRequest, classification_pb2.ClassificationResponse),
        "Regress": (regression_pb2.RegressionRequest, regression_pb2.RegressionResponse),
        "Predict": (predict_pb2.PredictRequest, predict_pb2.PredictResponse),
        "MultiInference": (inference_pb2.MultiInferenceRequest, inference_pb2.MultiInferenceResponse),
        "GetModelMetadata": (
            get_model_metadata_pb2.GetModelMetadataRequest,
            get_model_metadata_pb2.GetModelMetadataResponse,
        ),
    },
    "ModelService": {
        "GetModelStatus": (get_model_status_pb2.GetModelStatusRequest, get_model_status_pb2.GetModelStatusResponse),
        "HandleReloadConfigRequest": (
            model_management_pb2.ReloadConfigRequest,
            model_management_pb2.ReloadConfigResponse,
        ),
    },
}
_FILES = {"PredictionService": "prediction_service.proto", "ModelService": "model_service.proto"}


def declare_services() -> tuple[str, ...]:
    """Adds the services to the pool that reflection reads, if they aren't there, and returns their full names."""
    pool = descriptor_pool.Default()
    for name, methods in SERVICES.items():
        file = descriptor_pb2.FileDescriptorProto(
            name=f"tensorflow_serving/apis/{_FILES[name]}", package="tensorflow.serving", syntax="proto3"
        )
        service = file.service.add(name=name)
        for method, (request, response) in methods.items():
            service.method.add(
                name=method,
                input_type=f".{request.DESCRIPTOR.full_name}",
                output_type=f".{response.DESCRIPTOR.full_name}",
            )
        needed = {message.DESCRIPTOR.file.name for method in methods.values() for message in method}
        file.dependency.extend(sorted(needed))
        try:
            pool.FindFileByName(file.name)
        except KeyError:
            pool.AddSerializedFile(file.SerializeToString())
    return tuple(f"tensorflow.serving.{name}" for name in SERVICES)
