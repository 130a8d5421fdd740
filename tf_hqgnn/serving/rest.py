"""TF Serving's REST interface.

GET /v1/models/NAME[/versions/V]             the state of the versions
GET /v1/models/NAME[/versions/V]/metadata    the signatures
POST /v1/models/NAME[/versions/V]:predict    a call, by row ("instances") or by column ("inputs")
GET /monitoring/prometheus/metrics           the metrics

/labels/L may stand for /versions/V.

Reference: TF Serving, model_servers/http_rest_api_util.cc (paths), http_rest_api_handler.cc (answers).
"""

from __future__ import annotations

import functools
import json
import logging
import re
import time
from concurrent import futures
from typing import Any
from urllib.parse import unquote

import grpc
from fastapi import FastAPI, Request, Response
from google.protobuf import json_format
from google.protobuf.message import Message
from starlette.concurrency import run_in_threadpool
from tensorflow_serving.apis import get_model_metadata_pb2, get_model_status_pb2, model_pb2

from tf_hqgnn.serving.batching import deadline_exceeded
from tf_hqgnn.serving.config_files import PROMETHEUS_PATH
from tf_hqgnn.serving.errors import ServingError, from_exception, invalid_argument
from tf_hqgnn.serving.json_request import decode_inputs, parse_body
from tf_hqgnn.serving.json_response import encode_outputs
from tf_hqgnn.serving.loader import DEFAULT_SIGNATURE
from tf_hqgnn.serving.metrics import CONTENT_TYPE
from tf_hqgnn.serving.service import SIGNATURE_DEF, Service, lease, model_metadata, model_status

log = logging.getLogger(__name__)

# As TF Serving's --rest_api_timeout_in_ms.
REQUEST_SECONDS = 30.0
# More aren't begun: each holds its body in memory.
MAX_UNDER_WAY = 256
_FLAGS = re.IGNORECASE | re.ASCII
_CHOICE = r"(?:/versions/(?P<version>\d+)|/labels/(?P<label>[^/:]+))?"
_CALL = re.compile(rf"/v1/models/(?P<name>[^/:]+){_CHOICE}:(?P<method>classify|regress|predict)", _FLAGS)
_STATUS = re.compile(rf"/v1/models(?:/(?P<name>[^/:]+))?{_CHOICE}(?:/(?P<metadata>metadata))?", _FLAGS)
_MAX_VERSION = 2**63 - 1
# Protocol Buffers 5 renames the first; 4 is what TensorFlow 2.16 allows.
_EVERY_FIELD: dict[str, Any] = {"including_default_value_fields": True, "preserving_proto_field_name": True}


def create_app(service: Service, metrics_path: str | None = PROMETHEUS_PATH) -> FastAPI:
    """The ASGI application; every path under /v1 is answered with JSON, errors as {"error": ".."}.

    Args:
      service: What answers.
      metrics_path: Where Prometheus reads; None for nowhere.
    """
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    under_way = 0

    @app.api_route("/v1/{path:path}", methods=["GET", "POST", "PUT", "DELETE", "PATCH"], include_in_schema=False)
    async def answer(request: Request) -> Response:
        nonlocal under_way
        if under_way >= MAX_UNDER_WAY:
            return _error(ServingError(grpc.StatusCode.UNAVAILABLE, f"{under_way} requests are under way: try later"))
        under_way += 1
        try:
            try:
                body = await _body(request, service.limits.message_bytes)
            except ServingError as error:
                return _error(error)
            # Undecoded: %3A and %2F in a model's name aren't the separators.
            path = request.scope.get("raw_path", request.url.path.encode()).decode("latin-1").partition("?")[0]
            # The call waits for TensorFlow, so it runs beside the event loop.
            status, content = await run_in_threadpool(handle, service, request.method, path, body)
            return Response(content, status, media_type="application/json")
        finally:
            under_way -= 1

    if metrics_path is not None:

        @app.get(metrics_path, include_in_schema=False)
        async def metrics() -> Response:
            return Response(service.metrics.render(), headers={"Content-Type": CONTENT_TYPE})

    return app


async def _body(request: Request, max_bytes: int) -> bytes:
    """The body, unless it is too large: what is beyond the limit isn't read."""
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > max_bytes:
            raise invalid_argument(f"the request is larger than {max_bytes} bytes: split it")
        parts.append(part)
    return b"".join(parts)


