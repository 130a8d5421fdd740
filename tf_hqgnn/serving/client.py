"""A client for the recommender, on this package's server or on TF Serving."""

from __future__ import annotations

import ipaddress
import os
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Sequence

import grpc
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from tf_hqgnn.export.folder_kinds import not_a_version
from tf_hqgnn.export.layout import DEFAULT_MODEL
from tf_hqgnn.serving.addresses import is_loopback_host
from tf_hqgnn.serving.answers import Recommendation, SimilarItems
from tf_hqgnn.serving.errors import ServingError
from tf_hqgnn.serving.loader import load_version
from tf_hqgnn.serving.pair_answers import Explanation, PairClient, Scores, SimilarUsers
from tf_hqgnn.serving.tensors import decode_tensor, encode_tensor
from tf_hqgnn.types import Array, InputError

__all__ = [
    "Client",
    "ClientTls",
    "Explanation",
    "LocalModel",
    "Recommendation",
    "Scores",
    "ServerUnavailable",
    "SimilarItems",
    "SimilarUsers",
]

# What a server says of a signature that a model doesn't have.
_NO_SIGNATURE = "Serving signature key"

_MISTAKES = (
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.OUT_OF_RANGE,
)


@dataclass(frozen=True)
class ClientTls:
    """Certificates by which a client checks the server, and proves who it is itself.

    Args:
      ca_file: PEM of the authority whose certificates the server may have; None for those that gRPC brings.
      cert_file: PEM of the client's certificate chain, for a server that asks for it (mutual TLS).
      key_file: PEM of the client's private key, together with `cert_file`.
      server_name: The name in the server's certificate where it isn't that of the address.

    Raises:
      InputError: Only one of `cert_file` and `key_file` is given.

    >>> ClientTls(server_name="recommender").server_name  # Authorities are those that gRPC brings.
    'recommender'
    >>> ClientTls(cert_file=Path("me.pem"))
    Traceback (most recent call last):
    tf_hqgnn.types.InputError: a client's certificate and its private key go together: give --cert-file and --key-file
    """

    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    server_name: str | None = None

    def __post_init__(self) -> None:
        if (self.cert_file is None) != (self.key_file is None):
            raise InputError("a client's certificate and its private key go together: give --cert-file and --key-file")

    def credentials(self) -> grpc.ChannelCredentials:
        """What gRPC makes of the files.

        Raises:
          InputError: A file can't be read.
        """
        return grpc.ssl_channel_credentials(
            _read_pem(self.ca_file), _read_pem(self.key_file), _read_pem(self.cert_file)
        )


class ServerUnavailable(ConnectionError):
    """Raised where no answer comes: nothing listens at the address, or the timeout is over."""


class Client(PairClient):
    """Calls a server; safe to share between threads. `tf_hqgnn.serving.Client` answers with tables.

    Args:
      address: "host:port" of the gRPC port.
      timeout: Seconds that one call may take, > 0.
      tls: Encrypts the calls; None is plain text.

    Raises:
      InputError: The address has no port, the timeout isn't positive, or a file of `tls` can't be read.

    `with Client("127.0.0.1:8500") as client: client.recommend(["user 7"], k=5)`
    """

    def __init__(self, address: str = "127.0.0.1:8500", timeout: float = 10.0, tls: ClientTls | None = None) -> None:
        if timeout <= 0:
            raise InputError(f"expected a timeout > 0 seconds, got {timeout}")
        if not address.rpartition(":")[2].isdigit():
            raise InputError(f"expected the server's address as HOST:PORT, got {address!r}")
        self._address = address
        self._timeout = timeout
        self._is_plain = tls is None
        options: list[tuple[str, Any]] = [("grpc.max_receive_message_length", -1)]
        if is_loopback(address):
            # No proxy has this machine's own ports, whatever http_proxy, https_proxy and grpc_proxy say.
            options.append(("grpc.enable_http_proxy", 0))
        if tls is not None and tls.server_name is not None:
            options.append(("grpc.ssl_target_name_override", tls.server_name))
        if tls is None:
            self._channel = grpc.insecure_channel(address, options=options)
        else:
            self._channel = grpc.secure_channel(address, tls.credentials(), options=options)
        self._prediction = prediction_service_pb2_grpc.PredictionServiceStub(self._channel)
        self._model = model_service_pb2_grpc.ModelServiceStub(self._channel)

    def predict(
        self,
        signature_name: str,
        inputs: dict[str, Array],
        model: str = DEFAULT_MODEL,
        version: int | None = None,
        output_filter: Sequence[str] = (),
    ) -> dict[str, Array]:
        """Calls any signature with arrays (strings as objects of bytes); returns its outputs as arrays."""
        request = predict_pb2.PredictRequest(model_spec=_spec(model, version), output_filter=output_filter)
        request.model_spec.signature_name = signature_name
        for name, array in inputs.items():
            encode_tensor(array, request.inputs[name])
        response = self._call(self._prediction.Predict, request)
        return {name: decode_tensor(name, proto) for name, proto in response.outputs.items()}

    def status(self, model: str = DEFAULT_MODEL) -> dict[int, tuple[str, str]]:
        """Return the state of each version (LOADING, AVAILABLE, UNLOADING, END..), and its error message or ""."""
        request = get_model_status_pb2.GetModelStatusRequest(model_spec=_spec(model, None))
        response = self._call(self._model.GetModelStatus, request)
        name = get_model_status_pb2.ModelVersionStatus.State.Name
        return {
            entry.version: (name(entry.state), entry.status.error_message) for entry in response.model_version_status
        }

    def metadata(
        self, model: str = DEFAULT_MODEL, version: int | None = None
    ) -> dict[str, meta_graph_pb2.SignatureDef]:
        """Return the signatures of a model by name."""
        request = get_model_metadata_pb2.GetModelMetadataRequest(
            model_spec=_spec(model, version), metadata_field=["signature_def"]
        )
        response = self._call(self._prediction.GetModelMetadata, request)
        definitions = get_model_metadata_pb2.SignatureDefMap()
        response.metadata["signature_def"].Unpack(definitions)
        return dict(definitions.signature_def)

    def close(self) -> None:
        """Closes the connection."""
        self._channel.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _call(self, method: Any, request: Any) -> Any:
        try:
            return method(request, timeout=self._timeout)
        except grpc.RpcError as error:
            raise self._explained(error.code(), error.details() or "") from error

    def _proxy(self) -> str:
        """What to say of a proxy that gRPC may have gone through."""
        names = [name for name in ("grpc_proxy", "https_proxy", "http_proxy") if os.environ.get(name)]
        if not names or is_loopback(self._address):
            return ""
        host = self._address.rpartition(":")[0]
        return f"; the environment variable {names[0]} names a proxy: to go without, set no_proxy={host}"

    def _explained(self, code: grpc.StatusCode, details: str) -> Exception:
        if code == grpc.StatusCode.DEADLINE_EXCEEDED:
            return ServerUnavailable(f"{self._address} gave no answer within {self._timeout:g} s: raise the timeout")
        if code == grpc.StatusCode.UNAVAILABLE:
            return ServerUnavailable(
                f"nothing answers at {self._address}: start a server with `tf-hqgnn serve EXPORT_DIR`, or check the "
                f"address (gRPC port, not REST{'; with TLS give --ca-file' if self._is_plain else ''}) ({details})"
                f"{self._proxy()}"
            )
        if code in _MISTAKES:
            return InputError(f"{self._address}: {details}{_advice(details)}")
        return ServingError(code, f"{self._address}: {details}")


