"""ML Metadata's store behind its gRPC service, as on a cluster.

The service of a cluster is a program in C++ around the same store, which the wheel of `ml_metadata` has as a library:
every call goes there as it came, in bytes.
"""

from __future__ import annotations

import threading
from concurrent import futures
from pathlib import Path

import grpc
from ml_metadata.metadata_store.pywrap.metadata_store_extension import metadata_store as library
from ml_metadata.proto import metadata_store_pb2, metadata_store_service_pb2

SERVICE = metadata_store_service_pb2.DESCRIPTOR.services_by_name["MetadataStoreService"]


class MetadataService:
    """A MetadataStoreService on loopback.

    Args:
      database: the file of SQLite that it makes.
    """

    def __init__(self, database: Path) -> None:
        config = metadata_store_pb2.ConnectionConfig()
        config.sqlite.filename_uri = str(database)
        config.sqlite.connection_mode = metadata_store_pb2.SqliteMetadataSourceConfig.READWRITE_OPENCREATE
        migration = metadata_store_pb2.MigrationOptions()
        self._store = library.CreateMetadataStore(config.SerializeToString(), migration.SerializeToString())
        # The library isn't made for several threads at a time.
        self._lock = threading.Lock()
        methods = {
            method.name: grpc.unary_unary_rpc_method_handler(self._forward(method.name)) for method in SERVICE.methods
        }
        self._server = grpc.server(futures.ThreadPoolExecutor(4))
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE.full_name, methods),))
        self.port = self._server.add_insecure_port("127.0.0.1:0")

    def __enter__(self) -> MetadataService:
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop(None).wait()

    def _forward(self, name):
        method = getattr(library, name, None)

        def call(request: bytes, context: grpc.ServicerContext) -> bytes:
            if method is None:
                context.abort(grpc.StatusCode.UNIMPLEMENTED, f"the library has no {name}")
            with self._lock:
                response, message, code = method(self._store, request)
            if code:
                status = next(status for status in grpc.StatusCode if status.value[0] == code)
                context.abort(status, message.decode())
            return response

        return call
