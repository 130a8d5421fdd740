"""TF Serving's REST interface.

GET /v1/models/NAME[/versions/V]             the state of the versions
GET /v1/models/NAME[/versions/V]/metadata    the signatures
POST /v1/models/NAME[/versions/V]:predict    a call, by row ("instances") or by column ("inputs")
GET /monitoring/prometheus/metrics           the metrics
OPTIONS                                      what pages of other sites may send, where some may

Bodies may be compressed (Content-Encoding: gzip).

/labels/L may stand for /versions/V.

Reference: TF Serving, model_servers/http_rest_api_util.cc (paths), http_rest_api_handler.cc (answers).
"""

from __future__ import annotations

import asyncio
import functools
import json
import logging
import re
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, Callable
from urllib.parse import unquote

import grpc
from google.protobuf import json_format
from google.protobuf.message import Message
from tensorflow_serving.apis import get_model_metadata_pb2, get_model_status_pb2, model_pb2

from tf_hqgnn.export.layout import DEFAULT_SIGNATURE
from tf_hqgnn.serving.addresses import AllowedHosts
from tf_hqgnn.serving.batching import deadline_exceeded
from tf_hqgnn.serving.config_files import PROMETHEUS_PATH
from tf_hqgnn.serving.cors import AllowedOrigins
from tf_hqgnn.serving.errors import ServingError, from_exception, invalid_argument, printable
from tf_hqgnn.serving.http_message import Head, HttpError, Response
from tf_hqgnn.serving.json_request import decode_inputs, parse_body
from tf_hqgnn.serving.json_response import encode_outputs
from tf_hqgnn.serving.metrics import CONTENT_TYPE
from tf_hqgnn.serving.service import SIGNATURE_DEF, Service, lease, model_metadata, model_status
from tf_hqgnn.serving.signature import Signature

log = logging.getLogger(__name__)

# As TF Serving's --rest_api_timeout_in_ms.
REQUEST_SECONDS = 30.0
# More calls aren't begun: each holds its body in memory. What isn't a call is always answered.
MAX_UNDER_WAY = 256
# A smaller body is read faster than it is handed to another thread.
_SMALL_BODY = 4096
_DECODING_THREADS = 4
_FLAGS = re.IGNORECASE | re.ASCII
_CHOICE = r"(?:/versions/(?P<version>\d+)|/labels/(?P<label>[^/:]+))?"
_CALL = re.compile(rf"/v1/models/(?P<name>[^/:]+){_CHOICE}:(?P<method>classify|regress|predict)", _FLAGS)
_STATUS = re.compile(rf"/v1/models(?:/(?P<name>[^/:]+))?{_CHOICE}(?:/(?P<metadata>metadata))?", _FLAGS)
_MAX_VERSION = 2**63 - 1
_JSON_TYPE = re.compile(r"application/(?:[\w.-]+\+)?json\s*(?:;.*)?", _FLAGS)
# Protocol Buffers 5 renames the first; 4 is what TensorFlow 2.16 allows.
_EVERY_FIELD: dict[str, Any] = {"including_default_value_fields": True, "preserving_proto_field_name": True}
# What the metrics call a request that is refused for what it is on the wire.
_CODES = {
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    408: grpc.StatusCode.DEADLINE_EXCEEDED,
    503: grpc.StatusCode.UNAVAILABLE,
}


