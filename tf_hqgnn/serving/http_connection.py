"""One connection of HTTP: reads whole requests within their time, has them answered, and closes without a reset."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import Any, Iterator, Protocol

import h11

from tf_hqgnn.serving.byte_budget import ByteBudget
from tf_hqgnn.serving.http_encoding import decoder
from tf_hqgnn.serving.http_message import MAX_HEAD_BYTES, Head, HttpError, Response, read_head, render

# Small, so that what one client sends at once doesn't hold the event loop for long.
READ_BYTES = 16 << 10
# Chunks of a few bytes cost time without end: so many are free, then each must bring its share of the body.
_FREE_CHUNKS = 1000
_BYTES_PER_CHUNK = 64


@dataclass(frozen=True)
class Timeouts:
    """Seconds that a client may take, each > 0.

    Args:
      idle: Between two requests of a connection.
      head: For the first line and the headers, from their first byte (on a new connection, from its beginning).
      body: For the body, from the end of the headers.
      answer: To take an answer.
      linger: To stop sending after an answer that ends the connection.
    """

    idle: float = 60.0
    head: float = 10.0
    body: float = 30.0
    answer: float = 30.0
    linger: float = 2.0


class Application(Protocol):
    """What answers the requests of a server."""

    @property
    def max_body_bytes(self) -> int:
        """The largest body that is read."""

    def check(self, head: Head) -> None:
        """Raises HttpError for a request whose body needn't be read."""

    async def answer(self, head: Head, body: bytes) -> Response:
        """Answers a whole request; never raises."""

    def refuse(self, head: Head | None, error: HttpError) -> Response:
        """The answer to a request that isn't whole or not allowed; `head` is None if it couldn't be read."""


class Owner(Protocol):
    """What a connection tells its server, and asks of it."""

    def is_working(self, connection: HttpConnection) -> None:
        """A whole request has arrived at the connection."""

    def is_waiting(self, connection: HttpConnection) -> None:
        """The connection waits for its client, which is to take an answer or to send a request."""

    def free_bytes(self, asking: HttpConnection) -> bool:
        """Ends the connection that holds most; False if that is the one that asks, or none holds anything."""


class Gone(Exception):
    """The client has left, or is left."""


