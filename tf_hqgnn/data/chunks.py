"""The columns that every reader hands over, piece by piece."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from tf_hqgnn.data.column_names import COLUMNS, EVENT_COLUMN, ID_COLUMNS, NUMBER_COLUMNS, STANDARD_NAMES, ColumnNames
from tf_hqgnn.data.ids import MAX_ID_BYTES, MISSING, TOO_LONG, WITH_NUL
from tf_hqgnn.data.timestamps import ACCEPTED
from tf_hqgnn.types import Float64Array, InputError

__all__ = [
    "BROKEN_QUOTING",
    "EVENT_COLUMN",
    "ID_COLUMNS",
    "ITEM_COLUMNS",
    "LARGEST",
    "MISSING_EVENT",
    "NEGATIVE_WEIGHT",
    "NUMBER_COLUMNS",
    "REPEATED_HEADER",
    "UNDECODABLE",
    "WRONG_COLUMN_COUNT",
    "Chunk",
    "Chunks",
    "bad_id",
    "bad_number",
    "check_columns",
    "chunk_from_lists",
    "dictionary",
    "expectation",
    "is_header",
    "not_finite",
]

ITEM_COLUMNS = ("item_id", "title", "category", "available")

# The kinds of bad rows, in the order in which they are looked for: a row with several faults counts once.
UNDECODABLE = "undecodable bytes"
BROKEN_QUOTING = "broken quoting"
WRONG_COLUMN_COUNT = "wrong column count"
# Of files that were joined without taking their headers off.
REPEATED_HEADER = "repeated header"


MISSING_EVENT = f"missing {EVENT_COLUMN}"
NEGATIVE_WEIGHT = "weight below 0"

# What a good value of each column is, for messages.
_VALUES = {
    "timestamp": ACCEPTED,
    "rating": "a number such as 4 or 4.5 (where ; separates, also 4,5)",
    "weight": "a number such as 1 or 0.5 (where ; separates, also 0,5)",
}


_FAULTS_OF_IDS = {
    MISSING: ("missing {}", "an id in every row"),
    TOO_LONG: ("{} too long", f"ids of at most {MAX_ID_BYTES:,} bytes"),
    WITH_NUL: ("NUL character in {}", "ids without NUL characters"),
}


def bad_id(column: str, fault: str) -> str:
    """The kind of a row whose id has one of the faults of `tf_hqgnn.data.ids`.

    >>> bad_id("user_id", MISSING), bad_id("item_id", TOO_LONG)
    ('missing user_id', 'item_id too long')
    """
    return _FAULTS_OF_IDS[fault][0].format(column)


def not_finite(column: str) -> str:
    """The kind of a row whose number is empty, no number, NaN or infinite."""
    return f"{column} not a finite number"


def bad_number(column: str, value: float) -> str:
    """The kind of a row whose number isn't one that its column may have; "" for a good one.

    Args:
      column: `timestamp`, `rating` or `weight`.
      value: NaN where it is none.

    Example:
      >>> bad_number("weight", -1.0), bad_number("rating", -1.0), bad_number("rating", float("nan"))
      ('weight below 0', '', 'rating not a finite number')
    """
    if not abs(value) <= LARGEST[column]:
        return not_finite(column)
    # Checked by row: a row below 0 would be hidden by the sum of its pair.
    return NEGATIVE_WEIGHT if column == "weight" and value < 0 else ""


def expectation(kind: str) -> str:
    """What a row of this kind should have had, for messages.

    >>> expectation("missing user_id")
    'an id in every row'
    """
    for fault, (_, expected) in _FAULTS_OF_IDS.items():
        if kind in [bad_id(column, fault) for column in ID_COLUMNS]:
            return expected
    for column, value in _VALUES.items():
        if kind == not_finite(column):
            return f"{column} to be {value}"
    return {
        MISSING_EVENT: "an event in every row",
        NEGATIVE_WEIGHT: "weights of 0 and more (a dislike is a low rating: set data.negative_rating)",
        UNDECODABLE: "UTF-8 text",
        BROKEN_QUOTING: 'fields such as title or "title"',
        WRONG_COLUMN_COUNT: "as many columns as the header has",
        REPEATED_HEADER: "the header once, before the first row",
    }[kind]


class Chunk(NamedTuple):
    """Good rows: ids as dictionary<int32, string> arrays [n], numbers float64 [n] or None where the file has none.

    Events are as ids; None where the file has none, or they aren't asked for.
    """

    user_id: pa.DictionaryArray
    item_id: pa.DictionaryArray
    timestamp: Float64Array | None
    rating: Float64Array | None
    weight: Float64Array | None
    event: pa.DictionaryArray | None = None


Chunks = Iterator[Chunk]


# The largest number of each column: ratings and weights are kept as float32.
LARGEST = {
    "timestamp": float(np.finfo(np.float64).max),
    "rating": float(np.finfo(np.float32).max),
    "weight": float(np.finfo(np.float32).max),
}


def chunk_from_lists(
    user_id: Sequence[str],
    item_id: Sequence[str],
    numbers: dict[str, list[float]],
    columns: Iterable[str],
    event: Sequence[str] | None = None,
) -> Chunk:
    """A chunk from Python values; `columns` are the numbers that the file has."""
    given = set(columns)
    timestamp, rating, weight = (
        np.asarray(numbers[column], np.float64) if column in given else None for column in NUMBER_COLUMNS
    )
    users, items = (dictionary(pa.array(values, pa.utf8())) for values in (user_id, item_id))
    events = None if event is None else dictionary(pa.array(event, pa.utf8()))
    return Chunk(users, items, timestamp, rating, weight, events)


def dictionary(strings: pa.Array) -> pa.DictionaryArray:
    """Strings as dictionary<int32, string>."""
    return strings.dictionary_encode()


def is_header(user: str, item: str, columns: ColumnNames = STANDARD_NAMES) -> bool:
    r"""Whether a row names the id columns, as the header does; a byte order mark may be before it.

    >>> is_header("\ufeffuser_id", "item_id"), is_header("user_id:token", "item_id:token"), is_header("user_id", "i")
    (True, True, False)
    """
    return tuple(name.removeprefix("\ufeff").partition(":")[0] for name in (user, item)) == tuple(
        columns[column] for column in ID_COLUMNS
    )


def _cure(name: str, absent: Sequence[str]) -> str:
    """What to do about a name that isn't the one that was expected, but may hold it; empty if it doesn't."""
    if name.startswith(("#", "%", "//")):
        return "a comment isn't read as a header: take the comment, or its sign, out"
    if name.strip() in absent:
        return "blanks belong to names and ids: take them out around the separators"
    if any(re.search(rf"(^|[^A-Za-z]){column}([^A-Za-z]|$)", name) for column in absent):
        return "expected a column for each name, separated by commas, tabs, semicolons or bars (.inter: tabs)"
    return ""


def check_columns(path: Path, names: Sequence[str], columns: ColumnNames = STANDARD_NAMES) -> None:
    """Refuses a file without the id columns or one that `data.columns` names, or with one of the known columns twice.

    Raises:
      InputError: In one line, with what the file has.
    """
    absent = [columns[column] for column in ID_COLUMNS if columns[column] not in names]
    shown = ", ".join(names[:20]) or "none"
    if absent:
        if names and not any(re.search("[A-Za-z]", name) for name in names):
            raise InputError(
                f"{path}: the first line ({shown}) is data, and not a header; put a line with the names of the columns "
                "before it, such as user_id,item_id,rating,timestamp"
            )
        for name in names:
            if cure := _cure(name, absent):
                raise InputError(f"{path}: the header has {name[:80]!r}; {cure}")
        raise InputError(
            f"{path}: no column {' and no column '.join(absent)}; expected at least "
            f"{' and '.join(columns[column] for column in ID_COLUMNS)} (optional: {', '.join(NUMBER_COLUMNS)}), found: "
            f"{shown}; rename the columns in the header, set data.columns to what they are called, or add a header "
            "where the first line is data"
        )
    for column, name in columns.names.items():
        if name not in names and column in COLUMNS:
            raise InputError(f"{path}: no column {name}, which data.columns names for {column}; found: {shown}")
    for column in columns.read:
        if list(names).count(columns[column]) > 1:
            raise InputError(
                f"{path}: column {columns[column]} appears more than once; expected it once, remove or rename the "
                "others"
            )
