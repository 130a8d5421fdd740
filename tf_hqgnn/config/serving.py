"""Settings of `evaluation`, `retrieval` and `export`: how rows are judged, searched and served."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from tf_hqgnn.config.section import METRIC_PATTERN, Section, registered
from tf_hqgnn.retrieval.indices.index import INDICES


class EvaluationConfig(Section):
    """How models are judged: all items are ranked for every user."""

    k: tuple[int, ...] = Field((10, 20, 50), description="The cut-offs of the metrics that a training reports.")
    monitor: str = Field(
        "ndcg@20",
        pattern=METRIC_PATTERN,
        description="The validation metric by which epochs, propagations and settings are chosen: recall, ndcg, mrr, "
        "hit, precision or coverage at any k.",
    )
    chunk_size: int = Field(
        1024,
        ge=1,
        description="Users that are ranked by one call, fewer where the catalogue is large.",
    )
    validation_users: int = Field(
        50_000, ge=1, description="Judge a training by a sample of at most this many users; `evaluate` takes all."
    )

    @property
    def monitor_k(self) -> int:
        """The cut-off of `monitor`."""
        return int(self.monitor.partition("@")[2])


class RetrievalConfig(Section):
    """The search of the exported model hqgnn_scann. Settings that are null are chosen at the export."""

    index: Annotated[str, registered(INDICES, "auto")] = Field(
        "auto",
        description="The search of the model hqgnn_scann; auto is exact below 20,000 items, where an index gains "
        "nothing.",
    )
    num_leaves: int | None = Field(
        None, ge=1, description="Partitions of ScaNN's index; null chooses by the size of the catalogue."
    )
    num_leaves_to_search: int | None = Field(
        None, ge=1, description="Partitions that a query searches; null takes as many as target_recall needs."
    )
    reorder: int | None = Field(
        None,
        ge=1,
        description="The least number of candidates that are scored again exactly; null takes as many as "
        "target_recall needs.",
    )
    target_recall: float = Field(
        0.98, gt=0, le=1, description="The share of the 100 best items that the index must find for a sample of users."
    )

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
    """What the exported models answer by default, and how they are compiled."""

    default_k: int = Field(
        10,
        ge=1,
        description="Items that the signatures serving_default and tf_example return, which take no k.",
    )
    device: Literal["any", "cpu", "gpu"] = Field(
        "any",
        description="The devices that the exact search is made for. cpu adds a search of 1, 2, 4 and 8-bit codes by "
        "8-bit integer products, for catalogues from 65,536 items on; processors without such products take the usual "
        "search, but a GPU would be slow. any and gpu use only operations that a GPU has.",
    )
    jit_compile: bool = Field(
        False,
        description="Compile the exact search of codes by XLA, which makes it 2 to 3 times as fast. TF Serving on CPU "
        "then needs --xla_cpu_compilation_enabled=true.",
    )
