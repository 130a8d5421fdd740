"""TF Serving's PredictionService and ModelService."""

from __future__ import annotations

import asyncio
import functools
import logging
import time
from typing import Any, Awaitable, Callable, NoReturn, TypeAlias

import grpc
from google.protobuf.message import DecodeError, Message
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_management_pb2,
    predict_pb2,
)

from tf_hqgnn.serving import service
from tf_hqgnn.serving.batching import Outputs, deadline_exceeded
from tf_hqgnn.serving.descriptors import SERVICES
from tf_hqgnn.serving.errors import ServingError, from_exception, invalid_argument
from tf_hqgnn.serving.loader import DEFAULT_SIGNATURE
from tf_hqgnn.serving.service import Service
from tf_hqgnn.serving.tensors import decode_tensor, encode_tensor

log = logging.getLogger(__name__)

Context: TypeAlias = grpc.aio.ServicerContext


def handlers(name: str, servicer: object) -> grpc.GenericRpcHandler:
    """The methods of a service of `SERVICES`, for `add_generic_rpc_handlers`."""
    methods = {
        method: grpc.unary_unary_rpc_method_handler(
            getattr(servicer, method), _reader(request), response.SerializeToString
        )
        for method, (request, response) in SERVICES[name].items()
    }
    return grpc.method_handlers_generic_handler(f"tensorflow.serving.{name}", methods)


def _reader(kind: type[Message]) -> Callable[[bytes], Message | DecodeError]:
    """Reads a request; an error is handed on, since gRPC would answer UNKNOWN and print a stack for each."""

    def read(content: bytes) -> Message | DecodeError:
        try:
            return kind.FromString(content)
        except DecodeError as error:
            return error

    return read


def _answering(method: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    """Turns a method's exceptions into the gRPC status they stand for."""

    @functools.wraps(method)
    async def wrapper(self: Any, request: Any, context: Context) -> Any:
        try:
            if isinstance(request, DecodeError):
                raise invalid_argument(f"the request is no {method.__name__} request of TF Serving: {request}")
            return await method(self, request, context)
        except ServingError as error:
            failure = error
        except Exception as error:  # Whatever it is, the client gets a code and the server goes on.
            log.exception("%s failed", method.__name__)
            failure = from_exception(error)
        return await context.abort(failure.code, failure.message)

    return wrapper


class PredictionService:
    """Predict and GetModelMetadata; the calls that take tf.Example in place of tensors are refused in words."""

    def __init__(self, serving: Service) -> None:
        self._service = serving

    @_answering
    async def Predict(self, request: predict_pb2.PredictRequest, context: Context) -> predict_pb2.PredictResponse:
        """Calls a signature of a model; a call that is cancelled, or too late, leaves the queue."""
        if not request.HasField("model_spec"):
            raise invalid_argument("Missing ModelSpec")
        spec = request.model_spec
        with self._service.observed(spec.name, "Predict", "GRPC"), service.lease(self._service.manager, spec) as loaded:
            signature = loaded.existing_signature(spec.signature_name)
            inputs = {name: decode_tensor(name, proto) for name, proto in request.inputs.items()}
            finish = functools.partial(_response, request, loaded.version)
            loop = asyncio.get_running_loop()
            return await self._service.submit(
                spec.name, signature, inputs, finish, request.output_filter, _deadline(context), loop
            )

    @_answering
    async def GetModelMetadata(
        self, request: get_model_metadata_pb2.GetModelMetadataRequest, context: Context
    ) -> get_model_metadata_pb2.GetModelMetadataResponse:
        """The signatures of a model."""
        with self._service.observed(request.model_spec.name, "GetModelMetadata", "GRPC"):
            return service.model_metadata(self._service.manager, request)

    @_answering
    async def Classify(self, request: Any, context: Context) -> NoReturn:
        """Not offered."""
        raise _unimplemented("Classify")

    @_answering
    async def Regress(self, request: Any, context: Context) -> NoReturn:
        """Not offered."""
        raise _unimplemented("Regress")

    @_answering
    async def MultiInference(self, request: Any, context: Context) -> NoReturn:
        """Not offered."""
        raise _unimplemented("MultiInference")


class ModelService:
    """GetModelStatus and HandleReloadConfigRequest."""

    def __init__(self, serving: Service) -> None:
        self._service = serving

    @_answering
    async def GetModelStatus(
        self, request: get_model_status_pb2.GetModelStatusRequest, context: Context
    ) -> get_model_status_pb2.GetModelStatusResponse:
        """The state of a model's versions."""
        with self._service.observed(request.model_spec.name, "GetModelStatus", "GRPC"):
            return service.model_status(self._service.manager, request)

    @_answering
    async def HandleReloadConfigRequest(
        self, request: model_management_pb2.ReloadConfigRequest, context: Context
    ) -> model_management_pb2.ReloadConfigResponse:
        """Serves the models of the request, and no others; see `ModelManager.reload`."""
        if request.config.WhichOneof("config") != "model_config_list":
            raise invalid_argument(
                "ServerModelConfig type not supported by HandleReloadConfigRequest. Only ModelConfigList is currently "
                "supported"
            )
        configs = list(request.config.model_config_list.config)
        # Loading takes its time, and others are answered meanwhile.
        await asyncio.to_thread(self._service.manager.reload, configs)
        response = model_management_pb2.ReloadConfigResponse()
        response.status.SetInParent()
        return response


def _deadline(context: Context) -> float | None:
    left = context.time_remaining()
    if left is None:
        return None
    if left <= 0:
        raise deadline_exceeded()
    return float(time.monotonic() + left)


def _response(request: predict_pb2.PredictRequest, version: int, outputs: Outputs) -> predict_pb2.PredictResponse:
    response = predict_pb2.PredictResponse()
    response.model_spec.version.value = version
    response.model_spec.name = request.model_spec.name
    response.model_spec.signature_name = request.model_spec.signature_name or DEFAULT_SIGNATURE
    for name, array in outputs.items():
        encode_tensor(array, response.outputs[name])
    return response


def _unimplemented(method: str) -> ServingError:
    return ServingError(
        grpc.StatusCode.UNIMPLEMENTED,
        f"{method} is not implemented: call Predict; its signature tf_example takes serialized tf.Example",
    )
