"""A ModelService over gRPC with TF Serving's rules for a reload, as server_core.cc of 2.16 has them, and no models.

* The list replaces the old one; labels are checked first, against the versions that are AVAILABLE before the reload.
  The list of the start is exempt (--allow_version_labels_for_unavailable_models).
* Versions of a `specific` policy load if they are in the folder; those that the list doesn't name any more unload.
* Asked for a version that it never saw, GetModelStatus says NOT_FOUND.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import grpc
from tensorflow_serving.apis import get_model_status_pb2, model_management_pb2, model_service_pb2_grpc
from tensorflow_serving.config import model_server_config_pb2

State = get_model_status_pb2.ModelVersionStatus.State


class ModelService(model_service_pb2_grpc.ModelServiceServicer):
    """One server; `reloads` keeps every list it got."""

    def __init__(self, config: model_server_config_pb2.ModelServerConfig, folders: dict[str, set[int]]) -> None:
        """Starts with `config`; `folders`: model -> versions that lie there."""
        self.folders = folders
        self.broken: set[int] = set()
        self.refuse_labels = False
        self.refuse_unload = False
        self.states: dict[tuple[str, int], int] = {}
        self.labels: dict[str, dict[str, int]] = {}
        self.reloads: list[model_server_config_pb2.ModelServerConfig] = []
        self._take(config)
        self._server = grpc.server(ThreadPoolExecutor(2))
        model_service_pb2_grpc.add_ModelServiceServicer_to_server(self, self._server)
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def stop(self) -> None:
        self._server.stop(None).wait()

    def available(self, model: str) -> set[int]:
        return {version for (name, version), state in self.states.items() if name == model and state == State.AVAILABLE}

    def _take(self, config) -> None:
        self.labels = {model.name: dict(model.version_labels) for model in config.model_config_list.config}
        for model in config.model_config_list.config:
            wanted = set(model.model_version_policy.specific.versions)
            for version in wanted & self.folders[model.name]:
                self.states[model.name, version] = State.END if version in self.broken else State.AVAILABLE
            for version in self.available(model.name) - wanted:
                self.states[model.name, version] = State.END
        named = {model.name for model in config.model_config_list.config}
        for name, version in self.states:
            if name not in named:
                self.states[name, version] = State.END

    def HandleReloadConfigRequest(self, request, context):
        self.reloads.append(request.config)
        for model in request.config.model_config_list.config:
            if self.refuse_unload and self.available(model.name) - set(model.model_version_policy.specific.versions):
                context.abort(grpc.StatusCode.INTERNAL, "still in use")
        response = model_management_pb2.ReloadConfigResponse()
        for model in request.config.model_config_list.config:
            for label, version in model.version_labels.items():
                moved = self.labels.get(model.name, {}).get(label) != version
                if version not in self.available(model.name) or (moved and self.refuse_labels):
                    response.status.error_code = grpc.StatusCode.FAILED_PRECONDITION.value[0]
                    response.status.error_message = (
                        f"Request to assign label to version {version} of model {model.name}"
                    )
                    return response
        self._take(request.config)
        return response

    def GetModelStatus(self, request, context):
        spec = request.model_spec
        state = self.states.get((spec.name, spec.version.value))
        if state is None:
            context.abort(
                grpc.StatusCode.NOT_FOUND, f"Could not find version {spec.version.value} of model {spec.name}"
            )
        status = get_model_status_pb2.ModelVersionStatus(version=spec.version.value, state=state)
        if spec.version.value in self.broken:
            status.status.error_code, status.status.error_message = 3, "Can't parse saved_model.pb"
        return get_model_status_pb2.GetModelStatusResponse(model_version_status=[status])
