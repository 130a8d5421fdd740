"""Errors as TF Serving gives them: a gRPC status code, and the HTTP status that its REST server derives from it."""

from __future__ import annotations

import errno
import re

import grpc
import tensorflow as tf

from tf_hqgnn.types import UNSHOWABLE

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
# Codes of failures that say nothing about what was asked for, or loaded: the same may succeed later.
_TRANSIENT = {grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.ABORTED}
# What the system says when it lacks something, or a file system is away for a while.
_LACKING = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.ENOSPC, errno.EDQUOT, errno.EAGAIN}
_AWAY = {errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.ENOTCONN, errno.ECONNRESET, errno.EBUSY, errno.EINTR}
# gRPC sends the message in a header, in which a character takes up to 12 bytes, and refuses headers beyond 8 KiB.
_MAX_MESSAGE = 2000
_MAX_MESSAGE_NOT_ASCII = 500
_NODE_LIST = re.compile(r"\s*\[\[.*", re.DOTALL)
_FUNCTION = re.compile(r"^\s*\{\{function_node [^}]*\}\}\s*")
_STACK = re.compile(r"^.*<stack traces unavailable>\s*|^Graph execution error:\s*", re.DOTALL)


class ServingError(Exception):
    """A request or a load that failed.

    Args:
      code: The gRPC status code that the client sees.
      message: What came, what was expected. Cut if it is too long to be sent, its control characters written as
        escapes.

    >>> error = ServingError(grpc.StatusCode.NOT_FOUND, "Could not find any versions of model x")
    >>> error.http_status, error.number
    (404, 5)
    """

    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        self.code = code
        self.message = _sendable(message)
        super().__init__(self.message)

    @property
    def http_status(self) -> int:
        """The status of TF Serving's REST answer."""
        return _HTTP_STATUS.get(self.code, 500)

    @property
    def is_transient(self) -> bool:
        """Whether the same may succeed later: something was lacking, or in use."""
        return self.code in _TRANSIENT

    @property
    def number(self) -> int:
        """The code as a number, the same in gRPC, TensorFlow and GetModelStatus."""
        return int(self.code.value[0])


def invalid_argument(message: str) -> ServingError:
    """The error of a request that can never succeed."""
    return ServingError(grpc.StatusCode.INVALID_ARGUMENT, message)


def not_found(message: str) -> ServingError:
    """The error of a model or version that isn't served."""
    return ServingError(grpc.StatusCode.NOT_FOUND, message)


def printable(text: str, most: int = 200) -> str:
    r"""A name from elsewhere, as it may stand in a message or a log: not too long, control characters as escapes.

    >>> print(printable("a\nb"), printable("x" * 9000, most=4))
    a\nb xxxx... (9000 characters)
    """
    escaped = UNSHOWABLE.sub(_escape, text[:most])
    return escaped if len(text) <= most >= len(escaped) else f"{escaped[:most]}... ({len(text)} characters)"


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
        return ServingError(_CODES.get(error.error_code, grpc.StatusCode.UNKNOWN), _readable(str(error.message)))
    return ServingError(_code_of(error), f"{type(error).__name__}: {error}")


def _code_of(error: Exception) -> grpc.StatusCode:
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno in _LACKING):
        return grpc.StatusCode.RESOURCE_EXHAUSTED
    if isinstance(error, OSError) and error.errno in _AWAY:
        return grpc.StatusCode.UNAVAILABLE
    return grpc.StatusCode.INTERNAL


def _escape(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape", "surrogatepass").decode("ascii")


def _readable(message: str) -> str:
    """TensorFlow's message without the stack and the list of graph nodes around it."""
    return _NODE_LIST.sub("", _FUNCTION.sub("", _STACK.sub("", message))).strip() or message


def _sendable(message: str) -> str:
    return printable(message, _MAX_MESSAGE if message[:_MAX_MESSAGE].isascii() else _MAX_MESSAGE_NOT_ASCII)
