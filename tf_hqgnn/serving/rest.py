"""TF Serving's REST interface over a ModelManager.

GET /v1/models/NAME[/versions/V]             the state of the versions
GET /v1/models/NAME[/versions/V]/metadata    the signatures
POST /v1/models/NAME[/versions/V]:predict    a call, by row ("instances") or by column ("inputs")

Reference: TF Serving, model_servers/http_rest_api_util.cc (paths), http_rest_api_handler.cc (answers).
"""

from __future__ import annotations

import json
import logging
import re
from typing import Any
from urllib.parse import unquote

import grpc
from fastapi import FastAPI, Request, Response
from google.protobuf import json_format
from google.protobuf.message import Message
from starlette.concurrency import run_in_threadpool
from tensorflow_serving.apis import get_model_metadata_pb2, get_model_status_pb2, model_pb2

from tf_hqgnn.serving import service
from tf_hqgnn.serving.errors import ServingError, from_exception, invalid_argument
from tf_hqgnn.serving.json_request import decode_inputs, parse_body
from tf_hqgnn.serving.json_response import encode_outputs
from tf_hqgnn.serving.loader import DEFAULT_SIGNATURE
from tf_hqgnn.serving.manager import ModelManager

log = logging.getLogger(__name__)

_FLAGS = re.IGNORECASE | re.ASCII
_CHOICE = r"(?:/versions/(?P<version>\d+)|/labels/(?P<label>[^/:]+))?"
_CALL = re.compile(rf"/v1/models/(?P<name>[^/:]+){_CHOICE}:(?P<method>classify|regress|predict)", _FLAGS)
_STATUS = re.compile(rf"/v1/models(?:/(?P<name>[^/:]+))?{_CHOICE}(?:/(?P<metadata>metadata))?", _FLAGS)
_MAX_VERSION = 2**63 - 1
# Protocol Buffers 5 renames the first; 4 is what TensorFlow 2.16 allows.
_EVERY_FIELD: dict[str, Any] = {"including_default_value_fields": True, "preserving_proto_field_name": True}


def create_app(manager: ModelManager) -> FastAPI:
    """The ASGI application; every path under /v1 is answered with JSON, errors as {"error": ".."}."""
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)

    @app.api_route("/v1/{path:path}", methods=["GET", "POST", "PUT", "DELETE", "PATCH"], include_in_schema=False)
    async def answer(request: Request) -> Response:
        body = await request.body()
        # Undecoded: %3A and %2F in a model's name aren't the separators.
        path = request.scope.get("raw_path", request.url.path.encode()).decode("latin-1").partition("?")[0]
        # The call blocks in TensorFlow, so it runs beside the event loop.
        status, content = await run_in_threadpool(handle, manager, request.method, path, body)
        return Response(content, status, media_type="application/json")

    return app


def handle(manager: ModelManager, method: str, path: str, body: bytes) -> tuple[int, str]:
    """Answers one request.

    Args:
      manager: Holds the models.
      method: GET or POST.
      path: Still percent-encoded, without the query.
      body: Of a POST.

    Returns:
      The HTTP status and the JSON text.
    """
    try:
        return 200, _dispatch(manager, method, path, body)
    except ServingError as error:
        failure = error
    except Exception as error:  # Whatever it is, the client gets a status and the server goes on.
        log.exception("%s %s failed", method, path)
        failure = from_exception(error)
    return failure.http_status, json.dumps({"error": failure.message}, ensure_ascii=False)


def _dispatch(manager: ModelManager, method: str, path: str, body: bytes) -> str:
    if method == "POST" and (call := _CALL.fullmatch(path)):
        spec = _model_spec(call)
        if call["method"].lower() != "predict":
            raise ServingError(
                grpc.StatusCode.UNIMPLEMENTED, f"{call['method']} is not implemented: use {call['name']}:predict"
            )
        return _predict(manager, spec, body)
    if method == "GET" and (found := _STATUS.fullmatch(path)):
        if not found["name"]:
            raise invalid_argument("Missing model name in request.")
        spec = _model_spec(found)
        return _metadata(manager, spec) if found["metadata"] else _status(manager, spec)
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


def _predict(manager: ModelManager, spec: model_pb2.ModelSpec, body: bytes) -> str:
    document = parse_body(body)
    name = document.get("signature_name", "")
    with service.lease(manager, spec) as loaded:
        signature = loaded.signature(name)
        if signature is None:
            # INVALID_ARGUMENT here, FAILED_PRECONDITION over gRPC: TF Serving's two front ends differ.
            raise invalid_argument(f'Serving signature name: "{name or DEFAULT_SIGNATURE}" not found in signature def')
        if not signature.inputs:
            raise invalid_argument(f"Failed to get input map for signature: {name or 'DEFAULT'}")
        inputs, by_row = decode_inputs(document, signature.inputs)
        outputs = signature(inputs)
    return encode_outputs(outputs, by_row)


def _status(manager: ModelManager, spec: model_pb2.ModelSpec) -> str:
    return json.dumps(
        _to_dict(service.model_status(manager, get_model_status_pb2.GetModelStatusRequest(model_spec=spec)))
    )


def _metadata(manager: ModelManager, spec: model_pb2.ModelSpec) -> str:
    request = get_model_metadata_pb2.GetModelMetadataRequest(model_spec=spec, metadata_field=[service.SIGNATURE_DEF])
    response = service.model_metadata(manager, request)
    definitions = get_model_metadata_pb2.SignatureDefMap()
    response.metadata[service.SIGNATURE_DEF].Unpack(definitions)
    return json.dumps(
        {"model_spec": _to_dict(response.model_spec), "metadata": {service.SIGNATURE_DEF: _to_dict(definitions)}}
    )


def _to_dict(message: Message) -> dict[str, Any]:
    return json_format.MessageToDict(message, **_EVERY_FIELD)
