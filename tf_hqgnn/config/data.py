"""Settings of `data`: where the interactions are, and how they are divided."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from tf_hqgnn.config.section import Section, registered
from tf_hqgnn.data.formats.input_format import INPUT_FORMATS


class SplitConfig(Section):
    """Settings that divide interactions: a share of each user's (`random`), the last ones, or by time over all."""

    method: Literal["random", "leave_last_out", "temporal"] = "random"
    valid: float = Field(0.1, ge=0, lt=1, description="share of interactions; ignored by leave_last_out")
    test: float = Field(0.1, ge=0, lt=1, description="share of interactions; ignored by leave_last_out")


class DataConfig(Section):
    """Where the interactions are and how they become train, valid and test."""

    path: str | None = Field(None, description="{SPAN} in it stands for the number of a day: logs/day-{SPAN}.csv")
    num_spans: int | None = Field(None, ge=1, description="only the latest so many; null reads every span")
    train_path: str | None = None
    valid_path: str | None = Field(None, description="optional; without it, split.valid of train_path is held out")
    test_path: str | None = None
    items_path: str | None = None
    format: Annotated[str, registered(INPUT_FORMATS, "auto")] = "auto"
    k_core: int = Field(0, ge=0, description="every kept user and item has at least this many interactions")
    min_rating: float | None = None
    split: SplitConfig = SplitConfig()
    max_bad_rows: int = Field(0, ge=0)
    max_growth: float | None = Field(
        10.0, gt=1, description="so many times more rows than usual, or fewer, stop the run; null lets any number pass"
    )
    max_id_drift: float | None = Field(
        0.5, ge=0, le=1, description="share of ids of another kind than before that stops the run; null lets any pass"
    )
    quarantine_path: str | None = None

    @model_validator(mode="after")
    def _one_source(self) -> DataConfig:
        if self.path and (self.train_path or self.test_path):
            raise ValueError("give either data.path or data.train_path with data.test_path, not both")
        if bool(self.train_path) != bool(self.test_path):
            raise ValueError("data.train_path and data.test_path go together: one of them is missing")
        if self.valid_path and not self.train_path:
            raise ValueError("data.valid_path goes with data.train_path and data.test_path, which are missing")
        return self
