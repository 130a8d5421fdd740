"""What a request means, whichever protocol it came by: resolve the model, answer status and metadata."""

from __future__ import annotations

import contextlib
from typing import Iterator

from tensorflow_serving.apis import get_model_metadata_pb2, get_model_status_pb2, model_pb2

from tf_hqgnn.serving.errors import invalid_argument
from tf_hqgnn.serving.loader import LoadedVersion
from tf_hqgnn.serving.manager import ModelManager

SIGNATURE_DEF = "signature_def"


@contextlib.contextmanager
def lease(manager: ModelManager, spec: model_pb2.ModelSpec) -> Iterator[LoadedVersion]:
    """The version that `spec` asks for, held while the block runs.

    Raises:
      ServingError: As ServerCore::ServableRequestFromModelSpec and BasicManager of TF Serving answer.
    """
    if not spec.name:
        raise invalid_argument("ModelSpec has no name specified.")
    with manager.lease(spec.name, requested_version(manager, spec)) as loaded:
        yield loaded


def requested_version(manager: ModelManager, spec: model_pb2.ModelSpec) -> int | None:
    """The version number in `spec`, None if it leaves the choice to the server.

    OpenVINO's client (ovmsclient) writes version 0 for "whichever is served", and so it is read, unless there is a
    version 0. Labels come from a model config file in TF Serving; there is none here, so every label is unknown.
    """
    choice = spec.WhichOneof("version_choice")
    if choice == "version_label":
        raise invalid_argument(f"Unrecognized servable version label: {spec.version_label}")
    if choice is None:
        return None
    version = spec.version.value
    if version == 0 and manager.served().get(spec.name) != 0:
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
    for field in request.metadata_field:
        if field != SIGNATURE_DEF:
            raise invalid_argument(f"Metadata field {field} is not supported: the only one is {SIGNATURE_DEF}")
    response = get_model_metadata_pb2.GetModelMetadataResponse()
    definitions = get_model_metadata_pb2.SignatureDefMap()
    with lease(manager, request.model_spec) as loaded:
        for name, definition in loaded.definitions.items():
            definitions.signature_def[name].CopyFrom(definition)
        response.model_spec.name = request.model_spec.name
        response.model_spec.version.value = loaded.version
    response.metadata[SIGNATURE_DEF].Pack(definitions)
    return response
