"""Settings of `evaluation`, `retrieval` and `export`: how rows are judged, searched and served."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from tf_hqgnn.config.section import METRIC_PATTERN, Section, registered
from tf_hqgnn.retrieval.indices.index import INDICES


class EvaluationConfig(Section):
    """Full-catalogue ranking."""

    k: tuple[int, ...] = (10, 20, 50)
    monitor: str = Field(
        "ndcg@20",
        pattern=METRIC_PATTERN,
        description="the validation metric that chooses: recall, ndcg, mrr, hit, precision or coverage at any k",
    )
    chunk_size: int = Field(1024, ge=1, description="users ranked by one call, fewer where the catalogue is large")
    validation_users: int = Field(
        50_000, ge=1, description="users by whom a training is judged, at most: a sample; `evaluate` takes them all"
    )

    @property
    def monitor_k(self) -> int:
        """The cut-off of `monitor`."""
        return int(self.monitor.partition("@")[2])


class RetrievalConfig(Section):
    """ScaNN's index; what is None is chosen: leaves by the catalogue's size, the others by the recall they reach."""

    index: Annotated[str, registered(INDICES, "auto")] = Field(
        "auto", description="of hqgnn_scann; auto: exact below 20,000 items, where searching gains nothing"
    )
    num_leaves: int | None = Field(None, ge=1)
    num_leaves_to_search: int | None = Field(None, ge=1)
    reorder: int | None = Field(None, ge=1, description="candidates at least that the rows themselves score")
    target_recall: float = Field(0.98, gt=0, le=1, description="of the exact 100 best items, for a sample of users")

    @property
    def is_auto(self) -> bool:
        """Whether the index is chosen by the catalogue's size."""
        return self.index not in INDICES.names()

    @model_validator(mode="after")
    def _settings_are_of_the_index(self) -> RetrievalConfig:
        if self.is_auto:
            return self
        for name in INDICES.names():
            for setting in INDICES[name].settings:
                if setting not in INDICES[self.index].settings and getattr(self, setting) is not None:
                    raise ValueError(f"{setting} is of {name}, but index is {self.index}: leave one of them out")
        return self


class ExportConfig(Section):
    """What the SavedModels answer; `quantization.bits` says what they hold."""

    default_k: int = Field(10, ge=1, description="answers of serving_default and tf_example")
    jit_compile: bool = Field(
        False,
        description="exact search of codes by XLA, 2 to 3 times as fast; TF Serving on CPU then needs "
        "--xla_cpu_compilation_enabled=true",
    )
