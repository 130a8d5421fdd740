"""The gRPC port: an asyncio server in a thread of its own, started and stopped by calls."""

from __future__ import annotations

import asyncio
import logging
import threading
from typing import Any, Coroutine

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import SERVICE_NAME
from grpc_health.v1.health import aio as health_aio
from grpc_reflection.v1alpha import reflection

from tf_hqgnn.serving.config_files import TlsKeys
from tf_hqgnn.serving.descriptors import declare_services
from tf_hqgnn.serving.grpc_service import ModelService, PredictionService, handlers
from tf_hqgnn.serving.service import Service
from tf_hqgnn.types import InputError

log = logging.getLogger(__name__)


class GrpcServer:
    """Serves PredictionService, ModelService, health and reflection.

    The port is taken at once, so that a clash shows before anything is loaded; calls are taken after `start`. One
    thread reads, queues and writes; the models run in the batcher's threads. So however many calls there are, no thread
    is made for them, and those too many are refused at once.

    Args:
      service: What answers.
      address: "host:port"; port 0 picks a free one.
      keys: For TLS; None is plain text.

    Raises:
      InputError: The port is in use, the address isn't this machine's, or the keys aren't usable.
    """

    def __init__(self, service: Service, address: str, keys: TlsKeys | None = None) -> None:
        self._service = service
        self._health = health_aio.HealthServicer()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="grpc", daemon=True)
        self._thread.start()
        try:
            self._server, self.port = self._call(self._bind(address, keys))
        except BaseException:
            self._end_loop()
            raise

    def start(self) -> None:
        """Returns once calls are taken."""
        self._call(self._server.start())

    def stop(self, grace_seconds: float) -> None:
        """Says that it isn't healthy, takes no new calls, and lets those under way end for up to `grace_seconds`."""
        if self._loop.is_closed():
            return
        self._call(self._health.enter_graceful_shutdown())
        self._call(self._server.stop(grace_seconds))
        self._end_loop()

    async def _bind(self, address: str, keys: TlsKeys | None) -> tuple[grpc.aio.Server, int]:
        server = grpc.aio.server(
            options=[
                # Without this Linux lets a second server share the port, and each gets half of the requests.
                ("grpc.so_reuseport", 0),
                ("grpc.max_receive_message_length", self._service.limits.message_bytes),
                ("grpc.max_send_message_length", -1),
            ]
        )
        for servicer in (PredictionService(self._service), ModelService(self._service)):
            server.add_generic_rpc_handlers((handlers(type(servicer).__name__, servicer),))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        names = declare_services()
        reflection.enable_server_reflection((*names, SERVICE_NAME, reflection.SERVICE_NAME), server)
        for name in names:
            await self._health.set(name, health_pb2.HealthCheckResponse.SERVING)
        try:
            if keys is None:
                return server, server.add_insecure_port(address)
            return server, server.add_secure_port(address, _credentials(keys))
        except (RuntimeError, OverflowError, ValueError) as error:
            hint = "" if keys is None else ", or the keys of --ssl_config_file aren't a matching pair"
            raise InputError(
                f"gRPC can't listen on {address}: it is in use, or not an address of this machine{hint}; choose "
                "another port with --grpc-port"
            ) from error

    def _call(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    def _end_loop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


def _credentials(keys: TlsKeys) -> grpc.ServerCredentials:
    return grpc.ssl_server_credentials(
        [(keys.server_key.encode(), keys.server_cert.encode())],
        keys.custom_ca.encode() or None,
        keys.client_verify,
    )
