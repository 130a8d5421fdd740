"""What open-source Kubeflow refuses in a pipeline, told before it is uploaded.

The rules are those of its compiler, driver and launcher (backend/src/v2 of kubeflow/pipelines); some of them it only
finds out in the middle of a run.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import yaml
from pydantic import ValidationError

from .kubeflow_steps import explain
from .kubernetes_config import KubernetesConfig

Json = Mapping[str, Any]

SCHEMA_VERSION = "2.1.0"
# Argo's, whose tasks and templates they become; TFX's, for the pipeline.
_TASK_NAME = re.compile(r"[a-zA-Z0-9][-a-zA-Z0-9]{0,127}")
_PIPELINE_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,127}")
_GPU = re.compile(r"[a-z0-9.-]+\.[a-z]+/[a-zA-Z0-9._-]+")
_PLACEHOLDER = re.compile(r"\{\{\$[^}]*\}\}")
_PLACEHOLDERS = re.compile(
    r"\{\{\$(?:|\.inputs\.parameters\['(?P<parameter>[^']+)'\]"
    r"|\.inputs\.artifacts\['(?P<input>[^']+)'\]\.(?:uri|path)"
    r"|\.outputs\.artifacts\['(?P<output>[^']+)'\]\.(?:uri|path)"
    r"|\.outputs\.parameters\['(?P<written>[^']+)'\]\.output_file)\}\}"
)
_PARAMETER_TYPES: dict[str, tuple[type, ...]] = {
    "STRING": (str,),
    "NUMBER_INTEGER": (int,),
    "NUMBER_DOUBLE": (int, float),
    "BOOLEAN": (bool,),
    "LIST": (list,),
    "STRUCT": (dict,),
}
_SYSTEM_TYPES = ("Artifact", "Model", "Dataset", "Metrics", "ClassificationMetrics", "SlicedClassificationMetrics")
_TFX_TYPE = re.compile(r"tfx\.[A-Z]\w+")


def lint(documents: list[Any]) -> list[str]:
    """Problems of a pipeline for open-source Kubeflow, none if all is well.

    Args:
      documents: of the YAML: the PipelineSpec, and perhaps one with `platforms`.
    """
    if len(documents) not in (1, 2) or not all(isinstance(document, dict) for document in documents):
        return [f"{len(documents)} documents, expected a PipelineSpec and at most one with `platforms`"]
    spec = documents[0]
    second = _platform(documents[1], spec) if len(documents) == 2 else ()
    return [*_head(spec), *_components(spec), *_tasks(spec), *second]


def _head(spec: Json) -> Iterator[str]:
    version = spec.get("schemaVersion")
    if version != SCHEMA_VERSION:
        yield f"schemaVersion is {version}, Kubeflow takes {SCHEMA_VERSION}"
    name = spec.get("pipelineInfo", {}).get("name", "")
    if not _PIPELINE_NAME.fullmatch(name):
        yield f"pipelineInfo.name is {name!r}, expected lower-case letters, digits and hyphens"
    if "root" in spec.get("components", {}):
        yield "a component is called root, which is Kubeflow's own"
    for name, parameter in _parameters(spec.get("root", {})).items():
        yield from _parameter(f"root: parameter {name}", parameter)
    roots = spec.get("defaultPipelineRoot", "")
    if roots and not roots.startswith(("gs://", "s3://", "minio://")):
        yield f"defaultPipelineRoot is {roots}, Kubeflow's launcher knows gs://, s3:// and minio:// only"


def _parameter(where: str, parameter: Json) -> Iterator[str]:
    kind = parameter.get("parameterType")
    if kind not in _PARAMETER_TYPES:
        yield f"{where}: parameterType is {kind}, expected one of {', '.join(_PARAMETER_TYPES)}"
        return
    default = parameter.get("defaultValue")
    # True is an int to Python.
    mistaken = isinstance(default, bool) and kind != "BOOLEAN"
    if default is not None and (mistaken or not isinstance(default, _PARAMETER_TYPES[kind])):
        yield f"{where}: defaultValue {default!r} is no {kind}"


def _components(spec: Json) -> Iterator[str]:
    executors = spec.get("deploymentSpec", {}).get("executors", {})
    for name, component in spec.get("components", {}).items():
        for key in ("inputDefinitions", "outputDefinitions"):
            for parameter, definition in component.get(key, {}).get("parameters", {}).items():
                yield from _parameter(f"{name}: parameter {parameter}", definition)
            for artifact, definition in component.get(key, {}).get("artifacts", {}).items():
                yield from _artifact_type(f"{name}: artifact {artifact}", definition.get("artifactType", {}))
        if "dag" in component:
            continue
        executor = executors.get(component.get("executorLabel"))
        if executor is None:
            yield f"{name}: no executor is called {component.get('executorLabel')}"
        elif "container" in executor:
            yield from _container(name, component, executor["container"])
        elif "importer" in executor:
            yield from _artifact_type(f"{name}: importer", executor["importer"].get("typeSchema", {}), importer=True)
        else:
            yield f"{name}: executor is {', '.join(executor) or 'empty'}; Kubeflow runs containers and importers only"


def _artifact_type(where: str, schema: Json, importer: bool = False) -> Iterator[str]:
    if "schemaUri" in schema:
        yield f"{where}: schemaUri isn't supported"
        return
    title = schema.get("schemaTitle")
    if "instanceSchema" in schema:
        try:
            title = (yaml.safe_load(schema["instanceSchema"]) or {}).get("title")
        except (yaml.YAMLError, AttributeError):
            title = None
    if not title:
        yield f"{where}: its type has no title, without which Kubeflow's launcher crashes"
    elif importer and not (title.removeprefix("system.") in _SYSTEM_TYPES or _TFX_TYPE.fullmatch(title)):
        yield f"{where}: type {title} is unknown; expected system.Artifact, system.Model, .. or a type of TFX"


def _container(name: str, component: Json, container: Json) -> Iterator[str]:
    if not isinstance(container.get("image"), str) or not container["image"].strip():
        yield f"{name}: no image"
    words = [*(container.get("command") or []), *(container.get("args") or [])]
    if not container.get("command"):
        yield f"{name}: no command; Kubeflow's launcher doesn't know the image's ENTRYPOINT"
    for word in words:
        if not isinstance(word, str):
            yield f"{name}: argument {word!r} is no string"
            continue
        for placeholder in _PLACEHOLDER.findall(word):
            yield from _placeholder(name, component, placeholder)
    if "lifecycle" in container:
        yield f"{name}: a lifecycle hook (the driver of a file-based ExampleGen) is never run"
    resources = container.get("resources", {})
    for key in ("cpuLimit", "memoryLimit", "cpuRequest", "memoryRequest"):
        if isinstance(resources.get(key), (int, float)) and resources[key] < 0:
            yield f"{name}: {key} is {resources[key]}, expected a positive number"
    accelerator = resources.get("accelerator", {})
    if accelerator:
        kind = accelerator.get("resourceType") or accelerator.get("type", "")
        if not _GPU.fullmatch(kind):
            yield f"{name}: accelerator {kind!r} is no resource of Kubernetes, such as nvidia.com/gpu"
        # int64 is a string in JSON.
        if int(accelerator.get("resourceCount") or accelerator.get("count") or 0) < 1:
            yield f"{name}: an accelerator without a count"


def _placeholder(name: str, component: Json, placeholder: str) -> Iterator[str]:
    found = _PLACEHOLDERS.fullmatch(placeholder)
    if not found:
        yield f"{name}: placeholder {placeholder} is unknown"
        return
    definitions = {
        "parameter": ("inputDefinitions", "parameters"),
        "input": ("inputDefinitions", "artifacts"),
        "output": ("outputDefinitions", "artifacts"),
        "written": ("outputDefinitions", "parameters"),
    }
    for group, key in found.groupdict().items():
        if key is not None:
            section, kind = definitions[group]
            if key not in component.get(section, {}).get(kind, {}):
                yield f"{name}: placeholder {placeholder} names nothing that the component has"


def _tasks(spec: Json) -> Iterator[str]:
    tasks = spec.get("root", {}).get("dag", {}).get("tasks", {})
    if not tasks:
        yield "root has no tasks"
    for name, task in tasks.items():
        if not _TASK_NAME.fullmatch(name):
            yield f"task {name!r}: expected letters, digits and hyphens, which Argo takes"
        reference = task.get("componentRef", {}).get("name")
        component = spec.get("components", {}).get(reference)
        if component is None:
            yield f"{name}: no component is called {reference}"
            continue
        for other in task.get("dependentTasks", []):
            if other not in tasks:
                yield f"{name}: waits for {other}, which isn't there"
        yield from _task_parameters(name, task, component, _parameters(spec["root"]))
        yield from _task_artifacts(name, task, component, spec)
    yield from _cycles(tasks)


def _task_parameters(name: str, task: Json, component: Json, root: Json) -> Iterator[str]:
    given = task.get("inputs", {}).get("parameters", {})
    for key, source in given.items():
        where = f"{name}: parameter {key}"
        if key not in _parameters(component):
            yield f"{where}: the component has none of that name"
        if "componentInputParameter" in source:
            if source["componentInputParameter"] not in root:
                yield f"{where}: the pipeline has no parameter {source['componentInputParameter']}"
        elif "runtimeValue" in source:
            if "constant" not in source["runtimeValue"]:
                yield f"{where}: runtimeValue is {sorted(source['runtimeValue'])}, expected a constant (schema 2.1.0)"
        elif "taskOutputParameter" not in source:
            yield f"{where}: {', '.join(source) or 'no source'} isn't supported"
    for key, parameter in _parameters(component).items():
        if key not in given and not parameter.get("isOptional") and "defaultValue" not in parameter:
            yield f"{name}: parameter {key} has no value"


def _task_artifacts(name: str, task: Json, component: Json, spec: Json) -> Iterator[str]:
    given = task.get("inputs", {}).get("artifacts", {})
    tasks, components = spec["root"]["dag"]["tasks"], spec["components"]
    for key, source in given.items():
        where, output = f"{name}: artifact {key}", source.get("taskOutputArtifact", {})
        producer = output.get("producerTask")
        if producer not in tasks:
            yield f"{where}: no task is called {producer}"
            continue
        outputs = components.get(tasks[producer].get("componentRef", {}).get("name"), {}).get("outputDefinitions", {})
        if output.get("outputArtifactKey") not in outputs.get("artifacts", {}):
            yield f"{where}: {producer} has no output {output.get('outputArtifactKey')}"
        if producer not in task.get("dependentTasks", []):
            yield f"{where}: comes from {producer}, for which the task doesn't wait"
    for key, definition in component.get("inputDefinitions", {}).get("artifacts", {}).items():
        if key not in given and not definition.get("isOptional"):
            yield f"{name}: artifact {key} has no source"


def _cycles(tasks: Json) -> Iterator[str]:
    waiting = {name: set(task.get("dependentTasks", [])) & set(tasks) for name, task in tasks.items()}
    while ready := {name for name, others in waiting.items() if not others}:
        waiting = {name: others - ready for name, others in waiting.items() if name not in ready}
    if waiting:
        yield f"tasks wait for each other: {', '.join(sorted(waiting))}"


def _platform(document: Json, spec: Json) -> Iterator[str]:
    platforms = document.get("platforms")
    if set(document) != {"platforms"} or not isinstance(platforms, dict) or set(platforms) != {"kubernetes"}:
        yield "the second document isn't `platforms: {kubernetes: ..}`"
        return
    known = spec.get("deploymentSpec", {}).get("executors", {})
    for label, config in platforms["kubernetes"].get("deploymentSpec", {}).get("executors", {}).items():
        if label not in known:
            yield f"kubernetes: no executor is called {label}"
        try:
            KubernetesConfig.model_validate(config)
        except ValidationError as error:
            yield f"kubernetes: {label}.{explain(error)}"


def _parameters(component: Json) -> Json:
    parameters: Json = component.get("inputDefinitions", {}).get("parameters", {})
    return parameters
