"""HTTP/1.0 and 1.1 messages: h11 reads requests, answers are one text with its length.

Every request has a parser of its own: h11 ends each connection of HTTP/1.0, also where the client asks to keep it.

Reference: RFC 9112.
"""

from __future__ import annotations

import http
import re
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Mapping

import h11

# Of a request line with its headers, and of a line before a chunk.
MAX_HEAD_BYTES = 16 << 10
_ABSOLUTE = re.compile(r"https?://([^/?#]*)([^?#]*)", re.IGNORECASE)


class HttpError(Exception):
    """A request that is refused for what it is on the wire.

    Args:
      status: The HTTP status of the answer.
      message: What came, what was expected.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


@dataclass(frozen=True)
class Head:
    """What stands before the body of a request.

    Args:
      method: Such as GET, in upper case as a rule.
      path: Still percent-encoded, without scheme, host and query.
      host: As in the Host header or the absolute URL, with port; None if neither is there, as HTTP/1.0 allows.
      headers: By lower-case name; the values of a repeated one are joined by ", ".
      version: "1.0" or "1.1".
    """

    method: str
    path: str
    host: str | None
    headers: dict[str, str]
    version: str = "1.1"

    @property
    def keeps_alive(self) -> bool:
        """Whether the client wants the connection to stay open."""
        tokens = {token.strip().lower() for token in self.headers.get("connection", "").split(",")}
        return "close" not in tokens and (self.version != "1.0" or "keep-alive" in tokens)

    @property
    def content_length(self) -> int:
        """The stated length of the body, 0 if there is none; h11 has checked that it is a number."""
        return int(self.headers.get("content-length", "0"))


@dataclass(frozen=True)
class Response:
    """An answer.

    Args:
      status: The HTTP status.
      body: Its content.
      content_type: The media type of the content.
      headers: Further headers by their names; latin-1, without line ends.
    """

    status: int
    body: bytes
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)


def read_head(request: h11.Request) -> Head:
    """The head of a request.

    Raises:
      HttpError: 400 for a version that isn't 1.0 or 1.1, for a head that is too long, and for two statements of the
        body's length: a proxy before the server may believe the other one.
    """
    version = request.http_version.decode("latin-1")
    if version not in ("1.0", "1.1"):
        raise HttpError(400, f"HTTP/{version} isn't spoken here: use HTTP/1.1")
    size = len(request.target) + sum(len(name) + len(value) + 4 for name, value in request.headers)
    if size > MAX_HEAD_BYTES:
        raise HttpError(400, f"the path and the headers have {size} bytes: at most {MAX_HEAD_BYTES} are read")
    headers: dict[str, str] = {}
    for name, value in request.headers:
        key, text = name.decode("latin-1"), value.decode("latin-1")
        headers[key] = f"{headers[key]}, {text}" if key in headers else text
    if "transfer-encoding" in headers and ("content-length" in headers or version == "1.0"):
        raise HttpError(
            400, "Transfer-Encoding can't be combined with Content-Length or HTTP/1.0: send only one length"
        )
    target, host = request.target.decode("latin-1"), headers.get("host")
    if absolute := _ABSOLUTE.match(target):
        host, target = absolute[1], absolute[2] or "/"
    path = target.partition("?")[0]
    return Head(request.method.decode("latin-1"), path, host, headers, version)


def render(response: Response, head: Head | None, close: bool) -> bytes:
    r"""The bytes of an answer to the request with that head (None if it couldn't be read).

    >>> print(render(Response(200, b"{}"), None, close=True).decode().replace("\r", "").partition("Date")[0])
    HTTP/1.1 200 OK
    Content-Type: application/json
    Content-Length: 2
    Connection: close
    <BLANKLINE>
    """
    phrase = http.HTTPStatus(response.status).phrase if response.status in _STATUSES else "Error"
    lines = [
        f"HTTP/1.1 {response.status} {phrase}",
        f"Content-Type: {response.content_type}",
        f"Content-Length: {len(response.body)}",
        *(f"{name}: {value}" for name, value in response.headers.items()),
    ]
    if close:
        lines.append("Connection: close")
    elif head is not None and head.version == "1.0":
        lines.append("Connection: keep-alive")
    lines.append(f"Date: {formatdate(usegmt=True)}")
    text = "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"
    return text if head is not None and head.method == "HEAD" else text + response.body


_STATUSES = frozenset(status.value for status in http.HTTPStatus)