def _error(error: ServingError) -> Response:
    return Response(_error_json(error), error.http_status, media_type="application/json")


def _error_json(error: ServingError) -> str:
    return json.dumps({"error": error.message}, ensure_ascii=False)


def handle(service: Service, method: str, path: str, body: bytes) -> tuple[int, str]:
    """Answers one request.

    Args:
      service: What answers.
      method: GET or POST.
      path: Still percent-encoded, without the query.
      body: Of a POST.

    Returns:
      The HTTP status and the JSON text.
    """
    try:
        return 200, _dispatch(service, method, path, body)
    except ServingError as error:
        failure = error
    except Exception as error:  # Whatever it is, the client gets a status and the server goes on.
        log.exception("%s %s failed", method, path)
        failure = from_exception(error)
    return failure.http_status, _error_json(failure)


def _dispatch(service: Service, method: str, path: str, body: bytes) -> str:
    if method == "POST" and (call := _CALL.fullmatch(path)):
        spec = _model_spec(call)
        if call["method"].lower() != "predict":
            raise ServingError(
                grpc.StatusCode.UNIMPLEMENTED, f"{call['method']} is not implemented: use {call['name']}:predict"
            )
        return _predict(service, spec, body)
    if method == "GET" and (found := _STATUS.fullmatch(path)):
        if not found["name"]:
            raise invalid_argument("Missing model name in request.")
        spec = _model_spec(found)
        return _metadata(service, spec) if found["metadata"] else _status(service, spec)
    raise invalid_argument(f"Malformed request: {method} {path}")


def _model_spec(match: re.Match[str]) -> model_pb2.ModelSpec:
    spec = model_pb2.ModelSpec(name=unquote(match["name"]))
    if match["version"] is not None:
        version = int(match["version"]) if len(match["version"]) < 20 else _MAX_VERSION + 1
        if version > _MAX_VERSION:
            raise invalid_argument(f"Failed to convert version: {match['version']} to numeric.")
        spec.version.value = version
    elif match["label"] is not None:
        spec.version_label = unquote(match["label"])
    return spec


def _predict(service: Service, spec: model_pb2.ModelSpec, body: bytes) -> str:
    deadline = time.monotonic() + REQUEST_SECONDS
    with service.observed(spec.name, "Predict", "REST"):
        document = parse_body(body)
        name = document.get("signature_name", "")
        with lease(service.manager, spec) as loaded:
            signature = loaded.signature(name)
            if signature is None:
                # INVALID_ARGUMENT here, FAILED_PRECONDITION over gRPC: TF Serving's two front ends differ.
                raise invalid_argument(
                    f'Serving signature name: "{name or DEFAULT_SIGNATURE}" not found in signature def'
                )
            if not signature.inputs:
                raise invalid_argument(f"Failed to get input map for signature: {name or 'DEFAULT'}")
            inputs, by_row = decode_inputs(document, signature.inputs)
            finish = functools.partial(encode_outputs, by_row=by_row)
            answer = service.submit(spec.name, signature, inputs, finish, deadline=deadline)
            try:
                return str(answer.result(deadline - time.monotonic()))
            except futures.TimeoutError as error:
                raise deadline_exceeded() from error


def _status(service: Service, spec: model_pb2.ModelSpec) -> str:
    with service.observed(spec.name, "GetModelStatus", "REST"):
        request = get_model_status_pb2.GetModelStatusRequest(model_spec=spec)
        return json.dumps(_to_dict(model_status(service.manager, request)))


def _metadata(service: Service, spec: model_pb2.ModelSpec) -> str:
    request = get_model_metadata_pb2.GetModelMetadataRequest(model_spec=spec, metadata_field=[SIGNATURE_DEF])
    with service.observed(spec.name, "GetModelMetadata", "REST"):
        response = model_metadata(service.manager, request)
    definitions = get_model_metadata_pb2.SignatureDefMap()
    response.metadata[SIGNATURE_DEF].Unpack(definitions)
    return json.dumps({"model_spec": _to_dict(response.model_spec), "metadata": {SIGNATURE_DEF: _to_dict(definitions)}})


def _to_dict(message: Message) -> dict[str, Any]:
    return json_format.MessageToDict(message, **_EVERY_FIELD)