class RestApi:
    """The application behind the REST port: everything is answered with JSON, errors as {"error": ".."}.

    Args:
      service: What answers.
      metrics_path: Where Prometheus reads; None for nowhere.
      hosts: The names under which the server may be called; None allows every name.
      origins: Whose web pages may call it; None allows none but those of the server itself.
    """

    def __init__(
        self,
        service: Service,
        metrics_path: str | None = PROMETHEUS_PATH,
        hosts: AllowedHosts | None = None,
        origins: AllowedOrigins | None = None,
    ) -> None:
        self._service = service
        self._metrics_path = metrics_path
        self._hosts = hosts or AllowedHosts(any_host=True)
        self._origins = origins or AllowedOrigins()
        self._under_way = 0
        self._decoders = ThreadPoolExecutor(_DECODING_THREADS, "json")

    @property
    def max_body_bytes(self) -> int:
        """The largest body that is read."""
        return self._service.limits.message_bytes

    def close(self) -> None:
        """Ends the threads that decode."""
        self._decoders.shutdown()

    def check(self, head: Head) -> None:
        """Refuses what a web page may send without its user's knowledge; see `check_sender`."""
        check_sender(head, self._hosts)

    async def answer(self, head: Head, body: bytes) -> Response:
        """Answers a whole request; raises nothing."""
        if self._origins and head.method == "OPTIONS":
            return Response(200, b"", headers=self._origins.preflight(head))
        answer = await self._answer(head, body)
        return replace(answer, headers=self._origins.headers(head))

    async def _answer(self, head: Head, body: bytes) -> Response:
        method = "GET" if head.method == "HEAD" else head.method
        if method == "GET" and head.path == self._metrics_path:
            return Response(200, self._service.metrics.render().encode(), CONTENT_TYPE)
        try:
            return Response(200, (await self._dispatch(method, head.path, body)).encode())
        except ServingError as error:
            return _error(error.http_status, error.message)
        except HttpError as error:
            return self.refuse(head, error)
        except Exception as error:  # Whatever it is, the client gets a status and the server goes on.
            log.exception("%s %.200r failed", method, head.path)
            failure = from_exception(error)
            return _error(failure.http_status, failure.message)

    def refuse(self, head: Head | None, error: HttpError) -> Response:
        """The answer to a request that isn't whole or not allowed, counted under its model as far as that is known."""
        call = None if head is None else _CALL.fullmatch(head.path)
        code = _CODES.get(error.status, grpc.StatusCode.INVALID_ARGUMENT)
        self._service.count("" if call is None else unquote(call["name"]), code)
        return replace(_error(error.status, error.message), headers=self._origins.headers(head))

    async def _dispatch(self, method: str, path: str, body: bytes) -> str:
        if method == "POST" and (call := _CALL.fullmatch(path)):
            spec = _model_spec(call)
            if call["method"].lower() != "predict":
                raise ServingError(
                    grpc.StatusCode.UNIMPLEMENTED, f"{call['method']} is not implemented: use {call['name']}:predict"
                )
            return await self._predict(spec, body)
        if method == "GET" and (found := _STATUS.fullmatch(path)):
            if not found["name"]:
                raise invalid_argument("Missing model name in request.")
            spec = _model_spec(found)
            return _metadata(self._service, spec) if found["metadata"] else _status(self._service, spec)
        message = f"Malformed request: {method[:20]} {path[:200]}"
        if re.match(r"/v1(?:/|$)", path, _FLAGS):
            raise invalid_argument(message)
        raise HttpError(404, message)

    async def _predict(self, spec: model_pb2.ModelSpec, body: bytes) -> str:
        deadline = time.monotonic() + REQUEST_SECONDS
        with self._service.observed(spec.name, "Predict", "REST") as request:
            if self._under_way >= MAX_UNDER_WAY:
                raise ServingError(
                    grpc.StatusCode.UNAVAILABLE, f"{self._under_way} requests are under way: try again later"
                )
            self._under_way += 1
            try:
                document = await self._decode(len(body), parse_body, body)
                with lease(self._service.manager, spec) as loaded:
                    name = document.get("signature_name", "") or DEFAULT_SIGNATURE
                    signature = _signature(loaded.signature, name)
                    request.signature = name
                    read = functools.partial(decode_inputs, limits=self._service.limits)
                    inputs, by_row = await self._decode(len(body), read, document, signature.inputs)
                    del document
                    finish = functools.partial(encode_outputs, by_row=by_row)
                    loop = asyncio.get_running_loop()
                    answer = self._service.submit(spec.name, signature, inputs, finish, deadline=deadline, loop=loop)
                    return str(await asyncio.wait_for(answer, deadline - time.monotonic()))
            except asyncio.TimeoutError as error:
                raise deadline_exceeded() from error
            finally:
                self._under_way -= 1

    async def _decode(self, size: int, decode: Callable[..., Any], *arguments: Any) -> Any:
        """What `decode` returns; for a large body a thread does it, and others are answered meanwhile."""
        if size <= _SMALL_BODY:
            return decode(*arguments)
        return await asyncio.get_running_loop().run_in_executor(self._decoders, decode, *arguments)


def check_sender(head: Head, hosts: AllowedHosts) -> None:
    """Refuse what a web page may send without its user's knowledge.

    Raises:
      HttpError: 403 for a host name that isn't served, 415 for a body that isn't said to be JSON.
    """
    if head.host is not None and not hosts.allows(head.host):
        raise HttpError(
            403,
            f"the host {head.host[:200]!r} isn't served here: call the server by a name of this machine's loopback "
            "interface, or start it with --allowed-hosts",
        )
    stated = head.headers.get("content-type")
    # Programs that state no type are fine; browsers state the page that made them send it.
    if head.method == "POST" and not (
        "origin" not in head.headers if stated is None else _JSON_TYPE.fullmatch(stated.strip())
    ):
        raise HttpError(415, f"expected the header Content-Type: application/json, got {(stated or 'none')[:200]!r}")


def _error(status: int, message: str) -> Response:
    return Response(status, json.dumps({"error": message}).encode())


def _signature(find: Callable[[str], Signature | None], name: str) -> Signature:
    """The signature called `name`; INVALID_ARGUMENT if there is none: over gRPC TF Serving says FAILED_PRECONDITION."""
    signature = find(name)
    if signature is None:
        shown = printable(name or DEFAULT_SIGNATURE)
        raise invalid_argument(f'Serving signature name: "{shown}" not found in signature def')
    if not signature.inputs:
        raise invalid_argument(f"Failed to get input map for signature: {name or 'DEFAULT'}")
    return signature


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