def is_loopback(address: str) -> bool:
    """Say whether an address for gRPC is of this machine.

    >>> [is_loopback(address) for address in ("localhost:8500", "[::1]:1", "dns:///127.0.0.2:80", "10.0.0.1:8500")]
    [True, True, True, False]
    """
    host = address.rpartition("/")[2].rpartition(":")[0]
    host = host.removeprefix("ipv4:").removeprefix("ipv6:").removeprefix("dns:").strip("[]")
    if is_loopback_host(host):
        return True
    try:
        # 0.0.0.0 and :: are what a server listens on; a client that is sent there comes to this machine.
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False


def _read_pem(path: Path | None) -> bytes | None:
    if path is None:
        return None
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} can't be read: {error.strerror or error}") from error
    if b"-----BEGIN " not in content:
        raise InputError(f"{path}: expected a PEM file (-----BEGIN ..)")
    return content


def _advice(details: str) -> str:
    """Say what to do where a signature isn't there, as in a model from before there was such a signature."""
    if not details.startswith(_NO_SIGNATURE):
        return ""
    return "; if an older release of tf_hqgnn exported the model, export the run again"


def _spec(model: str, version: int | None) -> model_pb2.ModelSpec:
    spec = model_pb2.ModelSpec(name=model)
    if version is not None:
        spec.version.value = version
    return spec


class LocalModel(PairClient):
    """Answers as `Client` does, from a SavedModel loaded into this process.

    Args:
      path: One version, such as EXPORT_DIR/hqgnn/1; `model` and `version` of the calls aren't looked at.

    Raises:
      InputError: There is no SavedModel, it is broken, or it needs ScaNN and that isn't installed.
    """

    def __init__(self, path: Path | str) -> None:
        self._path = Path(path)
        if why := not_a_version(self._path):
            raise InputError(why)
        number = self._path.name
        try:
            # No warm-up: it would cost more than the one question that is asked as a rule.
            self._loaded = load_version(self._path, int(number) if number.isdecimal() else 0, warm_up=False)
        except ServingError as error:
            raise InputError(f"{self._path} can't be loaded: {error.message}") from error

    def predict(
        self,
        signature_name: str,
        inputs: dict[str, Array],
        model: str = DEFAULT_MODEL,
        version: int | None = None,
        output_filter: Sequence[str] = (),
    ) -> dict[str, Array]:
        """Calls any signature with arrays (strings as objects of bytes); returns its outputs as arrays."""
        del model, version  # One version of one model is all there is.
        try:
            return self._loaded.predict(signature_name, inputs, output_filter)
        except ServingError as error:
            if error.code in _MISTAKES:
                raise InputError(f"{self._path}: {error.message}{_advice(error.message)}") from error
            raise

    def __enter__(self) -> LocalModel:
        return self

    def __exit__(self, *_: object) -> None:
        """There is nothing to close."""