class HttpConnection:
    """Reads and answers the requests of one client, one after the other.

    Args:
      reader: Of the connection.
      writer: Of the connection.
      application: Answers.
      owner: The server.
      timeouts: How long the client may take.
      budget: What the bytes that are held for the client are taken from.

    Attributes:
      held_bytes: What of the budget is held.
      is_working: Whether a whole request has arrived whose answer isn't on its way yet.
      is_sending: Whether an answer is on its way.
      last_answer: When the last answer was taken, by the loop's clock.
      closes_after_answer: To be set where no further request should be read.
    """

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        application: Application,
        owner: Owner,
        timeouts: Timeouts,
        budget: ByteBudget,
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._application = application
        self._owner = owner
        self._timeouts = timeouts
        self._budget = budget
        self._loop = asyncio.get_running_loop()
        self._unread = b""
        self._ended = False
        self._has_begun_request = False
        self.held_bytes = 0
        self.is_working = False
        self.is_sending = False
        self.last_answer = float("-inf")
        self.closes_after_answer = False
        # An answer is on its way until the kernel has all of it.
        writer.transport.set_write_buffer_limits(high=0)

    async def serve(self) -> None:
        """Answers until the client leaves, takes too long, or is left; raises nothing."""
        try:
            seconds = self._timeouts.head
            while await self._answer_one(seconds):
                seconds = self._timeouts.idle
            await self._linger()
        except (Gone, HttpError, OSError):
            pass
        finally:
            self._give_all()
            self._writer.close()
            # A client that takes nothing may not keep it open.
            self._loop.call_later(self._timeouts.linger, self.abort)

    def leave(self, error: HttpError) -> None:
        """Ends the connection, with `error` as the answer to a request that has begun; not while one is answered."""
        if self.is_working:
            self.closes_after_answer = True
        elif self.is_sending:
            self._give_all()
            self.abort()
        elif self._reader.exception() is None:
            # At once: whoever needs them doesn't end more connections than it must.
            self._give_all()
            self._reader.set_exception(error if self._has_begun_request else Gone())
            self._loop.call_later(1.0, self.abort)

    def abort(self) -> None:
        """Cuts the connection, whatever it does."""
        self._writer.transport.abort()

    async def _answer_one(self, seconds: float) -> bool:
        """Answers the request that begins within `seconds`; whether the connection stays open."""
        head: Head | None = None
        parser = h11.Connection(h11.SERVER, MAX_HEAD_BYTES)
        try:
            head = await self._read_head(parser, seconds)
            self._application.check(head)
            body = await self._read_body(parser, head)
        except HttpError as error:
            await self._send(self._application.refuse(head, error), head, close=True)
            return False
        self._unread = parser.trailing_data[0]
        self.is_working = True
        self._owner.is_working(self)
        try:
            response = await self._application.answer(head, body)
        finally:
            self.is_working = False
            self._has_begun_request = False
        del body
        self._give_all()
        self._owner.is_waiting(self)
        stays = head.keeps_alive and not self.closes_after_answer
        await self._send(response, head, close=not stays)
        self.last_answer = self._loop.time()
        return stays

    async def _read_head(self, parser: h11.Connection, seconds: float) -> Head:
        data = self._unread
        if not data:
            with self._within(seconds, Gone()):
                data = await self._some()
        self._has_begun_request = True
        # Some clients send an empty line after a body.
        parser.receive_data(data.lstrip(b"\r\n"))
        late = HttpError(408, f"the headers of the request didn't arrive within {self._timeouts.head:g} s")
        with self._within(self._timeouts.head, late):
            event = await self._next_event(parser)
        if not isinstance(event, h11.Request):
            raise Gone
        return read_head(event)

    async def _read_body(self, parser: h11.Connection, head: Head) -> bytes:
        limit, read = self._application.max_body_bytes, decoder(head)
        too_large = HttpError(400, f"the request is larger than {limit} bytes: split it")
        if head.content_length > limit:
            raise too_large
        body = bytearray()
        chunks = 0
        late = HttpError(408, f"the body of the request didn't arrive within {self._timeouts.body:g} s")
        with self._within(self._timeouts.body, late):
            while isinstance(event := await self._next_event(parser), h11.Data):
                chunks += 1
                if chunks > _FREE_CHUNKS + len(body) // _BYTES_PER_CHUNK:
                    raise HttpError(
                        400, f"the body comes in chunks of less than {_BYTES_PER_CHUNK} bytes: enlarge them"
                    )
                for number, piece in enumerate(read.pieces(event.data)):
                    if len(body) + len(piece) > limit:
                        raise too_large
                    self._take(len(piece))
                    body += piece
                    if number:
                        # Few bytes may stand for many: others get their turn between them.
                        await asyncio.sleep(0)
        if not isinstance(event, h11.EndOfMessage):
            raise Gone
        read.end()
        return bytes(body)

    async def _next_event(self, parser: h11.Connection) -> Any:
        while True:
            try:
                event = parser.next_event()
            except (h11.RemoteProtocolError, ValueError) as error:
                if self._ended:
                    raise Gone from error
                raise HttpError(400, f"Malformed request: {error}") from error
            if event is not h11.NEED_DATA:
                return event
            if parser.they_are_waiting_for_100_continue:
                self._writer.write(parser.send(h11.InformationalResponse(status_code=100, headers=[])) or b"")
            parser.receive_data(await self._some())

    async def _some(self) -> bytes:
        """What has arrived, nothing at the end of what the client sends."""
        # Data that is there already is handed out without a pause: others get their turn here.
        await asyncio.sleep(0)
        data = await self._reader.read(READ_BYTES)
        if not data:
            if self._ended:
                raise Gone
            self._ended = True
        return data

    def _take(self, count: int) -> None:
        while not self._budget.take(count):
            if not self._owner.free_bytes(self):
                raise HttpError(
                    503, "the server holds as many bytes of requests and answers as it may: try again later"
                )
        self.held_bytes += count

    def _give_all(self) -> None:
        self._budget.give(self.held_bytes)
        self.held_bytes = 0

    async def _send(self, response: Response, head: Head | None, close: bool) -> None:
        """Sends an answer; returns when the kernel has it."""
        content = render(response, head, close)
        try:
            self._take(len(content))
        except HttpError as error:
            content = render(self._application.refuse(head, error), head, close)
        self.is_sending = True
        timer = self._loop.call_later(self._timeouts.answer, self.abort)
        try:
            self._writer.write(content)
            # drain() would raise what ended the reading; closing sends what is left.
            if self._reader.exception() is None:
                await self._writer.drain()
        finally:
            timer.cancel()
            self.is_sending = False
            self._give_all()

    async def _linger(self) -> None:
        """Ends our side and waits for the client's end: closing while it sends would take the answer from it."""
        if self._ended or self._reader.exception() is not None:
            return
        self._writer.write_eof()
        with self._within(self._timeouts.linger, Gone()):
            while await self._some():
                pass

    @contextlib.contextmanager
    def _within(self, seconds: float, error: Exception) -> Iterator[None]:
        """Has the block's reading raise `error` after `seconds`."""
        timer = self._loop.call_later(seconds, self._reader.set_exception, error)
        try:
            yield
        finally:
            timer.cancel()
