"""TF Serving's PredictionService and ModelService."""

from __future__ import annotations

import asyncio
import functools
import logging
import time
from typing import Any, Awaitable, Callable, NoReturn, TypeAlias, TypeVar

import grpc
from google.protobuf.message import DecodeError
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_management_pb2,
    predict_pb2,
)

from tf_hqgnn.export.layout import DEFAULT_SIGNATURE
from tf_hqgnn.serving import service
from tf_hqgnn.serving.batching import deadline_exceeded
from tf_hqgnn.serving.descriptors import SERVICES
from tf_hqgnn.serving.errors import ServingError, from_exception, invalid_argument
from tf_hqgnn.serving.parts import Outputs
from tf_hqgnn.serving.service import Service
from tf_hqgnn.serving.tensors import decode_tensor, encode_tensor
from tf_hqgnn.types import Array

log = logging.getLogger(__name__)

Context: TypeAlias = grpc.aio.ServicerContext
T = TypeVar("T")
# Bytes of a request that are read faster than they are handed to another thread; of a larger one a thread reads them,
# and others are answered meanwhile.
_SMALL = 1 << 16


def handlers(name: str, servicer: object) -> grpc.GenericRpcHandler:
    """The methods of a service of `SERVICES`, for `add_generic_rpc_handlers`."""
    methods = {
        method: grpc.unary_unary_rpc_method_handler(getattr(servicer, method), _unread, response.SerializeToString)
        for method, (request, response) in SERVICES[name].items()
    }
    return grpc.method_handlers_generic_handler(f"tensorflow.serving.{name}", methods)


def _unread(content: bytes) -> bytes:
    """Leaves a request as it came, since gRPC would read it in the event loop."""
    return content


def _answering(method: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    """Has a method read its request, and turns its exceptions into the gRPC status they stand for."""
    name = method.__name__
    kind = next(methods[name][0] for methods in SERVICES.values() if name in methods)

    @functools.wraps(method)
    async def wrapper(self: Any, content: bytes, context: Context) -> Any:
        try:
            request = (
                kind.FromString(content)
                if len(content) <= _SMALL
                else await asyncio.to_thread(kind.FromString, content)
            )
            del content
            return await method(self, request, context)
        except DecodeError as error:
            failure = invalid_argument(f"the request is no {name} request of TF Serving: {error}")
        except ServingError as error:
            failure = error
        except Exception as error:  # Whatever it is, the client gets a code and the server goes on.
            log.exception("%s failed", name)
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
        observed = self._service.observed(spec.name, "Predict", "GRPC")
        with observed as seen, service.lease(self._service.manager, spec) as loaded:
            signature = loaded.existing_signature(spec.signature_name)
            seen.signature = spec.signature_name or DEFAULT_SIGNATURE
            # Names first: there is no need to read tensors that nobody asked for.
            signature.check_names(request.inputs)
            inputs = (
                self._read(request) if request.ByteSize() <= _SMALL else await asyncio.to_thread(self._read, request)
            )
            finish = functools.partial(_response, request, loaded.version)
            loop = asyncio.get_running_loop()
            return await self._service.submit(
                spec.name, signature, inputs, finish, request.output_filter, _deadline(context), loop
            )

    def _read(self, request: predict_pb2.PredictRequest) -> dict[str, Array]:
        limits = self._service.limits
        return {name: decode_tensor(name, proto, limits) for name, proto in request.inputs.items()}

    @_answering
    async def GetModelMetadata(
        self, request: get_model_metadata_pb2.GetModelMetadataRequest, _context: Context
    ) -> get_model_metadata_pb2.GetModelMetadataResponse:
        """The signatures of a model."""
        with self._service.observed(request.model_spec.name, "GetModelMetadata", "GRPC"):
            return service.model_metadata(self._service.manager, request)

    @_answering
    async def Classify(self, _request: Any, _context: Context) -> NoReturn:
        """Not offered."""
        raise _unimplemented("Classify")

    @_answering
    async def Regress(self, _request: Any, _context: Context) -> NoReturn:
        """Not offered."""
        raise _unimplemented("Regress")

    @_answering
    async def MultiInference(self, _request: Any, _context: Context) -> NoReturn:
        """Not offered."""
        raise _unimplemented("MultiInference")


class ModelService:
    """GetModelStatus and HandleReloadConfigRequest."""

    def __init__(self, serving: Service) -> None:
        self._service = serving

    @_answering
    async def GetModelStatus(
        self, request: get_model_status_pb2.GetModelStatusRequest, _context: Context
    ) -> get_model_status_pb2.GetModelStatusResponse:
        """The state of a model's versions."""
        with self._service.observed(request.model_spec.name, "GetModelStatus", "GRPC"):
            return service.model_status(self._service.manager, request)

    @_answering
    async def HandleReloadConfigRequest(
        self, request: model_management_pb2.ReloadConfigRequest, _context: Context
    ) -> model_management_pb2.ReloadConfigResponse:
        """Serves the models of the request, and no others; see `ModelManager.reload`."""
        if not self._service.may_reload:
            raise ServingError(
                grpc.StatusCode.PERMISSION_DENIED,
                "anybody could take models away: start the server with --model_config_file or --allow-reload",
            )
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
