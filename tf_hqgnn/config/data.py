"""Settings of `data`: where the interactions are, and how they are divided."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from tf_hqgnn.config.section import Section, registered
from tf_hqgnn.data.column_names import COLUMNS, ColumnNames
from tf_hqgnn.data.formats.input_format import INPUT_FORMATS


class SplitConfig(Section):
    """How interactions are divided into training, validation and test."""

    method: Literal["random", "leave_last_out", "temporal"] = Field(
        "random",
        description="How interactions are held out: random takes a share of each user's, leave_last_out the last two "
        "of each user, temporal the latest of the whole log.",
    )
    valid: float = Field(
        0.1, ge=0, lt=1, description="The share of interactions held out for validation; leave_last_out ignores it."
    )
    test: float = Field(
        0.1, ge=0, lt=1, description="The share of interactions held out for testing; leave_last_out ignores it."
    )


class DataConfig(Section):
    """Where the log is, and what becomes of its rows."""

    path: str | None = Field(
        None,
        description="The log: a file or a folder. {SPAN} in it stands for the number of a day: logs/day-{SPAN}.csv.",
    )
    num_spans: int | None = Field(
        None, ge=1, description="How many days to read, the latest ones, where path has {SPAN}; null reads all."
    )
    train_path: str | None = Field(None, description="The training interactions, where the log is split already.")
    valid_path: str | None = Field(
        None, description="The validation interactions; null holds out a part of train_path, the share split.valid."
    )
    test_path: str | None = Field(None, description="The test interactions; needs train_path.")
    items_path: str | None = Field(
        None,
        description="A file of items with item_id and any of title, category, available and features. Several files, "
        "in a list or separated by commas, are joined by id.",
    )
    users_path: str | None = Field(
        None, description="A file of users with user_id and features; several files are joined by id."
    )
    item_features: tuple[str, ...] | Literal["auto"] = Field(
        (),
        description="Columns of items_path from which new items get an embedding, such as [genres, year, title:text]. "
        "A kind behind the name (number, category, list, text) overrules the one that is detected. auto takes all "
        "columns but title, category and available.",
    )
    user_features: tuple[str, ...] | Literal["auto"] = Field(
        (), description="Columns of users_path from which new users get an embedding, named as in item_features."
    )
    format: Annotated[str, registered(INPUT_FORMATS, "auto")] = Field(
        "auto", description="The format of the log; auto detects it by the content of the file."
    )
    k_core: int = Field(
        0, ge=0, description="Keep only users and items with at least this many interactions among those kept (k-core)."
    )
    columns: dict[str, str] = Field(
        {}, description="The names that the log's columns have in its files, such as {user_id: customer, item_id: sku}."
    )
    min_rating: float | None = Field(
        None,
        allow_inf_nan=False,
        description="Ignore rows rated below this; null counts every row, whatever its rating.",
    )
    negative_rating: float | None = Field(
        None,
        allow_inf_nan=False,
        description="Take rows rated below this for dislikes: left out of what is recommended to their user, "
        "and pushed away in training.",
    )
    event_weights: dict[str, Annotated[float, Field(ge=0, le=1e15, allow_inf_nan=False)]] | None = Field(
        None,
        description="The weight of a row by its event, such as {view: 1, purchase: 5}; null ignores the column event.",
    )
    exclude_events: tuple[str, ...] | None = Field(
        None, description="Never recommend items again that a user took by one of these events; null: by any event."
    )
    combine: Literal["sum", "largest", "last"] = Field(
        "sum",
        description="The weight of a (user, item) pair with several rows: their sum, the largest, or that of the last "
        "row.",
    )
    half_life_days: float | None = Field(
        None,
        gt=0,
        description="Halve the weight of a row for every this many days before the end of the log; null: all count "
        "alike.",
    )
    split: SplitConfig = SplitConfig()
    max_bad_rows: int = Field(0, ge=0, description="The most bad rows that are left out; more of them stop the run.")
    max_growth: float | None = Field(
        10.0,
        gt=1,
        description="Stop if a day's row count differs from the usual by more than this factor; null accepts any "
        "count.",
    )
    max_id_drift: float | None = Field(
        0.5,
        ge=0,
        le=1,
        description="Stop if more than this share of ids looks unlike those of days before; null accepts any ids.",
    )
    quarantine_path: str | None = Field(
        None, description="A CSV file that collects rows that can't be used; then any number of them is left out."
    )

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
