"""The local server: TF Serving's gRPC and REST over the SavedModels of an export directory."""

from __future__ import annotations

import gc
import logging
import queue
import signal
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Collection, Protocol, Sequence

from tensorflow_serving.config.model_server_config_pb2 import ModelConfig

from tf_hqgnn.serving.addresses import AllowedHosts, resolve, url_host
from tf_hqgnn.serving.batching import Batcher, BatchingParameters
from tf_hqgnn.serving.byte_budget import ByteBudget
from tf_hqgnn.serving.config_files import (
    PROMETHEUS_PATH,
    TlsKeys,
    read_batching_parameters,
    read_model_configs,
    read_monitoring_path,
    read_tls_keys,
)
from tf_hqgnn.serving.cors import AllowedOrigins
from tf_hqgnn.serving.directory import check_base_path
from tf_hqgnn.serving.errors import ServingError
from tf_hqgnn.serving.grpc_server import GrpcServer
from tf_hqgnn.serving.http_server import HttpServer
from tf_hqgnn.serving.limits import Limits
from tf_hqgnn.serving.manager import ModelManager
from tf_hqgnn.serving.metrics import Metrics
from tf_hqgnn.serving.open_files import connections_per_port
from tf_hqgnn.serving.rest import RestApi
from tf_hqgnn.serving.service import Service
from tf_hqgnn.types import InputError

log = logging.getLogger(__name__)

# Requests and answers that are in memory at once, over all connections of both ports.
MAX_BYTES_IN_FLIGHT = 256 << 20
# Kubernetes kills after 30 s, docker after 10.
GRACE_SECONDS = 8.0


