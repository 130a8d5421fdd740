"""TF Serving's PredictionService and ModelService over a ModelManager."""

from __future__ import annotations

import functools
import logging
from typing import Any, Callable, NoReturn, TypeVar

import grpc
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from tf_hqgnn.serving import service
from tf_hqgnn.serving.errors import ServingError, from_exception, invalid_argument
from tf_hqgnn.serving.loader import DEFAULT_SIGNATURE
from tf_hqgnn.serving.manager import ModelManager
from tf_hqgnn.serving.tensors import encode_tensor

log = logging.getLogger(__name__)

_Method = TypeVar("_Method", bound=Callable[..., Any])


def _answering(method: _Method) -> Callable[..., Any]:
    """Turns a method's exceptions into the gRPC status they stand for."""

    @functools.wraps(method)
    def wrapper(self: Any, request: Any, context: grpc.ServicerContext) -> Any:
        try:
            return method(self, request, context)
        except ServingError as error:
            failure = error
        except Exception as error:  # Whatever it is, the client gets a code and the server goes on.
            log.exception("%s failed", method.__name__)
            failure = from_exception(error)
        context.abort(failure.code, failure.message)

    return wrapper


class PredictionService(prediction_service_pb2_grpc.PredictionServiceServicer):
    """Predict and GetModelMetadata; the calls that take tf.Example in place of tensors are refused in words."""

    def __init__(self, manager: ModelManager) -> None:
        self._manager = manager

    @_answering
    def Predict(
        self, request: predict_pb2.PredictRequest, context: grpc.ServicerContext
    ) -> predict_pb2.PredictResponse:
        """Calls a signature of a model."""
        if not request.HasField("model_spec"):
            raise invalid_argument("Missing ModelSpec")
        response = predict_pb2.PredictResponse()
        with service.lease(self._manager, request.model_spec) as loaded:
            outputs = loaded.predict_request(request)
            response.model_spec.version.value = loaded.version
        response.model_spec.name = request.model_spec.name
        response.model_spec.signature_name = request.model_spec.signature_name or DEFAULT_SIGNATURE
        for name, array in outputs.items():
            encode_tensor(array, response.outputs[name])
        return response

    @_answering
    def GetModelMetadata(
        self, request: get_model_metadata_pb2.GetModelMetadataRequest, context: grpc.ServicerContext
    ) -> get_model_metadata_pb2.GetModelMetadataResponse:
        """The signatures of a model."""
        return service.model_metadata(self._manager, request)

    @_answering
    def Classify(self, request: Any, context: grpc.ServicerContext) -> NoReturn:
        """Not offered."""
        raise _unimplemented("Classify")

    @_answering
    def Regress(self, request: Any, context: grpc.ServicerContext) -> NoReturn:
        """Not offered."""
        raise _unimplemented("Regress")

    @_answering
    def MultiInference(self, request: Any, context: grpc.ServicerContext) -> NoReturn:
        """Not offered."""
        raise _unimplemented("MultiInference")


class ModelService(model_service_pb2_grpc.ModelServiceServicer):
    """GetModelStatus."""

    def __init__(self, manager: ModelManager) -> None:
        self._manager = manager

    @_answering
    def GetModelStatus(
        self, request: get_model_status_pb2.GetModelStatusRequest, context: grpc.ServicerContext
    ) -> get_model_status_pb2.GetModelStatusResponse:
        """The state of a model's versions."""
        return service.model_status(self._manager, request)

    @_answering
    def HandleReloadConfigRequest(self, request: Any, context: grpc.ServicerContext) -> NoReturn:
        """Not offered: models come from the export directory."""
        raise ServingError(
            grpc.StatusCode.UNIMPLEMENTED,
            "HandleReloadConfigRequest is not implemented: this server serves every model of its export directory",
        )


def _unimplemented(method: str) -> ServingError:
    return ServingError(
        grpc.StatusCode.UNIMPLEMENTED,
        f"{method} is not implemented: call Predict; its signature tf_example takes serialized tf.Example",
    )
