"""The gRPC port: an asyncio server in a thread of its own, started and stopped by calls."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Sequence

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import SERVICE_NAME
from grpc_health.v1.health import aio as health_aio
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc

from tf_hqgnn.serving.addresses import url_host
from tf_hqgnn.serving.byte_budget import ByteBudget
from tf_hqgnn.serving.config_files import TlsKeys
from tf_hqgnn.serving.descriptors import declare_services
from tf_hqgnn.serving.event_loop import EventLoopThread
from tf_hqgnn.serving.grpc_guard import CallGuard
from tf_hqgnn.serving.grpc_service import ModelService, PredictionService, handlers
from tf_hqgnn.serving.own_sockets import close_connections, count_connections, refuse_connections
from tf_hqgnn.serving.service import Service
from tf_hqgnn.types import InputError

log = logging.getLogger(__name__)

# A client that called so lately may be sending its next call: it is waited for, and told that the server stops.
DRAIN_SECONDS = 0.5
# Calls that the core may hold before they reach Python; it cancels those beyond. The limit is `grpc_guard.MAX_CALLS`.
_MAX_PENDING = 1 << 20


class GrpcServer:
    """Serves PredictionService, ModelService, health and reflection.

    The port is taken at once, so that a clash shows before anything is loaded; calls are taken after `start`. One
    thread reads, queues and writes; the models run in the batcher's threads. So however many calls there are, no thread
    is made for them, and those too many are refused at once.

    Args:
      service: What answers.
      addresses: Numeric addresses of this machine, all listened on.
      port: 0 picks a free one.
      max_connections: New ones beyond them are closed at once.
      budget: What the bytes of requests are taken from.
      keys: For TLS; None is plain text.

    Raises:
      InputError: The port is in use, an address isn't this machine's, or the keys aren't usable.
    """

    def __init__(
        self,
        service: Service,
        addresses: Sequence[str],
        port: int,
        max_connections: int,
        budget: ByteBudget,
        keys: TlsKeys | None = None,
    ) -> None:
        self._service = service
        self._health = health_aio.HealthServicer()
        self._thread: EventLoopThread | None = EventLoopThread("grpc")
        try:
            self._server = self._thread.run(_make(max_connections, service.limits.message_bytes))
            self._guard = CallGuard(self._server, budget, lambda code: service.count("", code))
            self._thread.run(self._add_services())
            self.port = self._thread.run(self._bind(addresses, port, keys))
        except BaseException:
            self._thread.end()
            raise

    def start(self) -> None:
        """Returns once calls are taken."""
        if self._thread is not None:
            self._thread.run(self._server.start())

    def stop(self, deadline: float) -> None:
        """Answers what has arrived, refuses what comes, closes by `deadline` of `time.monotonic`, ends the thread."""
        if self._thread is not None:
            self._thread.run(self._stop(deadline))
            self._thread.end()
            self._thread = None

    async def _add_services(self) -> None:
        for servicer in (PredictionService(self._service), ModelService(self._service)):
            self._guard.add_generic_rpc_handlers((handlers(type(servicer).__name__, servicer),))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._guard)
        names = declare_services()
        reflection_pb2_grpc.add_ServerReflectionServicer_to_server(
            reflection.aio.ReflectionServicer((*names, SERVICE_NAME, reflection.SERVICE_NAME)), self._guard
        )
        for name in names:
            await self._health.set(name, health_pb2.HealthCheckResponse.SERVING)

    async def _bind(self, addresses: Sequence[str], port: int, keys: TlsKeys | None) -> int:
        for address in addresses:
            place = f"{url_host(address)}:{port}"
            try:
                if keys is None:
                    port = self._server.add_insecure_port(place)
                else:
                    port = self._server.add_secure_port(place, _credentials(keys))
            except (RuntimeError, OverflowError, ValueError) as error:
                hint = "" if keys is None else ", or the keys of --ssl_config_file aren't a matching pair"
                raise InputError(
                    f"gRPC can't listen on {place}: it is in use, or not an address of this machine{hint}; choose "
                    "another port with --grpc-port"
                ) from error
        return port

    async def _stop(self, deadline: float) -> None:
        self._guard.begin_stop()
        await self._health.enter_graceful_shutdown()
        begin = time.monotonic()
        # Watchers are told first.
        await asyncio.sleep(0.01)
        self._guard.end_streams()
        while time.monotonic() < deadline and (self._guard.is_busy or self._is_called(begin)):
            await asyncio.sleep(0.02)
        refuse_connections(self.port)
        close_connections(self.port)
        await self._server.stop(None)

    def _is_called(self, begin: float) -> bool:
        """Whether somebody may be sending a call who can't know yet that the server stops."""
        end = min(self._guard.last_call, begin) + DRAIN_SECONDS
        return time.monotonic() < end and count_connections(self.port) > 0


async def _make(max_connections: int, message_bytes: int) -> grpc.aio.Server:
    return grpc.aio.server(
        options=[
            # Without this Linux lets a second server share the port, and each gets half of the requests.
            ("grpc.so_reuseport", 0),
            ("grpc.max_receive_message_length", message_bytes),
            ("grpc.max_send_message_length", -1),
            ("grpc.server.max_pending_requests", _MAX_PENDING),
            ("grpc.server.max_pending_requests_hard_limit", _MAX_PENDING),
            ("grpc.max_allowed_incoming_connections", max_connections),
            # Connections that say nothing make room for others; a client that calls again connects again by itself.
            ("grpc.server_handshake_timeout_ms", 10_000),
            ("grpc.max_connection_idle_ms", 60_000),
            ("grpc.keepalive_time_ms", 60_000),
        ]
    )


def _credentials(keys: TlsKeys) -> grpc.ServerCredentials:
    return grpc.ssl_server_credentials(
        [(keys.server_key.encode(), keys.server_cert.encode())],
        keys.custom_ca.encode() or None,
        keys.client_verify,
    )
