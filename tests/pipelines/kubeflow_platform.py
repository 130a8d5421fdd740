"""Kubeflow's own part in a run: its driver, its launcher and the pods, with ML Metadata and S3 between the steps.

Driver and launcher do what those of Kubeflow Pipelines 2.17 do (backend/src/v2/driver, component/launcher_v2.go and
metadata/client.go of kubeflow/pipelines), in the same order and with the same names in ML Metadata. The launcher is in
the pod there; here it works on the pod's folder from outside.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from graphlib import TopologicalSorter
from pathlib import Path

import grpc
import yaml
from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2
from kubeflow_harness import ENVIRONMENT, LOGS, StepFailedError, fill_parameters
from ml_metadata.proto import metadata_store_pb2 as mlmd
from ml_metadata.proto import metadata_store_service_pb2 as service
from ml_metadata.proto import metadata_store_service_pb2_grpc as stubs
from object_store import ObjectStore
from warm_python import ROOT, WarmPython

PIPELINE, RUN, DAG, CONTAINER = (
    "system.Pipeline",
    "system.PipelineRun",
    "system.DAGExecution",
    "system.ContainerExecution",
)
SESSION = json.dumps({"Provider": "s3", "Params": {"fromEnv": "true"}})
# What the image has of this checkout.
IMAGE = [str(ROOT / name) for name in ("tf_hqgnn", "pipelines", "configs")]
FIRST_UID = 1000
NAMESPACE = "kubeflow"


class DriverError(AssertionError):
    """The driver finds no input of a step in ML Metadata."""


@dataclass(frozen=True)
class Pod:
    """A folder of this machine with what a container may write.

    Args:
      folder: gets `root`, on which the root folder is made; `store`, the launcher's copies of objects; `home`; `tmp`.
      volumes: path in the pod -> folder that is mounted there.
      uid: the user.
      number: of the pod in Kubernetes.
    """

    folder: Path
    volumes: Mapping[str, Path]
    uid: int
    number: str = field(default_factory=lambda: str(uuid.uuid4()))

    def __post_init__(self) -> None:
        for name in ("root", "store", "home", "tmp"):
            (self.folder / name).mkdir(parents=True)
            os.chown(self.folder / name, self.uid, 0)

    def path(self, uri: str) -> Path:
        """Where the launcher has the objects of a store: /s3/.. in the pod."""
        return self.folder / "store" / uri.removeprefix("s3://")

    def run(self, python: WarmPython, command: list[str]) -> int:
        """Runs a command in the pod, and returns its exit code."""
        for path in [self.folder / "store", *(self.folder / "store").rglob("*")]:
            os.chown(path, self.uid, 0)
        mounts = {f"/{name}": str(self.folder / name) for name in ("home", "tmp")}
        mounts |= {"/s3": str(self.folder / "store")} | {path: str(folder) for path, folder in self.volumes.items()}
        pod = {"root": str(self.folder / "root"), "image": IMAGE, "mounts": mounts, "uid": self.uid}
        environment = {"HOME": "/home", "KFP_POD_NAME": self.folder.name, "KFP_POD_UID": self.number}
        return python.run(command, {**ENVIRONMENT, **environment}, Path("/home"), self.log, pod=pod)

    @property
    def log(self) -> Path:
        """What the container printed."""
        return self.folder / "log"


class Platform:
    """One run of a compiled pipeline.

    Args:
      folder: gets a folder for each pod.
      spec: PipelineSpec as JSON.
      python: runs the containers' commands.
      store: has the artifacts.
      port: of ML Metadata's service on loopback.
      root: pipeline root, an s3:// URI.
      volumes: path in every pod -> folder that is mounted there.
      run_id: of the run.
    """

    def __init__(
        self,
        folder: Path,
        spec: dict,
        python: WarmPython,
        store: ObjectStore,
        port: int,
        root: str,
        volumes: Mapping[str, Path],
        run_id: str,
    ) -> None:
        self.folder, self.spec, self.store, self.volumes = folder, spec, store, volumes
        self._python, self._uids = python, itertools.count(FIRST_UID)
        self.metadata = stubs.MetadataStoreServiceStub(grpc.insecure_channel(f"127.0.0.1:{port}"))
        self._root = f"{root}/{spec['pipelineInfo']['name']}/{run_id}"
        self._run_id, self._tasks = run_id, spec["root"]["dag"]["tasks"]
        self.pods: dict[str, Pod] = {}

    def run(self, parameters: Mapping[str, str | int]) -> None:
        """Runs every task."""
        self.start(parameters)
        order = TopologicalSorter({name: task.get("dependentTasks", []) for name, task in self._tasks.items()})
        for task in order.static_order():
            self.run_task(task)

    def start(self, parameters: Mapping[str, str | int]) -> None:
        """Does what the driver does of the root: contexts of pipeline and run, and an execution with the parameters.

        Args:
          parameters: those that the operator changes; the others have their defaults.
        """
        definitions = self.spec["root"]["inputDefinitions"]["parameters"]
        assert parameters.keys() <= definitions.keys()
        values = {name: definition["defaultValue"] for name, definition in definitions.items()} | parameters
        pipeline = self._context(PIPELINE, self.spec["pipelineInfo"]["name"], {})
        properties = {"namespace": NAMESPACE, "resource_name": "run-resource"}
        properties |= {"pipeline_root": self._root, "store_session_info": SESSION}
        run = self._context(RUN, self._run_id, properties)
        parents = [mlmd.ParentContext(child_id=run.id, parent_id=pipeline.id)]
        self.metadata.PutParentContexts(service.PutParentContextsRequest(parent_contexts=parents))
        self._contexts = [pipeline, run]
        inputs = pipeline_spec_pb2.ExecutorInput.Inputs()
        for name, value in values.items():
            json_format.ParseDict(value, inputs.parameter_values[name])
        self.dag = self._create_execution(DAG, "", inputs, name=f"run/{self._run_id}")

    def run_task(self, task: str) -> None:
        """Runs a task in a pod of its own: what it gets is in ML Metadata and S3."""
        execution, executor_input = self.drive(task)
        self.launch(task, execution, executor_input)

    def drive(self, task: str) -> tuple[int, pipeline_spec_pb2.ExecutorInput]:
        """Does what the driver does of a container: looks its inputs up, and makes its execution.

        Raises:
          DriverError: no step before it has said that it made an input.
        """
        message = pipeline_spec_pb2.ExecutorInput()
        given = self._tasks[task].get("inputs", {})
        parameters = self._execution(self.dag).custom_properties["inputs"].struct_value
        fill_parameters(message, given, parameters)
        for name, source in given.get("artifacts", {}).items():
            output = source["taskOutputArtifact"]
            artifact = self._output(output["producerTask"], output["outputArtifactKey"])
            made = message.inputs.artifacts[name].artifacts.add(name=str(artifact.id), uri=artifact.uri)
            made.type.instance_schema = ""
            for key, value in artifact.custom_properties.items():
                made.metadata[key] = _json_value(value)
        folder = f"{self._root}/{task}/{uuid.uuid4()}"
        definitions = self._component(task).get("outputDefinitions", {}).get("artifacts", {})
        logs = {LOGS: {"artifactType": {"schemaTitle": "system.Artifact"}}}
        for name, definition in {**definitions, **logs}.items():
            artifact = message.outputs.artifacts[name].artifacts.add(uri=f"{folder}/{name}", name=name)
            json_format.ParseDict(definition["artifactType"], artifact.type)
        message.outputs.output_file = f"/s3/{folder.removeprefix('s3://')}/output_metadata.json"
        return self._create_execution(CONTAINER, task, message.inputs), message

    def launch(self, task: str, number: int, message: pipeline_spec_pb2.ExecutorInput) -> None:
        """Does what the launcher does: fetches inputs, runs the command, keeps the declared outputs, says so.

        Raises:
          StepFailedError: the command ended with another code than 0; only its log is kept.
        """
        pod = self.pods[task] = Pod(self.folder / task, self.volumes, next(self._uids))
        execution = self._execution(number)
        for key, value in (("pod_name", pod.folder.name), ("pod_uid", pod.number), ("namespace", NAMESPACE)):
            execution.custom_properties[key].string_value = value
        self.metadata.PutExecution(service.PutExecutionRequest(execution=execution))
        for artifacts in message.inputs.artifacts.values():
            for artifact in artifacts.artifacts:
                self.store.download(artifact.uri, pod.path(artifact.uri))
        (logs,) = message.outputs.artifacts[LOGS].artifacts
        logs.uri += "-0"
        for artifacts in message.outputs.artifacts.values():
            pod.path(artifacts.artifacts[0].uri).parent.mkdir(parents=True, exist_ok=True)
        container = self.spec["deploymentSpec"]["executors"][self._component(task)["executorLabel"]]["container"]
        written = json_format.MessageToJson(message)
        code = pod.run(
            self._python, [word.replace("{{$}}", written) for word in container["command"] + container["args"]]
        )
        shutil.copy(pod.log, pod.path(logs.uri))
        output = pipeline_spec_pb2.ExecutorOutput()
        file = pod.folder / "store" / message.outputs.output_file.removeprefix("/s3/")
        if not code and file.exists():
            json_format.Parse(file.read_text(), output)
        outputs = {LOGS: message.outputs.artifacts[LOGS]} if code else message.outputs.artifacts
        pairs = [self._keep(name, outputs[name].artifacts[0], output, pod) for name in sorted(outputs)]
        execution.last_known_state = mlmd.Execution.FAILED if code else mlmd.Execution.COMPLETE
        request = service.PutExecutionRequest(execution=execution, contexts=self._contexts, artifact_event_pairs=pairs)
        self.metadata.PutExecution(request)
        if code:
            raise StepFailedError(f"{task} ended with {code}:\n{pod.log.read_text()[-6000:]}")

    def executions(self) -> dict[str, mlmd.Execution]:
        """Task -> its execution in ML Metadata."""
        request = service.GetExecutionsByContextRequest(context_id=self._contexts[1].id)
        request.options.filter_query = f"custom_properties.parent_dag_id.int_value = {self.dag}"
        found = self.metadata.GetExecutionsByContext(request).executions
        return {execution.custom_properties["task_name"].string_value: execution for execution in found}

    def events(self, execution: int, kind: int) -> dict[str, int]:
        """Name of an input or output of an execution -> the artifact's number."""
        request = service.GetEventsByExecutionIDsRequest(execution_ids=[execution])
        events = self.metadata.GetEventsByExecutionIDs(request).events
        return {event.path.steps[0].key: event.artifact_id for event in events if event.type == kind}

    def artifact(self, number: int) -> mlmd.Artifact:
        """An artifact in ML Metadata."""
        request = service.GetArtifactsByIDRequest(artifact_ids=[number])
        (artifact,) = self.metadata.GetArtifactsByID(request).artifacts
        return artifact

    def output(self, task: str, name: str, folder: Path) -> Path:
        """What a task left of an output in S3, copied to a folder."""
        self.store.download(self._output(task, name).uri, folder)
        return folder

    def _component(self, task):
        return self.spec["components"][self._tasks[task]["componentRef"]["name"]]

    def _output(self, task, name):
        execution = self.executions().get(task)
        outputs = self.events(execution.id, mlmd.Event.OUTPUT) if execution else {}
        if name not in outputs:
            raise DriverError(f"cannot find output artifact key {name} in producer task {task}")
        return self.artifact(outputs[name])

    def _execution(self, number):
        (found,) = self.metadata.GetExecutionsByID(service.GetExecutionsByIDRequest(execution_ids=[number])).executions
        return found

    def _context(self, kind, name, properties):
        context = mlmd.Context(name=name)
        request = service.PutContextTypeRequest(context_type=mlmd.ContextType(name=kind))
        context.type_id = self.metadata.PutContextType(request).type_id
        for key, value in properties.items():
            context.custom_properties[key].string_value = value
        found = service.GetContextByTypeAndNameRequest(type_name=kind, context_name=name)
        known = self.metadata.GetContextByTypeAndName(found)
        if not known.HasField("context"):
            self.metadata.PutContexts(service.PutContextsRequest(contexts=[context]))
            known = self.metadata.GetContextByTypeAndName(found)
        return known.context

    def _create_execution(self, kind, task, inputs, name=None):
        request = service.PutExecutionTypeRequest(execution_type=mlmd.ExecutionType(name=kind))
        execution = mlmd.Execution(type_id=self.metadata.PutExecutionType(request).type_id)
        execution.last_known_state = mlmd.Execution.RUNNING
        execution.custom_properties["task_name"].string_value = task
        if name:
            execution.name = name
        if kind == CONTAINER:
            execution.custom_properties["parent_dag_id"].int_value = self.dag
        for key, value in inputs.parameter_values.items():
            execution.custom_properties["inputs"].struct_value.fields[key].CopyFrom(value)
        request = service.PutExecutionRequest(execution=execution, contexts=self._contexts)
        for key, artifacts in inputs.artifacts.items():
            event = mlmd.Event(artifact_id=int(artifacts.artifacts[0].name), type=mlmd.Event.INPUT)
            event.path.steps.add(key=key)
            request.artifact_event_pairs.add(event=event)
        return self.metadata.PutExecution(request).execution_id

    def _keep(self, name, made, output, pod):
        """Uploads an output and records it; what it is paired with tells of which execution it is."""
        for reported in output.artifacts[name].artifacts if name != LOGS and name in output.artifacts else ():
            made.uri = reported.uri or made.uri
            made.metadata.update(json_format.MessageToDict(reported.metadata))
        # Kubeflow lets components make none.
        with suppress(FileNotFoundError):
            self.store.upload(pod.path(made.uri), made.uri)
        title = made.type.schema_title or yaml.safe_load(made.type.instance_schema)["title"]
        request = service.PutArtifactTypeRequest(artifact_type=mlmd.ArtifactType(name=title))
        artifact = mlmd.Artifact(uri=made.uri, state=mlmd.Artifact.LIVE)
        artifact.type_id = self.metadata.PutArtifactType(request).type_id
        properties = {"display_name": name, "store_session_info": SESSION, **json_format.MessageToDict(made.metadata)}
        for key, value in properties.items():
            artifact.custom_properties[key].CopyFrom(_mlmd_value(f"{name}.{key}", value))
        (number,) = self.metadata.PutArtifacts(service.PutArtifactsRequest(artifacts=[artifact])).artifact_ids
        event = mlmd.Event(artifact_id=number, type=mlmd.Event.OUTPUT)
        event.path.steps.add(key=name)
        return service.PutExecutionRequest.ArtifactAndEvent(event=event)


def _mlmd_value(name: str, value: object) -> mlmd.Value:
    """As Kubeflow keeps a value of an artifact's metadata."""
    match value:
        case bool():
            return mlmd.Value(int_value=value)
        case str():
            return mlmd.Value(string_value=value)
        case float():
            return mlmd.Value(double_value=value)
        case list() | dict():
            kept = mlmd.Value()
            json_format.ParseDict({"list" if isinstance(value, list) else "struct": value}, kept.struct_value)
            return kept
    raise AssertionError(f"{name}: Kubeflow can't keep {value!r}")


def _json_value(value: mlmd.Value) -> object:
    kind = value.WhichOneof("value")
    return json_format.MessageToDict(value.struct_value) if kind == "struct_value" else getattr(value, kind)
