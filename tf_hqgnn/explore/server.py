"""The server of the page: takes its port, reads the export directory, and answers until it is stopped."""

from __future__ import annotations

import gc
import logging
import time
from collections.abc import Collection
from pathlib import Path

from tf_hqgnn.explore.application import PAGE, ExploreApp
from tf_hqgnn.explore.catalogue import NewestCatalogue
from tf_hqgnn.explore.forwarder import Address, Forwarder
from tf_hqgnn.explore.local_models import LocalModels
from tf_hqgnn.serving.addresses import AllowedHosts, resolve, url_host
from tf_hqgnn.serving.byte_budget import ByteBudget
from tf_hqgnn.serving.directory import check_base_path
from tf_hqgnn.serving.http_connection import Application
from tf_hqgnn.serving.http_server import HttpServer
from tf_hqgnn.serving.open_files import connections_per_port
from tf_hqgnn.serving.server import GRACE_SECONDS, MAX_BYTES_IN_FLIGHT, run_until_signalled

DEFAULT_PORT = 8600
DEFAULT_VERSIONS = 3


class ExploreServer:
    """Serve the page over an export directory.

    Args:
      export_dir: of `tf-hqgnn export`: users, histories and titles come from it.
      server: HOST:PORT of a TF Serving's REST interface that answers the calls; None loads the models here.
      host: the address or name listened on; 127.0.0.1 is this machine only. There is no login.
      port: 0 picks a free one; `port` then tells which.
      num_versions: how many of the newest versions of each model are loaded, if they are loaded here.
      allowed_hosts: the host names by which the page may be called, as of `tf_hqgnn.serving.server.Server`.

    Raises:
      InputError: The directory holds no model, or `server` isn't of the form HOST:PORT.

    `with ExploreServer(path) as server:` starts it and stops it.
    """

    def __init__(
        self,
        export_dir: Path,
        server: str | None = None,
        host: str = "127.0.0.1",
        port: int = DEFAULT_PORT,
        num_versions: int = DEFAULT_VERSIONS,
        allowed_hosts: Collection[str] = (),
    ) -> None:
        check_base_path(export_dir)
        self.host = host
        self.port = port
        self._export_dir = export_dir
        self._address = None if server is None else Address.parse(server)
        self._num_versions = num_versions
        self._addresses = resolve(host)
        self._hosts = AllowedHosts.of(allowed_hosts, self._addresses)
        self._http: HttpServer | None = None
        self._local: LocalModels | None = None

    def start(self) -> ExploreServer:
        """Take the port, read the export, load its models, and return when the page is there.

        Raises:
          InputError: The port is in use, the export can't be read, or not one of its models can be loaded.
        """
        try:
            budget = ByteBudget(MAX_BYTES_IN_FLIGHT)
            self._http = HttpServer(
                self._addresses, self.port, connections_per_port(1), budget, what="the page", option="--port"
            )
            self.port = self._http.port
            catalogue = NewestCatalogue(self._export_dir)
            server = None if self._address is None else str(self._address)
            name = self._export_dir.absolute().name
            self._http.start(ExploreApp(catalogue, self._models(), self._hosts, server, name))
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """Answer what has arrived, and end every thread. More than one call does no harm."""
        if self._http is not None:
            self._http.stop(time.monotonic() + GRACE_SECONDS)
        if self._local is not None:
            self._local.stop()

    @property
    def url(self) -> str:
        """Where the page is; a wildcard address is this machine's own."""
        host = "localhost" if self.host in ("0.0.0.0", "::") else url_host(self.host)
        return f"http://{host}:{self.port}{PAGE}"

    def _models(self) -> Application:
        if self._address is not None:
            return Forwarder(self._address)
        self._local = LocalModels(self._export_dir, self._num_versions)
        self._local.start()
        return self._local.application

    def __enter__(self) -> ExploreServer:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def __str__(self) -> str:
        answers = "its models answer here" if self._address is None else f"TF Serving at {self._address} answers"
        return f"Explore {self._export_dir} at {self.url} ({answers}); Ctrl-C ends it"


def explore(
    export_dir: Path,
    server: str | None = None,
    host: str = "127.0.0.1",
    port: int = DEFAULT_PORT,
    num_versions: int = DEFAULT_VERSIONS,
    allowed_hosts: Collection[str] = (),
) -> None:
    """Serve the page until SIGINT or SIGTERM; a second signal ends at once.

    Args:
      export_dir: as of `ExploreServer`, like the rest.
      server: HOST:PORT of a TF Serving's REST interface, or None.
      host: the address or name listened on.
      port: 0 picks a free one.
      num_versions: how many of the newest versions of each model are loaded.
      allowed_hosts: host names by which the page may be called.

    Raises:
      InputError: As of `ExploreServer`.
    """
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s")
    # What is there before any model needn't be searched for garbage when a version is unloaded.
    gc.collect()
    gc.freeze()
    run_until_signalled(ExploreServer(export_dir, server, host, port, num_versions, allowed_hosts))