class Server:
    """A server of TF Serving's protocols that goes over to new versions of its models while it answers.

    Args:
      base_path: One folder per model, each with numbered versions (an export directory); None if there are `models`.
      host: The address or name listened on; 127.0.0.1 is this machine only. There is no login, and REST is plain text.
      grpc_port: 0 picks a free one; `grpc_port` then tells which. None opens no gRPC port.
      rest_port: As `grpc_port`.
      poll_seconds: Time between two looks for new versions, > 0.
      grace_seconds: How long `stop` lets requests under way go on, over both protocols together.
      models: TF Serving's ModelConfig of each model, in place of `base_path`.
      batching: How requests are joined; None for the defaults.
      limits: What one request may ask for; None for the defaults.
      metrics_path: Where Prometheus reads, on the REST port; None for nowhere.
      tls_keys: Encrypts gRPC; None is plain text.
      allowed_hosts: The host names by which REST may be called, beside those of the loopback interface. Without any,
        only the latter are allowed if `host` is a loopback address, else every name is.
      may_reload: Whether clients may change which models are served (HandleReloadConfigRequest): anybody who reaches
        the port can then take models away. None allows it where `models` are given.
      allowed_origins: Whose web pages may call REST, such as https://shop.example; `*` for all. Without any, none may.
      plain_rest: Open the REST port also where `tls_keys` asks gRPC's clients for certificates.

    Raises:
      InputError: `base_path` holds no model, `models` are wrong, no port is to be opened, or REST would answer without
        a certificate what gRPC answers only with one.

    `with Server(path) as server:` starts it and stops it.
    """

    def __init__(
        self,
        base_path: Path | str | None,
        host: str = "127.0.0.1",
        grpc_port: int | None = 8500,
        rest_port: int | None = 8501,
        poll_seconds: float = 1.0,
        grace_seconds: float = GRACE_SECONDS,
        models: Sequence[ModelConfig] = (),
        batching: BatchingParameters | None = None,
        limits: Limits | None = None,
        metrics_path: str | None = PROMETHEUS_PATH,
        tls_keys: TlsKeys | None = None,
        allowed_hosts: Collection[str] = (),
        plain_rest: bool = False,
        may_reload: bool | None = None,
        allowed_origins: Collection[str] = (),
    ) -> None:
        if poll_seconds <= 0 or grace_seconds < 0:
            raise InputError(
                f"expected poll_seconds > 0 and grace_seconds >= 0, got {poll_seconds} and {grace_seconds}"
            )
        if (base_path is None) == (not models):
            raise InputError("expected either an export directory or a model config file, got both or neither")
        if grpc_port is None and rest_port is None:
            raise InputError("both ports are off (0): give --grpc-port or --rest-port a number from 1 to 65535")
        if tls_keys is not None and tls_keys.client_verify and rest_port is not None and not plain_rest:
            raise InputError(
                "client_verify asks the clients of gRPC for certificates, and REST would give the same answers to "
                "anybody: close it with --rest-port 0, or open it nevertheless with --plain-rest"
            )
        self.base_path = None if base_path is None else Path(base_path)
        self.host = host
        self.grpc_port = grpc_port
        self.rest_port = rest_port
        self.grace_seconds = grace_seconds
        self.metrics_path = metrics_path
        self.tls_keys = tls_keys
        self._addresses = resolve(host)
        self._hosts = AllowedHosts.of(allowed_hosts, self._addresses)
        self._origins = AllowedOrigins(allowed_origins)
        if self.base_path is not None:
            check_base_path(self.base_path)
        self.metrics = Metrics()
        try:
            self.manager = ModelManager(self.base_path, poll_seconds, models, self.metrics)
        except ServingError as error:
            raise InputError(error.message) from error
        self.batching = batching
        self._limits = limits or Limits()
        self._may_reload = bool(models) if may_reload is None else may_reload
        self._batcher: Batcher | None = None
        self._grpc: GrpcServer | None = None
        self._http: HttpServer | None = None
        self._rest: RestApi | None = None
        self._stopped = threading.Event()

    def start(self) -> Server:
        """Take the ports, load the models, and return when requests are answered.

        Raises:
          InputError: A port is in use, the TLS keys aren't usable, or not one model can be loaded.
        """
        try:
            self._batcher = Batcher(self.batching, self.metrics)
            service = Service(self.manager, self._batcher, self._limits, self.metrics, self._may_reload)
            budget = ByteBudget(MAX_BYTES_IN_FLIGHT)
            most = connections_per_port()
            if self.grpc_port is not None:
                self._grpc = GrpcServer(service, self._addresses, self.grpc_port, most, budget, self.tls_keys)
                self.grpc_port = self._grpc.port
            if self.rest_port is not None:
                self._http = HttpServer(self._addresses, self.rest_port, most, budget)
                self.rest_port = self._http.port
            self.manager.start()
            if not self.manager.served():
                raise InputError(f"{self._source()}: no model can be served: {self.manager.failures()}")
            if self._grpc is not None:
                self._grpc.start()
            if self._http is not None:
                self._rest = RestApi(service, self.metrics_path, self._hosts, self._origins)
                self._http.start(self._rest)
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """Answer what has arrived, within `grace_seconds`, and end every thread. More than one call does no harm."""
        deadline = time.monotonic() + self.grace_seconds
        # Both at once: the time is theirs together.
        ports = [port for port in (self._grpc, self._http) if port is not None]
        stopping = [threading.Thread(target=port.stop, args=(deadline,), name="stop") for port in ports]
        for thread in stopping:
            thread.start()
        for thread in stopping:
            thread.join()
        if self._rest is not None:
            self._rest.close()
        if self._batcher is not None:
            self._batcher.stop()
        if not self._stopped.is_set():
            self.manager.stop()
        self._stopped.set()

    @property
    def waiting_rows(self) -> int:
        """How many rows of requests wait for a model that is busy."""
        return 0 if self._batcher is None else self._batcher.waiting_rows

    def wait(self) -> None:
        """Returns when the server has been stopped."""
        self._stopped.wait()

    def __enter__(self) -> Server:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def __str__(self) -> str:
        served = ", ".join(f"{name} version {version}" for name, version in self.manager.served().items())
        host, first = url_host(self.host), next(iter(self.manager.served()), "")
        places = [] if self._grpc is None else [f"gRPC {host}:{self.grpc_port}"]
        if self._http is not None:
            places.append(f"REST http://{host}:{self.rest_port}/v1/models/{first}")
        return f"Serving {served} from {self._source()}: {', '.join(places)}"

    def _source(self) -> str:
        return "the model config file" if self.base_path is None else str(self.base_path)


