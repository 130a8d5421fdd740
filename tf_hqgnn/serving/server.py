"""The local server: TF Serving's gRPC and REST over the SavedModels of an export directory."""

from __future__ import annotations

import gc
import logging
import signal
import threading
from concurrent import futures
from pathlib import Path

import grpc
from tensorflow_serving.apis import model_service_pb2_grpc, prediction_service_pb2_grpc

from tf_hqgnn.serving.directory import check_base_path
from tf_hqgnn.serving.grpc_service import ModelService, PredictionService
from tf_hqgnn.serving.http_server import HttpServer
from tf_hqgnn.serving.manager import ModelManager
from tf_hqgnn.serving.rest import create_app
from tf_hqgnn.types import InputError

log = logging.getLogger(__name__)

_MAX_REQUEST_BYTES = 64 << 20
_GRPC_OPTIONS = [
    # Without this Linux lets a second server share the port, and each gets half of the requests.
    ("grpc.so_reuseport", 0),
    ("grpc.max_receive_message_length", _MAX_REQUEST_BYTES),
    ("grpc.max_send_message_length", -1),
]


class Server:
    """Serves every model of a directory, and goes over to new versions while it answers.

    Args:
      base_path: One folder per model, each with numbered versions (an export directory).
      host: The address listened on; 127.0.0.1 is this machine only. There is no encryption and no login.
      grpc_port: 0 picks a free one; `grpc_port` then tells which.
      rest_port: Likewise.
      poll_seconds: Time between two looks for new versions, > 0.
      num_threads: gRPC calls answered at once; the others wait.
      grace_seconds: How long `stop` lets requests under way go on.

    Raises:
      InputError: `base_path` holds no model.

    `with Server(path) as server:` starts it and stops it.
    """

    def __init__(
        self,
        base_path: Path | str,
        host: str = "127.0.0.1",
        grpc_port: int = 8500,
        rest_port: int = 8501,
        poll_seconds: float = 1.0,
        num_threads: int = 16,
        grace_seconds: float = 10.0,
    ) -> None:
        if poll_seconds <= 0 or num_threads < 1 or grace_seconds < 0:
            raise InputError(
                f"expected poll_seconds > 0, num_threads >= 1 and grace_seconds >= 0, got {poll_seconds}, "
                f"{num_threads} and {grace_seconds}"
            )
        self.base_path = Path(base_path)
        self.host = host
        self.grpc_port = grpc_port
        self.rest_port = rest_port
        self._grace_seconds = grace_seconds
        check_base_path(self.base_path)
        self.manager = ModelManager(self.base_path, poll_seconds)
        self._grpc = grpc.server(
            futures.ThreadPoolExecutor(num_threads, thread_name_prefix="grpc"), options=_GRPC_OPTIONS
        )
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(PredictionService(self.manager), self._grpc)
        model_service_pb2_grpc.add_ModelServiceServicer_to_server(ModelService(self.manager), self._grpc)
        self._http: HttpServer | None = None
        self._stopped = threading.Event()

    def start(self) -> Server:
        """Takes the ports, loads the models, and returns when requests are answered.

        Raises:
          InputError: A port is in use, or not one model can be loaded.
        """
        try:
            self.grpc_port = self._bind_grpc()
            self._http = HttpServer(self.host, self.rest_port)
            self.rest_port = self._http.port
            self.manager.start()
            if not self.manager.served():
                raise InputError(f"{self.base_path}: no model can be served: {self._failures()}")
            self._grpc.start()
            self._http.start(create_app(self.manager))
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """Takes no new requests, lets those under way end, and ends every thread. More than one call does no harm."""
        grpc_stopped = self._grpc.stop(self._grace_seconds)
        if self._http is not None:
            self._http.stop(self._grace_seconds)
            self._http = None
        grpc_stopped.wait()
        if not self._stopped.is_set():
            self.manager.stop()
        self._stopped.set()

    def wait(self) -> None:
        """Returns when the server has been stopped."""
        self._stopped.wait()

    def __enter__(self) -> Server:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def __str__(self) -> str:
        served = ", ".join(f"{name} version {version}" for name, version in self.manager.served().items())
        host = _url_host(self.host)
        return (
            f"Serving {served} from {self.base_path}: gRPC {host}:{self.grpc_port}, REST "
            f"http://{host}:{self.rest_port}/v1/models/{next(iter(self.manager.served()), '')}"
        )

    def _bind_grpc(self) -> int:
        address = f"{_url_host(self.host)}:{self.grpc_port}"
        try:
            port = self._grpc.add_insecure_port(address)
        except (RuntimeError, OverflowError, ValueError) as error:
            raise InputError(
                f"gRPC can't listen on {address}: it is in use, or not an address of this machine; choose another port "
                "with --grpc-port"
            ) from error
        return port

    def _failures(self) -> str:
        return "; ".join(
            f"{name} version {status.version}: {status.error.message}"
            for name in self.manager.names()
            for status in self.manager.status(name)
            if status.error is not None
        )


def serve(
    base_path: Path | str,
    host: str = "127.0.0.1",
    grpc_port: int = 8500,
    rest_port: int = 8501,
    poll_seconds: float = 1.0,
) -> None:
    """Serves until SIGINT or SIGTERM, then lets requests under way end and returns; a second signal ends at once.

    Prints one line with models and addresses when it is ready; loads, failures and unloads go to standard error.

    Args:
      base_path: See `Server`, as for the rest.
      host: The address listened on.
      grpc_port: 0 picks a free one.
      rest_port: 0 picks a free one.
      poll_seconds: Time between two looks for new versions.

    Raises:
      InputError: The directory holds no model, none can be loaded, or a port is in use.
    """
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("tf_hqgnn.serving").setLevel(logging.INFO)
    # An unload collects garbage; what is there before any model (TensorFlow's modules, mostly) needn't be searched.
    gc.collect()
    gc.freeze()
    server = Server(base_path, host, grpc_port, rest_port, poll_seconds)
    asked_to_stop = threading.Event()
    ready = False
    originals = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def restore() -> None:
        for number, original in originals.items():
            signal.signal(number, original)

    def stop(number: int, frame: object) -> None:
        restore()
        asked_to_stop.set()
        if not ready:
            raise KeyboardInterrupt  # Ends the wait for models that are loading.

    for number in originals:
        signal.signal(number, stop)
    try:
        server.start()
        print(server, flush=True)
        ready = True
        asked_to_stop.wait()
    except KeyboardInterrupt:
        asked_to_stop.set()
    finally:
        restore()
        server.stop()
    log.info("stopped")


def _url_host(host: str) -> str:
    return f"[{host}]" if ":" in host else host
