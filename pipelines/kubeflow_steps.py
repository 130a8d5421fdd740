"""What each step gets on Kubeflow: image, processors, memory, GPUs, and what only Kubernetes knows of."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from tf_hqgnn.types import InputError

from .kubernetes_config import KubernetesConfig

DEFAULT_STEPS = Path(__file__).resolve().parent / "steps.yaml"
ALL = "all"


class Step(BaseModel):
    """One step; None where the cluster decides.

    Kubeflow writes memory into the pod as a decimal quantity: 32 GB is `32G`, 32 * 10^9 bytes, which is 29.8 GiB.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    image: str | None = Field(None, min_length=1, description="in place of --image")
    cpu: float | None = Field(None, gt=0, description="limit, in cores")
    memory_gb: float | None = Field(None, gt=0, description="limit, in GB of 10^9 bytes")
    cpu_request: float | None = Field(None, gt=0, description="request, in cores; None: the limit")
    memory_request_gb: float | None = Field(None, gt=0, description="request, in GB of 10^9 bytes; None: the limit")
    gpu: int = Field(0, ge=0)
    gpu_type: str = Field("nvidia.com/gpu", description="open-source Kubeflow: the Kubernetes resource's name")
    vertex_gpu_type: str | None = Field(None, description="Vertex: NVIDIA_L4, ...")
    retries: int = Field(0, ge=0, description="of a failed step")
    kubernetes: KubernetesConfig = Field(
        default_factory=KubernetesConfig, description="node selectors, tolerations, secrets, volumes"
    )

    @model_validator(mode="after")
    def _request_fits(self) -> Step:
        for request, limit in (("cpu_request", "cpu"), ("memory_request_gb", "memory_gb")):
            asked, allowed = getattr(self, request), getattr(self, limit)
            if asked is not None and allowed is not None and asked > allowed:
                raise ValueError(f"{request} is {asked:g}, more than the limit {limit} of {allowed:g}")
        return self


def read_steps(path: Path, names: Collection[str]) -> dict[str, Step]:
    """Reads a file of steps.

    Args:
      path: YAML of `all` and of names of steps, each with fields of `Step`. What a step says replaces what `all` says,
        field by field, and in `kubernetes` also field by field.
      names: of the pipeline's steps.

    Returns:
      Every name -> its step.

    Raises:
      InputError: The file can't be read, names no step of the pipeline, or a field is wrong.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except OSError as error:
        raise InputError(f"--steps {path}: {error.strerror or error}; expected a YAML file that can be read") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"--steps {path}: not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict) or not all(isinstance(value, dict) for value in values.values()):
        raise InputError(f"--steps {path}: expected `step: {{cpu: .., memory_gb: .., ..}}`, as in pipelines/steps.yaml")
    unknown = sorted(set(values) - set(names) - {ALL})
    if unknown:
        raise InputError(f"--steps {path}: no step is called {unknown[0]}; there are {', '.join([ALL, *names])}")
    common = values.get(ALL, {})
    return {name: _parse(path, name, _merge(common, values.get(name, {}))) for name in names}


def _merge(common: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    merged = {**common, **own}
    kubernetes = {**(common.get("kubernetes") or {}), **(own.get("kubernetes") or {})}
    return {**merged, "kubernetes": kubernetes}


def _parse(path: Path, name: str, values: dict[str, Any]) -> Step:
    try:
        return Step.model_validate(values)
    except ValidationError as error:
        raise InputError(f"--steps {path}: {name}.{explain(error)}") from error


def explain(error: ValidationError) -> str:
    """The first problem of a validation, with its place."""
    problem = error.errors()[0]
    where = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        return f"{where}: no such field"
    message = problem["msg"].removeprefix("Value error, ")
    # A rule about several fields names them itself.
    return f"{where}: {message}, got {problem['input']!r}" if where else message
