"""Runs a compiled pipeline as open-source Kubeflow does: every container's command, in a pod of its own.

A pod is a folder with nothing in it but the step's inputs, which are copied from the object store, a folder, too. What
is told to the step and taken from it is what Kubeflow's driver and launcher (backend/src/v2 of kubeflow/pipelines,
2.17) tell and take; kubeflow_messages/ holds what the driver itself has written, for comparison: input artifacts of an
empty type, an output for the log, numbers as floats, custom properties that aren't the step's own.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import Path

from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2
from warm_python import PATIENCE_SECONDS, ROOT, WarmPython

STORE = "minio://mlpipeline/v2/artifacts/tf-hqgnn/run-1"
LOGS = "executor-logs"
SESSION = json.dumps({"Provider": "minio", "Params": {"endpoint": "store.example:9000", "secretName": "store"}})
# The image's PATH has its Python first.
ENVIRONMENT = {
    "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.defpath}",
    "PYTHONPATH": str(ROOT),
    "TF_CPP_MIN_LOG_LEVEL": "3",
}
# What takes TFX 15 s of a processor to import in each step (tf_hqgnn first: it chooses Keras 2).
TFX_MODULES = ("tf_hqgnn", "tensorflow_transform", "tfx.orchestration.kubeflow.v2.container.kubeflow_v2_run_executor")


def fill_parameters(message: pipeline_spec_pb2.ExecutorInput, given: dict, parameters: Mapping) -> None:
    """Gives a step the parameters that its task names: those of the run, or constants.

    Args:
      message: of the step.
      given: the task's `inputs` in the compiled pipeline.
      parameters: of the run.
    """
    for name, source in given.get("parameters", {}).items():
        if "componentInputParameter" in source:
            value = parameters[source["componentInputParameter"]]
        else:
            value = source["runtimeValue"]["constant"]
        json_format.ParseDict(value, message.inputs.parameter_values[name])


@dataclass(frozen=True)
class Driver:
    """What differs among those who tell a step what to do.

    Args:
      input_type: of the artifacts: "empty" (Kubeflow 2.17), "none" (Kubeflow as TFX issue 7768 has it), or "title"
        (Vertex).
      has_logs: whether every step gets an output for its log (Kubeflow's default, not Vertex's).
      store: the root of the run's artifacts.
      is_mounted: whether a step sees the store itself and not a copy (Vertex's mount of buckets).
    """

    input_type: str = "empty"
    has_logs: bool = True
    store: str = STORE
    is_mounted: bool = False


KUBEFLOW = Driver()
UNTYPED = Driver(input_type="none", has_logs=False)
VERTEX = Driver(input_type="title", has_logs=False, store="gs://bucket/root/run-1", is_mounted=True)


def private_mount(folder: Path) -> list[str]:
    """The beginning of a command that sees `folder` as /mnt; empty where this user may not mount."""
    prefix = ["unshare", "--mount", "--map-root-user", "sh", "-c", 'mount --bind "$0" /mnt && exec "$@"', str(folder)]
    try:
        allowed = subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        allowed = False
    return prefix if allowed else []


class StepFailedError(AssertionError):
    """A container ended with another code than 0."""


class ContainerPython(WarmPython):
    """A Python that has imported TFX and forks for every command of a container.

    Args:
      folder: gets its log, and `mnt/`, which the commands see as /mnt.
    """

    def __init__(self, folder: Path) -> None:
        self.volumes = folder / "mnt"
        self.volumes.mkdir()
        self._mounted = private_mount(self.volumes)
        super().__init__(folder, TFX_MODULES, ENVIRONMENT, self._mounted)

    def run_in(self, folder: Path, log: Path, command: list[str], environment: dict[str, str]) -> int:
        """Runs a command with nothing of this process's environment; returns its exit code."""
        if not self._mounted:
            command = [word.replace("/mnt/", f"{self.volumes}/") for word in command]
        return self.run(command, {**ENVIRONMENT, **environment}, folder, log)


class Cluster:
    """One run of a pipeline.

    Args:
      folder: gets `store/`, what the object store holds, and `pods/`.
      spec: PipelineSpec as JSON.
      python: runs the tasks.
      cold: tasks that run in a Python of their own, as in a container, and not in a fork.
      driver: who tells the steps what to do.
    """

    def __init__(
        self,
        folder: Path,
        spec: dict,
        python: ContainerPython,
        cold: frozenset[str] = frozenset(),
        driver: Driver = KUBEFLOW,
    ) -> None:
        self.spec, self.driver = spec, driver
        self.store, self.pods = folder / "store", folder / "pods"
        self.artifacts: dict[tuple[str, str], pipeline_spec_pb2.RuntimeArtifact] = {}
        self.messages: dict[str, str] = {}
        self._python, self.cold = python, cold
        self._ids = itertools.count(1)
        self._attempts: dict[str, int] = {}
        self._tasks = spec["root"]["dag"]["tasks"]

    def run(self, **parameters: str | int) -> None:
        """Runs every task; `parameters` are those that the operator changes."""
        definitions = self.spec["root"]["inputDefinitions"]["parameters"]
        assert parameters.keys() <= definitions.keys()
        values = {name: definition["defaultValue"] for name, definition in definitions.items()} | parameters
        for task in TopologicalSorter(
            {name: t.get("dependentTasks", []) for name, t in self._tasks.items()}
        ).static_order():
            self.run_task(task, values)

    def run_task(self, task: str, parameters: dict[str, str | int]) -> None:
        """Runs one task, whose inputs are there."""
        message = self._executor_input(task, self._component(task), parameters)
        self.start(task, json_format.MessageToJson(message))

    def retry(self, task: str) -> None:
        """Runs a task again in a pod of its own, as Kubeflow does: the driver's message is the same."""
        self.start(task, self.messages[task])

    def start(self, task: str, message: str, is_pod: bool = True) -> None:
        """Does what the launcher does with an ExecutorInput.

        Args:
          task: whose container's command is run.
          message: ExecutorInput as JSON.
          is_pod: whether the step is told its pod's name and id.
        """
        self.messages[task] = message
        executor_input = json_format.Parse(message, pipeline_spec_pb2.ExecutorInput())
        attempt = self._attempts[task] = self._attempts.get(task, -1) + 1
        pod = self.pods / task
        # A pod that is retried starts afresh.
        shutil.rmtree(pod, ignore_errors=True)
        (pod / "work").mkdir(parents=True)
        mounts = self.store if self.driver.is_mounted else pod
        inputs = executor_input.inputs.artifacts.values()
        for artifacts in () if self.driver.is_mounted else inputs:
            assert _copy(artifacts.artifacts[0].uri, self.store, pod), f"{task}: the store has no {artifacts}"
        outputs = executor_input.outputs
        if LOGS in outputs.artifacts:
            # So that attempts don't write over each other's.
            outputs.artifacts[LOGS].artifacts[0].uri += f"-{attempt}"
        for artifacts in outputs.artifacts.values():
            _under(mounts, artifacts.artifacts[0].uri).parent.mkdir(parents=True, exist_ok=True)
        # The launcher names a file in the pod's root, /minio/..; Vertex names an object.
        output_file = _local(outputs.output_file, mounts)
        if not self.driver.is_mounted:
            outputs.output_file = str(output_file)
        container = self.spec["deploymentSpec"]["executors"][self._component(task)["executorLabel"]]["container"]
        command = [
            word.replace("{{$}}", json_format.MessageToJson(executor_input))
            for word in [*container["command"], *container["args"]]
        ]
        environment = {**ENVIRONMENT, "HOME": str(pod), "KUBEFLOW_MOUNT_ROOT": str(mounts)}
        if is_pod and not self.driver.is_mounted:
            environment |= {"KFP_POD_NAME": f"run-1-{task.lower()}-{attempt}", "KFP_POD_UID": str(uuid.uuid4())}
        code = self._start(command, pod, environment, cold=task in self.cold)
        if LOGS in outputs.artifacts:
            log = _under(pod, outputs.artifacts[LOGS].artifacts[0].uri)
            shutil.copy(pod / "log", log)
            _copy(outputs.artifacts[LOGS].artifacts[0].uri, pod, self.store)
        if code:
            # Nothing else of a step that failed is uploaded.
            raise StepFailedError(f"{task} ended with {code}:\n{self.log(task)[-6000:]}")
        self._collect(task, executor_input, output_file, pod)

    def folder(self, task: str, output: str) -> Path:
        """An artifact in the object store."""
        return _under(self.store, self.artifacts[task, output].uri)

    def log(self, task: str) -> str:
        """What a step printed."""
        return (self.pods / task / "log").read_text()

    def _component(self, task):
        return self.spec["components"][self._tasks[task]["componentRef"]["name"]]

    def _executor_input(self, task, component, parameters):
        given, message = self._tasks[task].get("inputs", {}), pipeline_spec_pb2.ExecutorInput()
        fill_parameters(message, given, parameters)
        for name, source in given.get("artifacts", {}).items():
            output = source["taskOutputArtifact"]
            made = self.artifacts[output["producerTask"], output["outputArtifactKey"]]
            artifact = message.inputs.artifacts[name].artifacts.add(name=made.name, uri=made.uri)
            artifact.metadata.CopyFrom(made.metadata)
            if self.driver.input_type == "empty":
                artifact.type.instance_schema = ""
                artifact.metadata["store_session_info"] = SESSION
            elif self.driver.input_type == "title":
                kind = component["inputDefinitions"]["artifacts"][name]["artifactType"]["instanceSchema"]
                artifact.type.schema_title = kind.splitlines()[0].removeprefix("title: ")
                artifact.type.schema_version = "0.0.1"
        folder = f"{self.driver.store}/{task}/{uuid.uuid4()}"
        for name, definition in component.get("outputDefinitions", {}).get("artifacts", {}).items():
            artifact = message.outputs.artifacts[name].artifacts.add(uri=f"{folder}/{name}", name=name)
            json_format.ParseDict(definition["artifactType"], artifact.type)
        if self.driver.has_logs:
            artifact = message.outputs.artifacts[LOGS].artifacts.add(uri=f"{folder}/{LOGS}", name=LOGS)
            artifact.type.schema_title = "system.Artifact"
        if self.driver.is_mounted:
            message.outputs.output_file = f"{folder}/executor_output.json"
        else:
            message.outputs.output_file = f"/{folder.replace('://', '/')}/output_metadata.json"
        return message

    def _start(self, command, pod, environment, cold) -> int:
        # Nothing else of this process's environment reaches a step.
        if not cold:
            return self._python.run_in(pod / "work", pod / "log", command, environment)
        with (pod / "log").open("w") as log:
            return subprocess.run(
                command, env=environment, cwd=pod / "work", stdout=log, stderr=log, timeout=PATIENCE_SECONDS
            ).returncode

    def _collect(self, task, executor_input, output_file, pod):
        # As strict as Kubeflow is.
        output = json_format.Parse(output_file.read_text(), pipeline_spec_pb2.ExecutorOutput())
        for name, artifacts in executor_input.outputs.artifacts.items():
            if name == LOGS:
                continue
            artifact = artifacts.artifacts[0]
            for reported in output.artifacts[name].artifacts:
                artifact.uri = reported.uri or artifact.uri
                artifact.metadata.update(json_format.MessageToDict(reported.metadata))
            for key, value in artifact.metadata.items():
                assert value is not None, f"{task}.{name}: Kubeflow can't keep the null of {key}"
            if not self.driver.is_mounted:
                _copy(artifact.uri, pod, self.store)
            # Kubeflow's own.
            artifact.metadata["display_name"] = name
            artifact.name = str(next(self._ids))
            self.artifacts[task, name] = artifact


def _copy(uri: str, source: Path, target: Path) -> bool:
    """Copies a file or a folder, into what is there already: nothing is ever deleted; whether there is any."""
    path = _under(source, uri)
    if path.is_dir():
        shutil.copytree(path, _under(target, uri), dirs_exist_ok=True)
    elif path.is_file():
        _under(target, uri).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, _under(target, uri))
    return path.exists()


def _local(name: str, root: Path) -> Path:
    """Where a step finds an output file under another root than `/`."""
    return _under(root, name) if "://" in name else root / name.lstrip("/")


def _under(folder: Path, uri: str) -> Path:
    scheme, separator, path = uri.partition("://")
    assert separator, f"{uri} isn't of the run's store"
    return folder / {"gs": "gcs", "minio": "minio"}[scheme] / path
