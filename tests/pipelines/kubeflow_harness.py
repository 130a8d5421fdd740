"""Runs a compiled pipeline as open-source Kubeflow does: every container's command, in a pod of its own.

A pod is a folder with nothing in it but the step's inputs, which are copied from the object store, a folder, too. What
is told to the step and taken from it is what Kubeflow's driver and launcher (backend/src/v2 of kubeflow/pipelines)
tell and take: input artifacts without a type, numbers as floats, custom properties that aren't the step's own.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from graphlib import TopologicalSorter
from pathlib import Path

from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2

ROOT = Path(__file__).resolve().parents[2]
STORE = "minio://mlpipeline/v2/artifacts/run"
# The image's PATH has its Python first.
ENVIRONMENT = {
    "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.defpath}",
    "PYTHONPATH": str(ROOT),
    "TF_CPP_MIN_LOG_LEVEL": "3",
}
# So that a step that hangs fails the test instead.
_PATIENCE_SECONDS = 600


class StepFailedError(AssertionError):
    """A container ended with another code than 0."""


class WarmPython:
    """A Python that has imported TFX and forks for every command (kubeflow_zygote.py).

    Args:
      folder: gets its log.
    """

    def __init__(self, folder: Path) -> None:
        self._log = folder / "zygote.log"
        with open(self._log, "w") as log:
            self._process = subprocess.Popen(
                [sys.executable, Path(__file__).with_name("kubeflow_zygote.py")],
                env=ENVIRONMENT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,
            )

    def __enter__(self) -> WarmPython:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait(_PATIENCE_SECONDS)

    def run(self, command: list[str], environment: dict[str, str], folder: Path, log: Path) -> int:
        """Runs `python -m MODULE ARGUMENTS`; returns its exit code."""
        request = {"command": command, "environment": environment, "folder": str(folder), "log": str(log)}
        deadline = threading.Timer(_PATIENCE_SECONDS, os.killpg, (self._process.pid, signal.SIGKILL))
        deadline.start()
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            answer = self._process.stdout.readline()
        finally:
            deadline.cancel()
        if not answer:
            raise StepFailedError(f"the Python with TFX is gone:\n{self._log.read_text()[-6000:]}")
        return int(answer)


class Cluster:
    """One run of a pipeline.

    Args:
      folder: gets `store/`, what the object store holds, and `pods/`.
      spec: PipelineSpec as JSON.
      python: runs the tasks.
      cold: tasks that run in a Python of their own, as in a container, and not in a fork.
    """

    def __init__(self, folder: Path, spec: dict, python: WarmPython, cold: frozenset[str] = frozenset()) -> None:
        self.spec = spec
        self.store, self.pods = folder / "store", folder / "pods"
        self.artifacts: dict[tuple[str, str], pipeline_spec_pb2.RuntimeArtifact] = {}
        self._python, self.cold = python, cold
        self._ids = itertools.count(1)
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
        component = self.spec["components"][self._tasks[task]["componentRef"]["name"]]
        pod = self.pods / task
        # A pod that is retried starts afresh.
        shutil.rmtree(pod, ignore_errors=True)
        (pod / "work").mkdir(parents=True)
        executor_input = self._executor_input(task, component, parameters, pod)
        for artifacts in executor_input.inputs.artifacts.values():
            self._copy(artifacts.artifacts[0].uri, self.store, pod)
        container = self.spec["deploymentSpec"]["executors"][component["executorLabel"]]["container"]
        command = [
            word.replace("{{$}}", json_format.MessageToJson(executor_input))
            for word in [*container["command"], *container["args"]]
        ]
        code = self._start(command, pod, cold=task in self.cold)
        if code:
            raise StepFailedError(f"{task} ended with {code}:\n{self.log(task)[-6000:]}")
        self._collect(task, executor_input, pod)

    def folder(self, task: str, output: str) -> Path:
        """An artifact in the object store."""
        return _under(self.store, self.artifacts[task, output].uri)

    def log(self, task: str) -> str:
        """What a step printed."""
        return (self.pods / task / "log").read_text()

    def _executor_input(self, task, component, parameters, pod):
        given, message = self._tasks[task]["inputs"], pipeline_spec_pb2.ExecutorInput()
        for name, source in given.get("parameters", {}).items():
            if "componentInputParameter" in source:
                value = parameters[source["componentInputParameter"]]
            else:
                value = source["runtimeValue"]["constant"]
            json_format.ParseDict(value, message.inputs.parameter_values[name])
        for name, source in given.get("artifacts", {}).items():
            output = source["taskOutputArtifact"]
            made = self.artifacts[output["producerTask"], output["outputArtifactKey"]]
            artifact = message.inputs.artifacts[name].artifacts.add(name=made.name, uri=made.uri)
            artifact.metadata.CopyFrom(made.metadata)
        for name, definition in component.get("outputDefinitions", {}).get("artifacts", {}).items():
            uri = f"{STORE}/{task}/{next(self._ids)}/{name}"
            artifact = message.outputs.artifacts[name].artifacts.add(uri=uri)
            json_format.ParseDict(definition["artifactType"], artifact.type)
            _under(pod, artifact.uri).parent.mkdir(parents=True, exist_ok=True)
        message.outputs.output_file = str(pod / "kfp_outputs" / "output_metadata.json")
        return message

    def _start(self, command: list[str], pod: Path, cold: bool) -> int:
        # Nothing else of this process's environment reaches a step.
        environment = {**ENVIRONMENT, "HOME": str(pod), "KUBEFLOW_MOUNT_ROOT": str(pod)}
        if not cold:
            return self._python.run(command, environment, pod / "work", pod / "log")
        with open(pod / "log", "w") as log:
            return subprocess.run(
                command, env=environment, cwd=pod / "work", stdout=log, stderr=log, timeout=_PATIENCE_SECONDS
            ).returncode

    def _collect(self, task, executor_input, pod):
        text = Path(executor_input.outputs.output_file).read_text()
        # As strict as Kubeflow is.
        output = json_format.Parse(text, pipeline_spec_pb2.ExecutorOutput())
        for name, artifacts in executor_input.outputs.artifacts.items():
            artifact = artifacts.artifacts[0]
            for reported in output.artifacts[name].artifacts:
                artifact.uri = reported.uri or artifact.uri
                artifact.metadata.update(json_format.MessageToDict(reported.metadata))
            for key, value in artifact.metadata.items():
                assert value is not None, f"{task}.{name}: Kubeflow can't keep the null of {key}"
            self._copy(artifact.uri, pod, self.store)
            # Kubeflow's own.
            artifact.metadata["display_name"] = name
            artifact.name = str(next(self._ids))
            self.artifacts[task, name] = artifact

    def _copy(self, uri: str, source: Path, target: Path) -> None:
        if _under(source, uri).exists():
            shutil.copytree(_under(source, uri), _under(target, uri))


def _under(folder: Path, uri: str) -> Path:
    scheme, separator, path = uri.partition("://")
    assert (scheme, separator) == ("minio", "://"), f"{uri} isn't of the run's store"
    return folder / scheme / path
