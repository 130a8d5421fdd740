"""uvicorn in a thread: started and stopped by calls, not by signals."""

from __future__ import annotations

import socket
import threading

import uvicorn
from fastapi import FastAPI

from tf_hqgnn.types import InputError


class HttpServer:
    """Serves an application on a port that is taken at once, so that a clash shows before anything is loaded.

    Args:
      host: An address of this machine.
      port: 0 picks a free one.

    Raises:
      InputError: The port is in use, or the address isn't this machine's.
    """

    def __init__(self, host: str, port: int) -> None:
        self._socket = _bind(host, port)
        self.port: int = self._socket.getsockname()[1]
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None

    def start(self, app: FastAPI) -> None:
        """Returns once requests are accepted."""
        config = uvicorn.Config(app, log_config=None, access_log=False, lifespan="off")
        self._server = _Server(config)
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [self._socket]}, name="rest", daemon=True
        )
        self._thread.start()
        self._server.ready.wait()

    def stop(self, grace_seconds: float) -> None:
        """Takes no new requests, lets those under way end for up to `grace_seconds`, and ends the thread."""
        if self._server is not None and self._thread is not None:
            self._server.config.timeout_graceful_shutdown = max(1, round(grace_seconds))
            self._server.should_exit = True
            self._thread.join()
        self._socket.close()


class _Server(uvicorn.Server):
    """Says when it is ready."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's, then tells whoever waits."""
        await super().startup(sockets=sockets)
        self.ready.set()


def _bind(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        bound = socket.socket(family, kind, protocol)
    except (OSError, OverflowError) as error:
        raise InputError(f"REST on {host}:{port}: {error}") from error
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind(address)
        # Binding alone doesn't clash with a port that another process has bound and not opened yet.
        bound.listen(2048)
    except (OSError, OverflowError) as error:
        bound.close()
        raise InputError(f"REST on {host}:{port}: {_reason(error)}; choose another port with --rest-port") from error
    return bound


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
