"""Every gRPC call passes here: whole requests only, so many at once, so many bytes, and none once the server stops.

gRPC's core has limits of its own, but it enforces them by cancelling calls, which clients don't try again. Each refusal
here says UNAVAILABLE or RESOURCE_EXHAUSTED, which they do.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from typing import Any, Awaitable, Callable, Iterable, TypeAlias

import grpc

from tf_hqgnn.serving.byte_budget import ByteBudget

Context: TypeAlias = grpc.aio.ServicerContext
_Handler: TypeAlias = grpc.RpcMethodHandler

# Whole calls that run or wait at once; gRPC's core begins to cancel at 1,000.
MAX_CALLS = 512
# Streams without end: watchers of health, and reflection.
MAX_STREAMS = 256
# Requests that are arriving. Beyond them the one that has taken longest is refused, unless all are young.
MAX_ARRIVING = 64
YOUNG_SECONDS = 0.5
# How long a request may take to arrive.
ARRIVAL_SECONDS = 10.0
# The time between two looks at what arrives, at most.
_LOOK_SECONDS = 1.0
# Calls are still answered for so long after the stop has begun: they were sent before their client could know.
LATE_SECONDS = 0.2
# Whoever asks how the server is gets an answer, however much else is under way.
_ALWAYS = ("/grpc.health.v1.Health/", "/tensorflow.serving.ModelService/GetModelStatus")


class CallGuard:
    """Wraps the handlers of a server; all its methods belong to the server's event loop.

    An interceptor would do the same, at a tenth of the time of a small call.

    Args:
      server: What the guarded services are added to.
      budget: What the bytes of requests are taken from.
      refused: Told the code of each call that is refused before it is read.

    Attributes:
      last_call: When the last call came, by `time.monotonic`.
    """

    def __init__(
        self, server: grpc.aio.Server, budget: ByteBudget, refused: Callable[[grpc.StatusCode], object]
    ) -> None:
        self._server = server
        self._budget = budget
        self._refused = refused
        self._arriving: dict[asyncio.Task[Any], float] = {}
        self._too_slow: set[asyncio.Task[Any]] = set()
        # Of the next look for requests that have taken too long: one for all, where one for each would cost each call.
        self._timer: asyncio.TimerHandle | None = None
        self._streams: set[asyncio.Future[Any]] = set()
        self._under_way = 0
        self._stopping_since = float("inf")
        self.last_call = float("-inf")

    @property
    def is_busy(self) -> bool:
        """Whether a whole call is under way."""
        return self._under_way > 0

    def begin_stop(self) -> None:
        """Has calls refused that come from now on, but for those that are on their way."""
        self._stopping_since = time.monotonic()

    def end_streams(self) -> None:
        """Ends what would never end by itself."""
        for stream in list(self._streams):
            stream.cancel()

    def add_generic_rpc_handlers(self, handlers: Iterable[grpc.GenericRpcHandler]) -> None:
        """Adds services to the server, guarded. Generated code (`add_.._to_server`) takes this guard for the server."""
        self._server.add_generic_rpc_handlers(tuple(_Guarded(handler, self._wrap) for handler in handlers))

    def add_registered_method_handlers(self, service: str, handlers: object) -> None:
        """Does nothing: newer generated code adds each method twice, and the generic handlers do."""

    def _wrap(self, method: str, handler: _Handler) -> _Handler:
        if not handler.request_streaming and not handler.response_streaming:
            return grpc.stream_unary_rpc_method_handler(self._whole(method, handler), None, handler.response_serializer)
        if handler.request_streaming and handler.response_streaming:
            behaviour, deserializer = self._stream(handler.stream_stream), handler.request_deserializer
        else:
            behaviour, deserializer = self._watch(handler), None
        return grpc.stream_stream_rpc_method_handler(behaviour, deserializer, handler.response_serializer)

    def _whole(self, method: str, handler: _Handler) -> Callable[[Any, Context], Awaitable[Any]]:
        """Answers a call of one request and one answer; as a streaming handler it runs before the request is there."""
        always = method.startswith(_ALWAYS)

        async def answer(_: Any, context: Context) -> Any:
            content = await self._arrival(context)
            if not always:
                if time.monotonic() > self._stopping_since + LATE_SECONDS:
                    await self._refuse(context, grpc.StatusCode.UNAVAILABLE, "the server is stopping")
                if self._under_way >= MAX_CALLS:
                    await self._refuse(
                        context, grpc.StatusCode.UNAVAILABLE, f"{self._under_way} calls are under way: try again later"
                    )
            size = len(content)
            if not self._budget.take(size):
                await self._refuse(
                    context,
                    grpc.StatusCode.RESOURCE_EXHAUSTED,
                    "the server holds as many bytes of requests as it may: try again later",
                )
            self._under_way += 1
            try:
                request = handler.request_deserializer(content)
                del content
                return await handler.unary_unary(request, context)
            finally:
                self._under_way -= 1
                self._budget.give(size)

        return answer

    def _watch(self, handler: _Handler) -> Callable[[Any, Context], Awaitable[None]]:
        """Answers one request with a stream of answers."""
        stream = self._stream(handler.unary_stream)

        async def answer(_: Any, context: Context) -> None:
            await stream(handler.request_deserializer(await self._arrival(context)), context)

        return answer

    def _stream(self, behaviour: Callable[[Any, Context], Any]) -> Callable[[Any, Context], Awaitable[None]]:
        """Runs a streaming handler until it or the server ends."""

        async def write_all(requests: Any, context: Context) -> None:
            if not inspect.isasyncgenfunction(behaviour):
                await behaviour(requests, context)
                return
            async for answer in behaviour(requests, context):
                await context.write(answer)

        async def answer(requests: Any, context: Context) -> None:
            if self._stopping_since != float("inf"):
                await self._refuse(context, grpc.StatusCode.UNAVAILABLE, "the server is stopping")
            if len(self._streams) >= MAX_STREAMS:
                await self._refuse(
                    context, grpc.StatusCode.RESOURCE_EXHAUSTED, f"{MAX_STREAMS} streams are open: try again later"
                )
            running = asyncio.ensure_future(write_all(requests, context))
            self._streams.add(running)
            try:
                await asyncio.wait({running})
            finally:
                self._streams.discard(running)
                running.cancel()
            if running.cancelled():
                await context.abort(grpc.StatusCode.UNAVAILABLE, "the server is stopping")
            running.result()

        return answer

    async def _arrival(self, context: Context) -> bytes:
        """The serialized request, once all of it is there."""
        self.last_call = now = time.monotonic()
        task = asyncio.current_task()
        assert task is not None
        if len(self._arriving) >= MAX_ARRIVING:
            oldest, since = next(iter(self._arriving.items()))
            if now - since > YOUNG_SECONDS:
                self._end_arrival(oldest)
        self._arriving[task] = now
        if self._timer is None:
            self._look_after(ARRIVAL_SECONDS)
        try:
            content = await context.read()
        except asyncio.CancelledError:
            if task not in self._too_slow:
                raise
            self._too_slow.discard(task)
            content = None
        finally:
            self._arriving.pop(task, None)
        if content is None:
            await self._refuse(context, grpc.StatusCode.DEADLINE_EXCEEDED, "the request didn't arrive in time")
        if content is grpc.aio.EOF:
            await self._refuse(context, grpc.StatusCode.INVALID_ARGUMENT, "the call ended without a request")
        return bytes(content)

    def _look_after(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(min(seconds, _LOOK_SECONDS), self._end_late_arrivals)

    def _end_late_arrivals(self) -> None:
        """Ends what has taken too long, and looks again while anything arrives."""
        self._timer = None
        late = time.monotonic() - ARRIVAL_SECONDS
        for task, since in list(self._arriving.items()):
            if since > late:
                self._look_after(since - late)
                return
            self._end_arrival(task)

    def _end_arrival(self, task: asyncio.Task[Any]) -> None:
        if self._arriving.pop(task, None) is not None:
            self._too_slow.add(task)
            task.cancel()

    async def _refuse(self, context: Context, code: grpc.StatusCode, message: str) -> None:
        """Ends the call; raises always."""
        self._refused(code)
        await context.abort(code, message)


class _Guarded(grpc.GenericRpcHandler):  # type: ignore[misc]
    """The methods of a service, wrapped when they are first called."""

    def __init__(self, handler: grpc.GenericRpcHandler, wrap: Callable[[str, _Handler], _Handler]) -> None:
        self._handler = handler
        self._wrap = wrap
        self._wrapped: dict[str, _Handler] = {}

    def service(self, details: grpc.HandlerCallDetails) -> _Handler | None:
        """The handler of a call; None if the service has no such method."""
        wrapped = self._wrapped.get(details.method)
        if wrapped is None:
            handler = self._handler.service(details)
            if handler is None:
                return None
            wrapped = self._wrapped[details.method] = self._wrap(details.method, handler)
        return wrapped
