"""The pipeline as Kubeflow's specification: compiled by TFX, with what TFX leaves out added."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml
from kfp.pipeline_spec import pipeline_spec_pb2
from tfx.orchestration.data_types import RuntimeParameter
from tfx.orchestration.kubeflow.v2.kubeflow_v2_dag_runner import KubeflowV2DagRunner, KubeflowV2DagRunnerConfig
from tfx.orchestration.pipeline import Pipeline

from tf_hqgnn.config import Config
from tf_hqgnn.files.durable import write_file
from tf_hqgnn.tfx.kubeflow_step import OUTPUTS_SPEC_FLAG
from tf_hqgnn.tfx.thresholds import Thresholds
from tf_hqgnn.types import InputError

from .kubeflow_steps import Step
from .pipeline import create_pipeline

Platform = Literal["kfp", "vertex"]
# Lower case and hyphens are all that Kubeflow allows.
PIPELINE_NAME = "tf-hqgnn"
COMMAND = ("python", "-m", "tf_hqgnn.tfx.kubeflow_step")
# The generated module has no types.
_protos: Any = pipeline_spec_pb2


@dataclass(frozen=True)
class RunParameters:
    """Defaults of what an operator may change when starting a run.

    Args:
      data_path: the log, as the steps see it.
      items_path: titles and categories; "" for what the config says.
      max_epochs: 0 for what the config says.
      thresholds: what a model must show.
      serving_dir: where the models are pushed to.
      model_store: of the pointer to the last blessed model.
    """

    data_path: str
    items_path: str
    max_epochs: int
    thresholds: Thresholds
    serving_dir: str
    model_store: str

    def values(self) -> dict[str, str | int]:
        """Name -> default."""
        return {name: getattr(self, name) for name in _DESCRIPTIONS} | {
            "thresholds": json.dumps(self.thresholds.model_dump())
        }


_DESCRIPTIONS = {
    "data_path": "the log, as the steps see it (a mounted file); empty for that of the settings",
    "items_path": "titles, categories and features of items, likewise",
    "max_epochs": "of the training; 0 for that of the settings",
    "thresholds": "JSON: what a model must show to be pushed; what is left out has tf_hqgnn's default",
    "serving_dir": "gets hqgnn/VERSION and hqgnn_scann/VERSION; a mounted folder",
    "model_store": "of the pointer to the last blessed model and of what training starts from; no server mounts it",
}


def make_pipeline(
    config: Config, parameters: RunParameters, root: str, keep: int = 0, model_config_file: str = ""
) -> Pipeline:
    """The pipeline with RuntimeParameters in place of values.

    Args:
      config: settings, fixed at compile time but for `parameters`.
      parameters: their defaults.
      root: of the artifacts; "" for that of the installation.
      keep: as in `create_pipeline`.
      model_config_file: as in `create_pipeline`, as the steps see it.
    """
    run_time: dict[str, Any] = {
        name: RuntimeParameter(name, type(default), default) for name, default in parameters.values().items()
    }
    # Without cache: InteractionGen depends on files that Kubeflow doesn't look into (the log, the model store), whose
    # state the local runner puts into `input_fingerprint` and `store_state`; and what comes after a step that has run
    # is never in the cache, since its inputs are new artifacts.
    return create_pipeline(
        pipeline_name=PIPELINE_NAME,
        pipeline_root=root,
        config=config,
        enable_cache=False,
        check_first=True,
        keep=keep,
        model_config_file=model_config_file,
        **run_time,
    )


def compile_pipeline(
    pipeline: Pipeline,
    parameters: RunParameters,
    steps: Mapping[str, Step],
    image: str,
    platform: Platform,
) -> dict[str, Any]:
    """Compiles; returns the PipelineJob as JSON, whose `pipelineSpec` has schema 2.1.0.

    Args:
      pipeline: of `make_pipeline`; compiled once only.
      parameters: the defaults of its run-time parameters.
      steps: name -> what it gets.
      image: of the steps that name none.
      platform: they name GPUs differently.
    """
    for component in pipeline.components:
        component.with_platform_config(_resources(steps[component.id], platform))
    images = {name: step.image or image for name, step in steps.items()}
    config = KubeflowV2DagRunnerConfig(
        default_image={**images, "default_image_path": image},
        default_commands=list(COMMAND),
        use_pipeline_spec_2_1=True,
    )
    job = KubeflowV2DagRunner(config).run(pipeline, write_out=False)
    spec = job["pipelineSpec"]
    if pipeline.pipeline_info.pipeline_root:
        spec["defaultPipelineRoot"] = pipeline.pipeline_info.pipeline_root
    for component in spec["components"].values():
        container = spec["deploymentSpec"]["executors"][component["executorLabel"]]["container"]
        # TFX gives a step the types of its inputs alone; without this one it can't tell its outputs from Kubeflow's.
        container["args"] += [OUTPUTS_SPEC_FLAG, json.dumps(component.get("outputDefinitions", {}), sort_keys=True)]
    inputs = spec["root"]["inputDefinitions"]["parameters"]
    for name, default in parameters.values().items():
        inputs[name] |= {"defaultValue": default, "description": _DESCRIPTIONS[name], "isOptional": True}
    for name, task in spec["root"]["dag"]["tasks"].items():
        if steps[name].retries:
            task["retryPolicy"] = {
                "maxRetryCount": steps[name].retries,
                "backoffDuration": "60s",
                "backoffFactor": 2.0,
                "backoffMaxDuration": "3600s",
            }
    return job


def kubernetes_document(spec: Mapping[str, Any], steps: Mapping[str, Step]) -> dict[str, Any] | None:
    """The second document of open-source Kubeflow: what only Kubernetes knows of; None without any."""
    executors = {
        spec["components"][name]["executorLabel"]: step.kubernetes.to_json()
        for name, step in steps.items()
        if step.kubernetes.to_json()
    }
    return {"platforms": {"kubernetes": {"deploymentSpec": {"executors": executors}}}} if executors else None


def write_kfp(path: Path, documents: list[dict[str, Any]]) -> None:
    """Writes the YAML that open-source Kubeflow and `kfp.components.load_component_from_file` read."""
    _replace(path, yaml.safe_dump_all(documents, sort_keys=True, allow_unicode=True, width=120))


def write_vertex(path: Path, job: Mapping[str, Any]) -> None:
    """Writes the PipelineJob as JSON, which Vertex reads."""
    _replace(path, json.dumps(job, indent=2, sort_keys=True, ensure_ascii=False) + "\n")


def _replace(path: Path, text: str) -> None:
    try:
        write_file(path, text)
    except OSError as error:
        raise InputError(f"--out {path}: {error.strerror or error}; expected a file that can be written") from error


def _resources(step: Step, platform: Platform) -> Any:
    resources = _protos.PipelineDeploymentConfig.PipelineContainerSpec.ResourceSpec(
        cpu_limit=step.cpu or 0, memory_limit=step.memory_gb or 0
    )
    if platform == "kfp":
        # Vertex chooses a machine by the limits.
        resources.cpu_request, resources.memory_request = step.cpu_request or 0, step.memory_request_gb or 0
    if step.gpu:
        resources.accelerator.count = step.gpu
        resources.accelerator.type = step.gpu_type if platform == "kfp" else step.vertex_gpu_type
    return resources
