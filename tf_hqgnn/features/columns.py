"""How columns of features become numbers: which kind each is, and the values that it may have."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from tf_hqgnn.data.feature_table import FeatureTable
from tf_hqgnn.data.timestamps import NUMBER
from tf_hqgnn.types import ObjectArray

# How files say in a column of numbers that there is none.
_NO_NUMBER = frozenset(("none", "na", "inf", "-inf", "?", "-", "unknown", "missing"))
_LARGEST = float(np.finfo(np.float32).max)
# Of all columns: a ridge regression over more would take minutes.
MAX_VALUES = 4096
_TEXT_BUCKETS = 1024
# Of a column of numbers, at least: a few rows may say "unknown".
_NUMBER_SHARE = 0.95
_MAX_KNOTS = 12
# A column whose values nearly all differ is no category, but an address or a name.
_DISTINCT_SHARE = 0.5
_DISTINCT_ROWS = 50
# What TensorFlow's `strip` takes away.
BLANKS = " \t\n\r\f\v"


@dataclass(frozen=True)
class Column:
    """A column of features.

    Args:
      name: its name.
      kind: `number`, `category`, `list` or `text`.
      values: of a category or list, the known ones.
      knots: of a number, ascending; between two of them the regression is a straight line.
      buckets: of a text, into which its words are hashed.
    """

    name: str
    kind: str
    values: tuple[str, ...] = ()
    knots: tuple[float, ...] = ()
    buckets: int = 0

    @property
    def width(self) -> int:
        """How many numbers it becomes."""
        return len(self.values) or len(self.knots) or self.buckets

    def describe(self) -> str:
        """Returns what the column is, in words.

        Example:
          >>> Column("year", "number", knots=(1990.0, 1999.0)).describe()
          'year (number, 1990 to 1999)'
        """
        if self.kind == "number":
            return f"{self.name} (number, {self.knots[0]:g} to {self.knots[-1]:g})"
        return f"{self.name} ({self.kind}, {self.width:,} {'buckets' if self.kind == 'text' else 'values'})"

    def to_json(self) -> dict[str, Any]:
        """Returns what `from_json` reads."""
        return asdict(self)

    @staticmethod
    def from_json(values: dict[str, Any]) -> Column:
        """Reads what `to_json` gave."""
        lists = {name: tuple(values[name]) for name in ("values", "knots")}
        return Column(values["name"], values["kind"], buckets=values["buckets"], **lists)


def fit_columns(table: FeatureTable) -> tuple[tuple[Column, ...], tuple[str, ...]]:
    """Decides how the columns of a table are read.

    A column of numbers (but for a twentieth, and for words such as `unknown`) is a number, one with `|` in it a list,
    one of different sentences a text, and any other a category, unless the table names the kind. Of more than 4,096
    values the most frequent are kept.

    Returns:
      The columns, and the names of those that are left out, because nothing is in them or nearly all values differ.

    Example:
      >>> values = {"year": ["1990", "1999"], "genres": ["War|Drama", "War"], "shop": ["a", "b"]}
      >>> texts = {name: np.array(column, object) for name, column in values.items()}
      >>> columns, _ = fit_columns(FeatureTable(np.array(["x", "y"], object), texts))
      >>> [column.describe() for column in columns]
      ['year (number, 1990 to 1999)', 'genres (list, 2 values)', 'shop (category, 2 values)']
    """
    found: dict[str, Column] = {}
    counts: list[tuple[int, str, str]] = []
    for name, texts in table.columns.items():
        present = texts[texts != ""]
        kind = table.kinds.get(name) or _kind(present)
        if not len(present) or (name not in table.kinds and kind == "category" and _all_differ(present)):
            continue
        if kind == "number":
            numbers = np.array([float(text) for text in present if is_number(text)])
            numbers = numbers[np.abs(numbers) <= _LARGEST]
            if len(numbers):
                knots = np.unique(np.quantile(numbers, np.linspace(0, 1, _MAX_KNOTS)))
                distinct = np.unique(numbers)
                found[name] = Column(name, kind, knots=tuple(map(float, distinct if len(distinct) <= 12 else knots)))
        elif kind == "text":
            found[name] = Column(name, kind, buckets=_TEXT_BUCKETS)
        else:
            found[name] = Column(name, kind)
            tally = Counter(piece for text in present for piece in set(pieces(text, kind)))
            counts += [(-count, name, value) for value, count in tally.items()]
    kept: dict[str, list[str]] = {}
    for _, name, value in sorted(counts)[:MAX_VALUES]:
        kept.setdefault(name, []).append(value)
    columns = []
    for name, column in found.items():
        if column.kind in ("category", "list"):
            column = Column(name, column.kind, values=tuple(sorted(kept.get(name, ()))))
        if column.width:
            columns.append(column)
    used = {column.name for column in columns}
    return tuple(columns), tuple(name for name in table.columns if name not in used)


def pieces(text: str, kind: str) -> Iterator[str]:
    """Yields the values of a category (one) or a list (separated by `|`), without blanks around them."""
    for piece in text.split("|") if kind == "list" else (text,):
        if stripped := piece.strip(BLANKS):
            yield stripped


def is_number(text: str) -> bool:
    """Tells whether a text is a number, as a log may have it."""
    return re.fullmatch(NUMBER, text, re.ASCII) is not None


def _kind(present: ObjectArray) -> str:
    told = [text for text in present if text.lower() not in _NO_NUMBER]
    if told and sum(map(is_number, told)) >= _NUMBER_SHARE * len(told):
        return "number"
    if any("|" in text for text in present):
        return "list"
    blanks = sum(" " in text for text in present)
    return "text" if _differ(present) and blanks > len(present) / 2 else "category"


def _differ(present: ObjectArray) -> bool:
    return len(set(present)) > _DISTINCT_SHARE * len(present)


def _all_differ(present: ObjectArray) -> bool:
    return len(present) >= _DISTINCT_ROWS and _differ(present)
