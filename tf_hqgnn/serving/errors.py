"""Errors as TF Serving gives them: a gRPC status code, and the HTTP status that its REST server derives from it."""

from __future__ import annotations

import re

import grpc
import tensorflow as tf

# TF Serving, model_servers/http_server.cc, ToHTTPStatusCode.
_HTTP_STATUS = {
    grpc.StatusCode.OK: 200,
    grpc.StatusCode.CANCELLED: 499,
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.FAILED_PRECONDITION: 400,
    grpc.StatusCode.OUT_OF_RANGE: 400,
    grpc.StatusCode.UNAUTHENTICATED: 401,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.ALREADY_EXISTS: 409,
    grpc.StatusCode.ABORTED: 409,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.UNIMPLEMENTED: 501,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
}
_CODES = {code.value[0]: code for code in grpc.StatusCode}
# gRPC sends the message in a header, and refuses headers beyond 8 KiB.
_MAX_MESSAGE = 2000
_NODE_LIST = re.compile(r"\s*\[\[.*", re.DOTALL)
_FUNCTION = re.compile(r"^\s*\{\{function_node [^}]*\}\}\s*")
_STACK = re.compile(r"^.*<stack traces unavailable>\s*|^Graph execution error:\s*", re.DOTALL)


class ServingError(Exception):
    """A request or a load that failed.

    Args:
      code: The gRPC status code that the client sees.
      message: What came, what was expected.

    >>> error = ServingError(grpc.StatusCode.NOT_FOUND, "Could not find any versions of model x")
    >>> error.http_status, error.number
    (404, 5)
    """

    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message

    @property
    def http_status(self) -> int:
        """The status of TF Serving's REST answer."""
        return _HTTP_STATUS.get(self.code, 500)

    @property
    def number(self) -> int:
        """The code as a number, the same in gRPC, TensorFlow and GetModelStatus."""
        return self.code.value[0]


def invalid_argument(message: str) -> ServingError:
    """The error of a request that can never succeed."""
    return ServingError(grpc.StatusCode.INVALID_ARGUMENT, message)


def not_found(message: str) -> ServingError:
    """The error of a model or version that isn't served."""
    return ServingError(grpc.StatusCode.NOT_FOUND, message)


def from_exception(error: Exception) -> ServingError:
    """`error` under its gRPC code: TensorFlow's own code, or INTERNAL for what nobody foresaw.

    Where an op quotes bytes of the request that aren't UTF-8, TensorFlow's Python can't make its error of the message
    and raises a UnicodeDecodeError, without the code, in its place.
    """
    if isinstance(error, ServingError):
        return error
    if isinstance(error, UnicodeDecodeError):
        return invalid_argument(_readable(error.object.decode("utf-8", "replace")))
    if isinstance(error, tf.errors.OpError):
        return ServingError(_CODES.get(error.error_code, grpc.StatusCode.UNKNOWN), _readable(error.message))
    return ServingError(grpc.StatusCode.INTERNAL, _shorten(f"{type(error).__name__}: {error}"))


def _readable(message: str) -> str:
    """TensorFlow's message without the stack and the list of graph nodes around it."""
    return _shorten(_NODE_LIST.sub("", _FUNCTION.sub("", _STACK.sub("", message))).strip() or message)


def _shorten(message: str) -> str:
    return message if len(message) <= _MAX_MESSAGE else f"{message[:_MAX_MESSAGE]}... ({len(message)} characters)"
