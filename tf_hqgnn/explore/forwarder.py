"""Passes calls on to a TF Serving elsewhere, within limits of time and size."""

from __future__ import annotations

import asyncio
import json
import re
import socket
from dataclasses import dataclass
from typing import NamedTuple

import h11

from tf_hqgnn.explore.responses import error_response
from tf_hqgnn.serving.addresses import url_host
from tf_hqgnn.serving.http_message import Head, HttpError, Response
from tf_hqgnn.types import InputError

_CONNECT_SECONDS = 3.0
_ANSWER_SECONDS = 30.0
_MAX_BYTES = 16 << 20
# Each holds a connection to the server, and its answer in memory.
_MAX_UNDER_WAY = 32
_READ_BYTES = 64 << 10
# What TF Serving's REST has: nothing else of that host can be reached through the page.
_PATHS = re.compile(r"/v1/models/[^/:?#]+(?:/(?:versions|labels)/[^/:?#]+)?(?P<end>:predict|/metadata)?")
_NOT_REST = "is that TF Serving's REST port (8501 as a rule, 8500 is gRPC's)?"


class Address(NamedTuple):
    """Where a server listens.

    Args:
      host: a name or a numeric address, an IPv6 one without brackets.
      port: from 1 to 65535.
    """

    host: str
    port: int

    def __str__(self) -> str:
        return f"{url_host(self.host)}:{self.port}"

    @classmethod
    def parse(cls, text: str) -> Address:
        """Return the address that HOST:PORT stands for; "http://" before it and "/" behind it may be there.

        Raises:
          InputError: It isn't of that form.

        >>> str(Address.parse("http://[::1]:8501/"))
        '[::1]:8501'
        """
        plain = re.sub(r"\Ahttp://|/\Z", "", text, flags=re.IGNORECASE)
        match = re.fullmatch(r"(?:\[([0-9a-fA-F:.%]+)\]|([\w.-]+)):(\d{1,5})", plain)
        if match is None or not 1 <= int(match[3]) <= 65535:
            raise InputError(
                f"--server {text!r}: expected HOST:PORT of TF Serving's REST interface, such as localhost:8501; it has "
                "no TLS"
            )
        return cls(match[1] or match[2], int(match[3]))


class _Failure(Exception):
    """A call that got no answer that can be passed on; the message says why."""


@dataclass
class Forwarder:
    """The application that answers by asking another server.

    Args:
      address: of TF Serving's REST interface.
      connect_seconds: a connection may take, > 0.
      answer_seconds: the whole call may take, > 0.
    """

    address: Address
    connect_seconds: float = _CONNECT_SECONDS
    answer_seconds: float = _ANSWER_SECONDS
    max_body_bytes: int = _MAX_BYTES
    _under_way: int = 0

    def check(self, head: Head) -> None:
        """Allow every request: the application in front has checked who sends it."""

    def refuse(self, head: Head | None, error: HttpError) -> Response:
        """Return the answer to a request that isn't whole."""
        del head
        return error_response(error.status, error.message)

    async def answer(self, head: Head, body: bytes) -> Response:
        """Answer a whole request with what the other server answers; raises nothing."""
        match = _PATHS.fullmatch(head.path)
        if match is None or head.method != ("POST" if match["end"] == ":predict" else "GET"):
            return error_response(404, f"Malformed request: {head.method[:20]} {head.path[:200]}")
        if self._under_way >= _MAX_UNDER_WAY:
            return error_response(503, f"{self._under_way} calls of {self.address} are under way: try again later")
        self._under_way += 1
        try:
            return await asyncio.wait_for(self._ask(head, body), self.answer_seconds)
        except asyncio.TimeoutError:
            return error_response(504, f"{self.address} hasn't answered within {self.answer_seconds:g} seconds")
        except _Failure as failure:
            return error_response(502, str(failure))
        except h11.RemoteProtocolError:
            return error_response(502, f"{self.address} doesn't answer in HTTP/1.1: {_NOT_REST}")
        except OSError as error:
            return error_response(502, f"the connection to {self.address} broke: {error.strerror or error}")
        finally:
            self._under_way -= 1

    async def _ask(self, head: Head, body: bytes) -> Response:
        reader, writer = await self._connect()
        try:
            parser = h11.Connection(h11.CLIENT)
            headers = [("Host", str(self.address)), ("Connection", "close"), ("Accept", "application/json")]
            if head.method == "POST":
                headers += [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
            sent = [h11.Request(method=head.method, target=head.path, headers=headers), h11.EndOfMessage()]
            if head.method == "POST":
                sent.insert(1, h11.Data(data=body))
            writer.write(b"".join(parser.send(event) or b"" for event in sent))
            return await self._read(parser, reader)
        finally:
            writer.transport.abort()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        host, port = self.address
        try:
            return await asyncio.wait_for(asyncio.open_connection(host, port), self.connect_seconds)
        except asyncio.TimeoutError as error:
            raise _Failure(f"{self.address} takes no connection within {self.connect_seconds:g} seconds") from error
        except socket.gaierror as error:
            raise _Failure(f"no machine is known by the name {host}: {error.strerror}") from error
        except OSError as error:
            reason = "connection refused" if isinstance(error, ConnectionRefusedError) else error.strerror or error
            raise _Failure(f"nothing answers at {self.address}: {reason}") from error

    async def _read(self, parser: h11.Connection, reader: asyncio.StreamReader) -> Response:
        status, content = 0, bytearray()
        while True:
            event = parser.next_event()
            if event is h11.NEED_DATA:
                data = await reader.read(_READ_BYTES)
                if not data and not status:
                    raise _Failure(f"{self.address} closed the connection without an answer: {_NOT_REST}")
                parser.receive_data(data)
            elif isinstance(event, h11.Response):
                status = event.status_code
            elif isinstance(event, h11.Data):
                content += event.data
                if len(content) > _MAX_BYTES:
                    raise _Failure(f"{self.address} answers with more than {_MAX_BYTES >> 20} MiB")
            elif isinstance(event, (h11.EndOfMessage, h11.ConnectionClosed)):
                break
        if 300 <= status < 400 or not _is_json(content):
            raise _Failure(f"{self.address} answers with HTTP status {status} and no JSON: {_NOT_REST}")
        return Response(status, bytes(content))


def _is_json(content: bytearray) -> bool:
    try:
        return isinstance(json.loads(content), dict)
    except (ValueError, RecursionError):
        return False
