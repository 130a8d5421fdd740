"""What the columns of a log are called in its files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tf_hqgnn.types import InputError

ID_COLUMNS = ("user_id", "item_id")
NUMBER_COLUMNS = ("timestamp", "rating", "weight")
EVENT_COLUMN = "event"
# Every column that a log may have.
COLUMNS = (*ID_COLUMNS, *NUMBER_COLUMNS, EVENT_COLUMN)


@dataclass(frozen=True)
class ColumnNames:
    """The columns that are read, and their names in files.

    Args:
      names: by the column's own name, what it is called; a column that isn't named is called as it is.
      with_events: whether the column `event` is read.

    Raises:
      InputError: A name is empty, or that of a column of ids is another column's, too.

    Example:
      >>> columns = ColumnNames({"user_id": "customer"})
      >>> columns["user_id"], columns["item_id"], columns.unused(["customer", "item_id", "price"])
      ('customer', 'item_id', ('price',))
    """

    names: Mapping[str, Any] = field(default_factory=dict)
    with_events: bool = False

    def __post_init__(self) -> None:
        for column, name in self.names.items():
            if name == "":
                raise InputError(f"data.columns: the name for {column} is empty; expected what the column is called")
        for column in ID_COLUMNS:
            for other in COLUMNS:
                # Numbers may be two things: ratings are weights, too.
                if other != column and self[other] == self[column] and {column, other} & set(self.names):
                    raise InputError(
                        f"data.columns: {column} and {other} would both be the column {self[column]!r}; expected a "
                        "column of its own for each"
                    )

    def __getitem__(self, column: str) -> Any:
        """The name of a column in files."""
        return self.names.get(column, column)

    @property
    def optional(self) -> tuple[str, ...]:
        """The columns that are read where they are there."""
        return (*NUMBER_COLUMNS, EVENT_COLUMN) if self.with_events else NUMBER_COLUMNS

    @property
    def read(self) -> tuple[str, ...]:
        """The columns that are read, those of ids first."""
        return (*ID_COLUMNS, *self.optional)

    def present(self, found: Iterable[Any]) -> list[str]:
        """The optional columns that a file has, by their own names."""
        there = set(found)
        return [column for column in self.optional if self[column] in there]

    def unused(self, found: Sequence[Any]) -> tuple[str, ...]:
        """What a file has besides the columns that are read."""
        used = {self[column] for column in self.read}
        return tuple(str(name) for name in found if name not in used)


# Every column is called as it is, and events aren't read.
STANDARD_NAMES = ColumnNames()
