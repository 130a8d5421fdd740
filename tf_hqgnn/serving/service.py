"""What a request means, whichever protocol it came by: find the model, queue the call, answer status and metadata."""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass, field
from typing import Any, Callable, Iterator, Mapping, Sequence

import grpc
from tensorflow_serving.apis import get_model_metadata_pb2, get_model_status_pb2, model_pb2

from tf_hqgnn.serving.batching import Batcher
from tf_hqgnn.serving.errors import from_exception, invalid_argument, printable
from tf_hqgnn.serving.limits import Limits
from tf_hqgnn.serving.loader import LoadedVersion
from tf_hqgnn.serving.manager import ModelManager
from tf_hqgnn.serving.metrics import Metrics
from tf_hqgnn.serving.parts import Outputs
from tf_hqgnn.serving.signature import Signature, select
from tf_hqgnn.types import Array

SIGNATURE_DEF = "signature_def"


@dataclass
class Observed:
    """What a request turns out to be.

    Args:
      signature: The name of a signature that its model has; clients may name any.
    """

    signature: str | None = None


@dataclass(frozen=True)
class Service:
    """What answers requests.

    Args:
      manager: Holds the models.
      batcher: Runs their signatures.
      limits: What one request may ask for.
      metrics: Where requests are counted.
      may_reload: Whether clients may change which models are served.
    """

    manager: ModelManager
    batcher: Batcher
    limits: Limits = field(default_factory=Limits)
    metrics: Metrics = field(default_factory=Metrics)
    may_reload: bool = False

    def submit(
        self,
        model: str,
        signature: Signature,
        inputs: Mapping[str, Array],
        finish: Callable[[Outputs], Any],
        output_filter: Sequence[str] = (),
        deadline: float | None = None,
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> Any:
        """Checks a call and queues it; `finish` makes the answer of the outputs wanted. See `Batcher.submit`.

        Raises:
          ServingError: INVALID_ARGUMENT for inputs that don't fit or ask for too much, UNAVAILABLE for a full queue.
        """
        arrays = signature.check(inputs, output_filter)
        self.limits.check(inputs)
        if output_filter:
            names = tuple(output_filter)
            return self.batcher.submit(
                model, signature, arrays, lambda outputs: finish(select(outputs, names)), deadline, loop
            )
        return self.batcher.submit(model, signature, arrays, finish, deadline, loop)

    def count(self, model: str, status: grpc.StatusCode) -> str:
        """Counts a request for a model; returns the label it is counted under."""
        # Names come from clients: unknown ones share a label, or the list of them would have no end.
        label = model if model in self.manager.known() else ""
        self.metrics.request_count.add(label, status.name)
        return label

    @contextlib.contextmanager
    def observed(self, model: str, api: str, entrypoint: str) -> Iterator[Observed]:
        """Counts what the block does as one request."""
        start = time.monotonic()
        status, request = grpc.StatusCode.OK, Observed()
        try:
            yield request
        except Exception as error:
            status = from_exception(error).code
            raise
        except BaseException:
            status = grpc.StatusCode.CANCELLED
            raise
        finally:
            label = self.count(model, status)
            if status is grpc.StatusCode.OK:
                micros = (time.monotonic() - start) * 1e6
                self.metrics.request_latency.observe(micros, label, api, entrypoint)
                if request.signature is not None:
                    self.metrics.signature_latency.observe(micros, label, request.signature)


@contextlib.contextmanager
def lease(manager: ModelManager, spec: model_pb2.ModelSpec) -> Iterator[LoadedVersion]:
    """The version that `spec` asks for, held while the block runs.

    Raises:
      ServingError: As ServerCore::ServableRequestFromModelSpec and BasicManager of TF Serving answer.
    """
    if not spec.name:
        raise invalid_argument("ModelSpec has no name specified.")
    label = spec.version_label if spec.WhichOneof("version_choice") == "version_label" else None
    version = requested_version(manager, spec) if label is None else None
    with manager.lease(spec.name, version, label) as loaded:
        yield loaded


def requested_version(manager: ModelManager, spec: model_pb2.ModelSpec) -> int | None:
    """The version number in `spec`, None if it leaves the choice to the server.

    OpenVINO's client (ovmsclient) writes version 0 for "whichever is served", and so it is read, unless there is a
    version 0. Labels come from the model config file, or a reload.
    """
    choice = spec.WhichOneof("version_choice")
    if choice == "version_label":
        return manager.labelled(spec.name, spec.version_label)
    if choice is None:
        return None
    version = int(spec.version.value)
    if version == 0 and not manager.is_served(spec.name, 0):
        return None
    return version


def model_status(
    manager: ModelManager, request: get_model_status_pb2.GetModelStatusRequest
) -> get_model_status_pb2.GetModelStatusResponse:
    """Answers GetModelStatus (TF Serving, model_servers/get_model_status_impl.cc)."""
    if not request.HasField("model_spec"):
        raise invalid_argument("Missing ModelSpec")
    version = requested_version(manager, request.model_spec)
    response = get_model_status_pb2.GetModelStatusResponse()
    for status in manager.status(request.model_spec.name, version):
        entry = response.model_version_status.add(version=status.version, state=status.state)
        # Set even when all is well: clients look for the field.
        entry.status.SetInParent()
        if status.error is not None:
            entry.status.error_code = status.error.number
            entry.status.error_message = status.error.message
    return response


def model_metadata(
    manager: ModelManager, request: get_model_metadata_pb2.GetModelMetadataRequest
) -> get_model_metadata_pb2.GetModelMetadataResponse:
    """Answers GetModelMetadata (TF Serving, servables/tensorflow/get_model_metadata_impl.cc)."""
    if not request.HasField("model_spec"):
        raise invalid_argument("Missing ModelSpec")
    if not request.metadata_field:
        raise invalid_argument("GetModelMetadataRequest must specify at least one metadata_field")
    for name in request.metadata_field:
        if name != SIGNATURE_DEF:
            raise invalid_argument(
                f"Metadata field {printable(name)} is not supported: the only one is {SIGNATURE_DEF}"
            )
    response = get_model_metadata_pb2.GetModelMetadataResponse()
    definitions = get_model_metadata_pb2.SignatureDefMap()
    with lease(manager, request.model_spec) as loaded:
        for name, definition in loaded.definitions.items():
            definitions.signature_def[name].CopyFrom(definition)
        response.model_spec.name = request.model_spec.name
        response.model_spec.version.value = loaded.version
    response.metadata[SIGNATURE_DEF].Pack(definitions)
    return response
