"""The REST port: takes connections up to a number, leaves those that have waited longest, and stops without resets."""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from typing import Any, Callable, Sequence

from tf_hqgnn.serving.addresses import listen
from tf_hqgnn.serving.byte_budget import ByteBudget
from tf_hqgnn.serving.event_loop import EventLoopThread
from tf_hqgnn.serving.http_connection import READ_BYTES, Application, HttpConnection, Timeouts
from tf_hqgnn.serving.http_message import HttpError

log = logging.getLogger(__name__)

# A client that got an answer so lately may be sending its next request, which is waited for before the end.
DRAIN_SECONDS = 0.5
_TOO_MANY = HttpError(503, "the server has as many connections as it may, and this one has waited longest: try again")
_TOO_LARGE = HttpError(
    503, "the server holds as many bytes as it may, and this request is the largest: try again later"
)
_STOPPING = HttpError(503, "the server is stopping, and the request hasn't arrived in time")
_WARNING_SECONDS = 10.0
# Accepted at a time, before others get their turn.
_BURST = 32


class HttpServer:
    """Serves an application on a port that is taken at once, so that a clash shows before anything is loaded.

    Args:
      addresses: Numeric addresses of this machine, all listened on.
      port: 0 picks a free one.
      max_connections: Beyond them the connection that has waited longest for its client is closed for a new one.
      budget: What the bytes of requests and answers are taken from.
      timeouts: How long clients may take; None for the defaults.
      what: What is served, as errors name it.
      option: Of the command line, by which another port is chosen.

    Raises:
      InputError: The port is in use, or an address isn't this machine's.
    """

    def __init__(
        self,
        addresses: Sequence[str],
        port: int,
        max_connections: int,
        budget: ByteBudget,
        timeouts: Timeouts | None = None,
        what: str = "REST",
        option: str = "--rest-port",
    ) -> None:
        self._listeners = listen(addresses, port, what, option)
        self.port: int = self._listeners[0].getsockname()[1]
        self._max_connections = max_connections
        self._budget = budget
        self._timeouts = timeouts or Timeouts()
        self._tasks: set[asyncio.Task[None]] = set()
        self._connections: set[HttpConnection] = set()
        # Those without a request that is being answered; the one that has waited longest is the first.
        self._waiting: dict[HttpConnection, None] = {}
        self._connecting = 0
        self._draining = False
        self._last_warning = float("-inf")
        self._thread: EventLoopThread | None = None

    def start(self, application: Application) -> None:
        """Takes requests from now on."""
        self._application = application
        self._thread = EventLoopThread("rest", self._report)
        self._thread.run(self._start())

    def stop(self, deadline: float) -> None:
        """Answers what has arrived, closes every connection by `deadline` of `time.monotonic`, and ends the thread."""
        if self._thread is not None:
            self._thread.run(self._stop(deadline))
            self._thread.end()
            self._thread = None
        for listener in self._listeners:
            listener.close()

    @property
    def open_connections(self) -> int:
        """How many connections there are."""
        return len(self._tasks)

    def is_working(self, connection: HttpConnection) -> None:
        """See `Owner`."""
        self._waiting.pop(connection, None)

    def is_waiting(self, connection: HttpConnection) -> None:
        """See `Owner`."""
        self._waiting[connection] = None

    def free_bytes(self, asking: HttpConnection) -> bool:
        """See `Owner`."""
        largest = max(self._waiting, key=lambda connection: connection.held_bytes, default=asking)
        if largest is asking or not largest.held_bytes:
            return False
        self._leave(largest, _TOO_LARGE)
        return True

    async def _start(self) -> None:
        for listener in self._listeners:
            self._listen_to(listener)

    def _listen_to(self, listener: socket.socket) -> None:
        if not self._draining:
            asyncio.get_running_loop().add_reader(listener, self._accept, listener)

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(_BURST):
            try:
                accepted, _ = listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                self._warn("REST can't take a connection: %s", error.strerror or error)
                self._make_room()
                loop = asyncio.get_running_loop()
                loop.remove_reader(listener)
                loop.call_later(0.1, self._listen_to, listener)
                return
            self._welcome(accepted)

    def _welcome(self, accepted: socket.socket) -> None:
        if len(self._tasks) >= self._max_connections:
            self._warn("REST has %d connections, as many as it may: those idle longest are closed", len(self._tasks))
            if not self._make_room():
                if self._connecting:
                    # These have waited longer, and are known in a moment.
                    asyncio.get_running_loop().call_soon(self._welcome, accepted)
                else:
                    accepted.close()
                return
        self._connecting += 1
        task = asyncio.ensure_future(self._serve(accepted))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, accepted: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(READ_BYTES, loop)
        protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
        accepted.setblocking(False)
        try:
            transport, _ = await loop.connect_accepted_socket(lambda: protocol, accepted)
        except OSError:
            accepted.close()
            return
        finally:
            self._connecting -= 1
        # asyncio reads 256 KiB at a time otherwise, which every connection could hold unasked.
        transport.max_size = READ_BYTES  # type: ignore[attr-defined]
        writer = asyncio.StreamWriter(transport, protocol, reader, loop)
        connection = HttpConnection(reader, writer, self._application, self, self._timeouts, self._budget)
        connection.closes_after_answer = self._draining
        self._connections.add(connection)
        self.is_waiting(connection)
        try:
            await connection.serve()
        finally:
            self._connections.discard(connection)
            self._waiting.pop(connection, None)

    def _make_room(self) -> bool:
        """Leaves the connection that has waited longest; False if all are being answered."""
        oldest = next(iter(self._waiting), None)
        if oldest is None:
            return False
        self._leave(oldest, _TOO_MANY)
        return True

    def _leave(self, connection: HttpConnection, error: HttpError) -> None:
        self._waiting.pop(connection, None)
        connection.leave(error)

    async def _stop(self, deadline: float) -> None:
        self._draining = True
        for connection in self._connections:
            connection.closes_after_answer = True
        self._close_listeners()
        # Connections just taken get as far as to be known.
        await _wait_while(lambda: bool(self._connecting), deadline)
        await _wait_while(self._is_busy, deadline)
        for connection in list(self._waiting):
            self._leave(connection, _STOPPING)
        await _wait_while(lambda: bool(self._tasks), deadline)
        tasks = list(self._tasks)
        for connection in list(self._connections):
            connection.abort()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _close_listeners(self) -> None:
        """Takes first what the kernel has accepted already, and would reset."""
        while self._listeners:
            listener = self._listeners.pop()
            asyncio.get_running_loop().remove_reader(listener)
            while True:
                try:
                    accepted, _ = listener.accept()
                except OSError:
                    break
                self._welcome(accepted)
            listener.close()

    def _is_busy(self) -> bool:
        """Whether a request is being answered or may be on its way."""
        recently = asyncio.get_running_loop().time() - DRAIN_SECONDS
        return any(one.is_working or one.is_sending or one.last_answer > recently for one in self._connections)

    def _warn(self, message: str, *arguments: object) -> None:
        """Logs it unless something was logged a moment ago: whoever makes the noise may make it without end."""
        now = time.monotonic()
        if now - self._last_warning >= _WARNING_SECONDS:
            self._last_warning = now
            log.warning(message, *arguments)

    def _report(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        del loop
        self._warn("REST: %s: %r", context.get("message"), context.get("exception"))


async def _wait_while(condition: Callable[[], bool], deadline: float) -> None:
    while condition() and time.monotonic() < deadline:
        await asyncio.sleep(0.01)
