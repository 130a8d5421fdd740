"""What open-source Kubeflow lets a step ask of Kubernetes, checked: the KubernetesExecutorConfig of kfp-kubernetes.

Kubeflow reads it from the second document of a pipeline's YAML and fails the run over a field that it doesn't know.
These are the fields, by their JSON names, of its releases from 2.2 on that a step here has a use for.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Name = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$")]
MountPath = Annotated[str, Field(pattern=r"^/[^:]*$")]
EnvName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
Labels = dict[Annotated[str, Field(min_length=1)], str]


class _Message(BaseModel):
    # Strict: Kubernetes wants "true" quoted where it is the value of a label.
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class NodeSelector(_Message):
    """Labels that a node must have."""

    labels: Labels


class Toleration(_Message):
    """A taint of nodes on which the step may run all the same."""

    key: str = ""
    operator: Literal["Equal", "Exists"] = "Equal"
    value: str = ""
    effect: Literal["", "NoSchedule", "PreferNoSchedule", "NoExecute"] = ""
    tolerationSeconds: int | None = None

    @model_validator(mode="after")
    def _fits(self) -> Toleration:
        if self.operator == "Exists" and self.value:
            raise ValueError("operator Exists takes no value; leave it out, or use Equal")
        if self.operator == "Equal" and not self.key:
            raise ValueError("operator Equal needs a key")
        return self


class SecretKey(_Message):
    """A key of a secret as an environment variable."""

    secretKey: str = Field(min_length=1)
    envVar: EnvName


class SecretAsEnv(_Message):
    """A secret's keys as environment variables."""

    secretName: Name
    keyToEnv: list[SecretKey] = Field(min_length=1)


class SecretAsVolume(_Message):
    """A secret as files."""

    secretName: Name
    mountPath: MountPath
    optional: bool | None = None


class ConfigMapKey(_Message):
    """A key of a ConfigMap as an environment variable."""

    configMapKey: str = Field(min_length=1)
    envVar: EnvName


class ConfigMapAsEnv(_Message):
    """A ConfigMap's keys as environment variables."""

    configMapName: Name
    keyToEnv: list[ConfigMapKey] = Field(min_length=1)


class ConfigMapAsVolume(_Message):
    """A ConfigMap as files."""

    configMapName: Name
    mountPath: MountPath
    optional: bool | None = None


class PvcMount(_Message):
    """A PersistentVolumeClaim by its name, and where it is mounted."""

    constant: Name
    mountPath: MountPath


class EmptyDirMount(_Message):
    """Scratch space."""

    volumeName: Name
    mountPath: MountPath
    medium: Literal["", "Memory"] | None = None
    sizeLimit: str | None = None


class ImagePullSecret(_Message):
    """The secret with which the image is pulled."""

    secretName: Name


class PodMetadata(_Message):
    """Labels and annotations of the pod."""

    labels: Labels | None = None
    annotations: Labels | None = None


class KubernetesConfig(_Message):
    """KubernetesExecutorConfig."""

    nodeSelector: NodeSelector | None = None
    tolerations: list[Toleration] = []
    secretAsEnv: list[SecretAsEnv] = []
    secretAsVolume: list[SecretAsVolume] = []
    configMapAsEnv: list[ConfigMapAsEnv] = []
    configMapAsVolume: list[ConfigMapAsVolume] = []
    pvcMount: list[PvcMount] = []
    emptyDirMounts: list[EmptyDirMount] = []
    imagePullSecret: list[ImagePullSecret] = []
    imagePullPolicy: Literal["Always", "IfNotPresent", "Never"] | None = None
    podMetadata: PodMetadata | None = None
    activeDeadlineSeconds: int | None = Field(None, gt=0)

    @model_validator(mode="after")
    def _places_differ(self) -> KubernetesConfig:
        mounts: list[Any] = [*self.secretAsVolume, *self.configMapAsVolume, *self.pvcMount, *self.emptyDirMounts]
        paths = [mount.mountPath for mount in mounts]
        for path in paths:
            if paths.count(path) > 1:
                raise ValueError(f"{path} is the mountPath of {paths.count(path)} volumes; give each its own")
        return self

    def to_json(self) -> dict[str, Any]:
        """As Kubeflow reads it, what was not given left out."""
        return self.model_dump(exclude_unset=True, exclude_none=True)
