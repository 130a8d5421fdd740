"""Settings of `data`: where the interactions are, and how they are divided."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from tf_hqgnn.config.section import Section, registered
from tf_hqgnn.data.column_names import COLUMNS, ColumnNames
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
    items_path: str | None = Field(
        None, description="What is known of items; several files, in a list or separated by commas, are joined by id."
    )
    users_path: str | None = Field(None, description="What is known of users: user_id and features, likewise.")
    item_features: tuple[str, ...] | Literal["auto"] = Field(
        (),
        description="Columns from which new items get an embedding, such as [genres, year, title:text]; a kind behind "
        "the name (number, category, list, text) overrules what the values say. auto: all columns but title, category "
        "and available.",
    )
    user_features: tuple[str, ...] | Literal["auto"] = Field(
        (), description="Columns of users_path from which new users get an embedding, as item_features."
    )
    format: Annotated[str, registered(INPUT_FORMATS, "auto")] = "auto"
    k_core: int = Field(0, ge=0, description="every kept user and item has at least this many interactions")
    columns: dict[str, str] = Field(
        {}, description="What the log's columns are called in its files, such as {user_id: customer, item_id: sku}."
    )
    min_rating: float | None = Field(
        None, allow_inf_nan=False, description="Only rows rated at least this much count as interactions."
    )
    negative_rating: float | None = Field(
        None,
        allow_inf_nan=False,
        description="Rows rated below this are dislikes: never recommended, and pushed away in training.",
    )
    event_weights: dict[str, Annotated[float, Field(ge=0, le=1e15, allow_inf_nan=False)]] | None = Field(
        None, description="The weight of a row by its event, such as {view: 1, purchase: 5}; null ignores events."
    )
    exclude_events: tuple[str, ...] | None = Field(
        None, description="Items that a user took by one of these events never come back; null: by any event."
    )
    combine: Literal["sum", "largest", "last"] = Field(
        "sum", description="The weight of a pair with several rows is their sum, the largest, or that of the last row."
    )
    half_life_days: float | None = Field(
        None, gt=0, description="A row weighs half as much for every so many days before the end of the log."
    )
    split: SplitConfig = SplitConfig()
    max_bad_rows: int = Field(0, ge=0)
    max_growth: float | None = Field(
        10.0, gt=1, description="so many times more rows than usual, or fewer, stop the run; null lets any number pass"
    )
    max_id_drift: float | None = Field(
        0.5, ge=0, le=1, description="share of ids of another kind than before that stops the run; null lets any pass"
    )
    quarantine_path: str | None = None

    @field_validator("items_path", "users_path", mode="before")
    @classmethod
    def _joined_paths(cls, value: object) -> object:
        """A list of paths is kept as the command line has it: separated by commas."""
        several = isinstance(value, list | tuple) and all(isinstance(path, str) for path in value)
        return ",".join(value) if several else value  # type: ignore[arg-type]

    @field_validator("item_features", "user_features", "exclude_events", mode="before")
    @classmethod
    def _names(cls, value: object) -> object:
        """`genres,year`, as the command line has it, is a list."""
        several = isinstance(value, str) and value != "auto"
        return tuple(name.strip() for name in value.split(",")) if several else value  # type: ignore[attr-defined]

    @model_validator(mode="after")
    def _one_source(self) -> DataConfig:
        if self.path and (self.train_path or self.test_path):
            raise ValueError("give either data.path or data.train_path with data.test_path, not both")
        if bool(self.train_path) != bool(self.test_path):
            raise ValueError("data.train_path and data.test_path go together: one of them is missing")
        if self.valid_path and not self.train_path:
            raise ValueError("data.valid_path goes with data.train_path and data.test_path, which are missing")
        return self

    @model_validator(mode="after")
    def _known_columns(self) -> DataConfig:
        for name in self.columns:
            if name not in COLUMNS:
                raise ValueError(f"data.columns: {name!r} is not a column of the log; expected {', '.join(COLUMNS)}")
        ColumnNames(self.columns)
        return self

    @model_validator(mode="after")
    def _dislikes_below_likes(self) -> DataConfig:
        low, high = self.negative_rating, self.min_rating
        if low is not None and high is not None and low > high:
            raise ValueError(
                f"data.negative_rating={low:g} is above data.min_rating={high:g}: a row can't be liked and disliked"
            )
        if self.exclude_events is not None and not self.exclude_events:
            raise ValueError("data.exclude_events is empty; name the events that count as taken, or null for any")
        return self
