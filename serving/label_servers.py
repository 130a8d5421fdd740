"""The running servers whose labels move: named by address, or the pods of a Kubernetes deployment by port-forward."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import grpc
from google.protobuf.wrappers_pb2 import Int64Value
from label_config import LabelError, ModelServerConfig
from tensorflow_serving.apis import get_model_status_pb2, model_management_pb2, model_pb2, model_service_pb2_grpc

State = get_model_status_pb2.ModelVersionStatus.State


@dataclass(frozen=True)
class Tls:
    """Files that prove who a server is, and who this program is.

    Args:
      ca_file: PEM of the authority whose certificates servers may have; None for those that gRPC brings.
      cert_file: PEM of the certificate to show to a server that asks for one (mutual TLS).
      key_file: PEM of its private key.
      server_name: The name in the servers' certificate, where addresses aren't names: of forwarded ports, for one.
    """

    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    server_name: str | None = None

    def channel(self, address: str) -> grpc.Channel:
        """An encrypted connection to `address`, made at the first call.

        Raises:
          LabelError: A file can't be read.
        """
        try:
            ca, key, cert = (
                None if path is None else path.read_bytes() for path in (self.ca_file, self.key_file, self.cert_file)
            )
        except OSError as error:
            raise LabelError(f"{error.filename}: {error.strerror}; name the PEM files of TLS") from error
        name = [] if self.server_name is None else [("grpc.ssl_target_name_override", self.server_name)]
        return grpc.secure_channel(address, grpc.ssl_channel_credentials(ca, key, cert), name)


class ModelServer:
    """ModelService of one TF Serving."""

    def __init__(self, address: str, timeout: float, tls: Tls | None = None) -> None:
        """Connects at the first call.

        Args:
          address: host:port of gRPC.
          timeout: seconds for each call. A reload waits for models that are new in the list.
          tls: encrypts; plain text without.

        Raises:
          LabelError: A file of `tls` can't be read.
        """
        self.address = address
        self._timeout = timeout
        self._channel = grpc.insecure_channel(address) if tls is None else tls.channel(address)
        self._stub = model_service_pb2_grpc.ModelServiceStub(self._channel)

    def close(self) -> None:
        """Ends the connection."""
        self._channel.close()

    def reload(self, config: ModelServerConfig) -> None:
        """Replaces the server's whole config.

        Raises:
          LabelError: The server can't be reached or refuses.
        """
        request = model_management_pb2.ReloadConfigRequest(config=config)
        try:
            status = self._stub.HandleReloadConfigRequest(request, timeout=self._timeout).status
        except grpc.RpcError as error:
            raise LabelError(f"{self.address}: reload failed, {error.code().name}: {error.details()}") from error
        if status.error_code:
            raise LabelError(f"{self.address}: reload failed, code {status.error_code}: {status.error_message}")

    def is_available(self, model: str, version: int) -> bool:
        """Whether the version answers requests; False as long as it may still come.

        Raises:
          LabelError: The server can't be reached, or gave the version up.
        """
        spec = model_pb2.ModelSpec(name=model, version=Int64Value(value=version))
        request = get_model_status_pb2.GetModelStatusRequest(model_spec=spec)
        try:
            answer = self._stub.GetModelStatus(request, timeout=self._timeout)
        except grpc.RpcError as error:
            if error.code() == grpc.StatusCode.NOT_FOUND:
                return False
            raise LabelError(
                f"{self.address}: GetModelStatus failed, {error.code().name}: {error.details()}"
            ) from error
        for found in answer.model_version_status:
            if found.state == State.END and found.status.error_code:
                raise LabelError(
                    f"{self.address}: {model} version {version} can't be loaded: {found.status.error_message}; "
                    "push it anew under another version"
                )
        return any(found.state == State.AVAILABLE for found in answer.model_version_status)

    def wait_available(self, model: str, version: int, deadline: float) -> None:
        """Returns when the version is AVAILABLE; `deadline` is of `time.monotonic`.

        Raises:
          LabelError: Not until then, or as `is_available`.
        """
        while not self.is_available(model, version):
            if time.monotonic() > deadline:
                raise LabelError(
                    f"{self.address}: {model} version {version} isn't AVAILABLE in time; is it in the model's folder "
                    "that this server reads (base_path in the config)? --timeout waits longer"
                )
            time.sleep(0.1)


def kubectl(namespace: str, *arguments: str) -> str:
    """What `kubectl -n NAMESPACE ARGUMENTS` prints.

    Raises:
      LabelError: There is no kubectl, or it failed.
    """
    try:
        done = subprocess.run(["kubectl", "-n", namespace, *arguments], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise LabelError("kubectl isn't on the PATH; --namespace needs it, --server does not") from None
    if done.returncode:
        raise LabelError(f"kubectl {' '.join(arguments[:2])}: {done.stderr.strip()}")
    return done.stdout


def running_pods(namespace: str, selector: str) -> list[str]:
    """Names of the running pods, sorted.

    Raises:
      LabelError: There is none.
    """
    field = "--field-selector=status.phase=Running"
    listed = kubectl(namespace, "get", "pods", f"--selector={selector}", field, "--output=json")
    names = sorted(item["metadata"]["name"] for item in json.loads(listed)["items"])
    if not names:
        raise LabelError(
            f"no running pod in namespace {namespace} with {selector}; see `kubectl get pods --show-labels`"
        )
    return names


def _rest(stream: IO[str] | None) -> str:
    return stream.read().strip() if stream else ""


@contextmanager
def forwarded(namespace: str, pods: Sequence[str], port: int) -> Iterator[list[str]]:
    """Local addresses of a port of each pod. Labels belong to a server: through a Service only one would hear of it."""
    with ExitStack() as stack:
        addresses = []
        for pod in pods:
            command = ["kubectl", "-n", namespace, "port-forward", f"pod/{pod}", f":{port}"]
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            stack.enter_context(process)
            stack.callback(process.terminate)
            line = process.stdout.readline() if process.stdout else ""
            match = re.match(r"Forwarding from (127\.0\.0\.1:\d+)", line)
            if match is None:
                raise LabelError(f"kubectl port-forward to {pod}: {line.strip() or _rest(process.stderr)}")
            addresses.append(match[1])
        yield addresses