class Startable(Protocol):
    """A server that `run_until_signalled` runs; its str() is the line that says where it answers."""

    def start(self) -> object:
        """Returns when requests are answered."""

    def stop(self) -> None:
        """Ends every thread, also after a start that failed."""


def serve(
    base_path: Path | str | None = None,
    host: str = "127.0.0.1",
    grpc_port: int | None = 8500,
    rest_port: int | None = 8501,
    poll_seconds: float = 1.0,
    model_config_file: Path | None = None,
    batching_parameters_file: Path | None = None,
    monitoring_config_file: Path | None = None,
    ssl_config_file: Path | None = None,
    allowed_hosts: Collection[str] = (),
    plain_rest: bool = False,
    grace_seconds: float = GRACE_SECONDS,
    may_reload: bool | None = None,
    allowed_origins: Collection[str] = (),
) -> None:
    """Serves until SIGINT or SIGTERM, then lets requests under way end and returns; a second signal ends at once.

    Prints one line with models and addresses when it is ready; loads, failures and unloads go to standard error.

    Args:
      base_path: See `Server`; None if there is a `model_config_file`.
      host: The address or name listened on.
      grpc_port: 0 picks a free one, None opens none.
      rest_port: 0 picks a free one, None opens none.
      poll_seconds: Time between two looks for new versions.
      model_config_file: TF Serving's ModelServerConfig: names, folders, version policies and labels of the models.
      batching_parameters_file: TF Serving's BatchingParameters.
      monitoring_config_file: TF Serving's MonitoringConfig; without it the metrics are at TF Serving's usual path.
      ssl_config_file: TF Serving's SSLConfig: TLS, or mutual TLS, for gRPC.
      allowed_hosts: See `Server`.
      plain_rest: See `Server`.
      grace_seconds: How long requests under way may go on after the signal.
      may_reload: See `Server`.
      allowed_origins: See `Server`.

    Raises:
      InputError: The directory holds no model, none can be loaded, a file is wrong, or a port is in use.
    """
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("tf_hqgnn.serving").setLevel(logging.INFO)
    # An unload collects garbage; what is there before any model (TensorFlow's modules, mostly) needn't be searched.
    gc.collect()
    gc.freeze()
    server = Server(
        base_path,
        host,
        grpc_port,
        rest_port,
        poll_seconds,
        grace_seconds,
        models=[] if model_config_file is None else read_model_configs(model_config_file),
        batching=None if batching_parameters_file is None else read_batching_parameters(batching_parameters_file),
        metrics_path=(
            PROMETHEUS_PATH if monitoring_config_file is None else read_monitoring_path(monitoring_config_file)
        ),
        tls_keys=None if ssl_config_file is None else read_tls_keys(ssl_config_file),
        allowed_hosts=allowed_hosts,
        plain_rest=plain_rest,
        may_reload=may_reload,
        allowed_origins=allowed_origins,
    )
    run_until_signalled(server)
    log.info("stopped")


def run_until_signalled(server: Startable) -> None:
    """Starts a server, prints its line, and stops it after SIGINT or SIGTERM; a second signal ends the process.

    A signal while it starts stops it, too.

    Args:
      server: what is run.

    Raises:
      InputError: As of its `start`.
    """
    # No Event: a handler that comes while wait() holds the Event's lock waits for it for ever. put() is reentrant.
    asked_to_stop: queue.SimpleQueue[int] = queue.SimpleQueue()
    ready = False
    originals = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def restore() -> None:
        for number, original in originals.items():
            signal.signal(number, original)

    def stop(number: int, _: FrameType | None) -> None:
        restore()
        asked_to_stop.put(number)
        if not ready:
            raise KeyboardInterrupt  # Ends the wait for models that are loading.

    for number in originals:
        signal.signal(number, stop)
    try:
        server.start()
        print(server, flush=True)
        ready = True
        # A signal that comes just before a wait begins doesn't end it: Python runs its handler after the wait.
        while True:
            try:
                asked_to_stop.get(timeout=0.5)
                break
            except queue.Empty:
                continue
    except KeyboardInterrupt:
        pass
    finally:
        restore()
        server.stop()
