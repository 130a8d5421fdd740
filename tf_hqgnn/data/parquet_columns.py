"""Which types of Parquet columns are read, and how ids come out of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa

from tf_hqgnn.data.parquet_file import ParquetFile
from tf_hqgnn.types import BoolArray, InputError

_T = pa.types
# Views came with pyarrow 16.
_TEXT: list[Callable[[pa.DataType], bool]] = [
    getattr(_T, f"is_{name}")
    for name in ("string", "large_string", "binary", "large_binary", "string_view", "binary_view")
    if hasattr(_T, f"is_{name}")
]
_KINDS: dict[str, list[Callable[[pa.DataType], bool]]] = {
    "strings": _TEXT,
    "integers": [_T.is_integer],
    "numbers": [_T.is_integer, _T.is_floating, _T.is_decimal],
    "times": [_T.is_timestamp, _T.is_date],
    "booleans": [_T.is_boolean],
    "nulls": [_T.is_null],
}


def value_type(kind: pa.DataType) -> pa.DataType:
    """The type of a column's values, be they encoded by a dictionary or not."""
    return kind.value_type if _T.is_dictionary(kind) else kind


def is_text(kind: pa.DataType) -> bool:
    """Whether a type holds text or bytes of it."""
    return any(is_kind(kind) for is_kind in _TEXT)


def check_type(file: ParquetFile, name: str, column: str, expected: Sequence[str]) -> None:
    """Refuses a column whose type isn't one of those expected.

    Args:
      file: of `open_parquet`.
      name: what messages call it.
      column: one of its columns.
      expected: of strings, integers, numbers, times, booleans, nulls.

    Raises:
      InputError: It names the column, its type and the cure.
    """
    kind = file.unreadable.get(column, file.schema_arrow.field(column).type)
    check_kind(kind, name, column, expected)


def check_kind(kind: pa.DataType | str, name: str, column: str, expected: Sequence[str]) -> None:
    """Refuse a column whose type isn't among the accepted kinds; a type given by name is one that can't be read."""
    readable = not isinstance(kind, str)
    fits = readable and any(is_kind(value_type(kind)) for group in expected for is_kind in _KINDS[group])
    if not fits:
        shown = [group for group in expected if group != "nulls"]
        raise InputError(
            f"{name}: column {column} is of type {kind}; expected "
            f"{' or '.join(filter(None, [', '.join(shown[:-1]), shown[-1]]))}, cast the column"
        )


def to_strings(column: pa.Array) -> tuple[pa.Array, BoolArray]:
    """Values as string [n] with nulls, and a boolean mask [n] of those that aren't UTF-8 (null, too)."""
    if _T.is_dictionary(column.type):
        column = column.dictionary_decode()
    undecodable = np.zeros(len(column), bool)
    try:
        strings = column.cast(pa.utf8())
        strings.validate(full=True)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        values: list[str | None] = []
        for row, value in enumerate(to_bytes(column).to_pylist()):
            try:
                values.append(None if value is None else value.decode())
            except UnicodeDecodeError:
                undecodable[row] = True
                values.append(None)
        strings = pa.array(values, pa.utf8())
    return strings, undecodable


def to_bytes(column: pa.Array) -> pa.Array:
    """Ids as binary [n], whatever they were; not checked to be UTF-8."""
    if _T.is_dictionary(column.type):
        column = column.dictionary_decode()
    if _T.is_integer(column.type):
        column = column.cast(pa.utf8())
    try:
        return column.cast(pa.binary())
    except pa.ArrowNotImplementedError:
        values = column.to_pylist()
        return pa.array(
            [value if value is None or isinstance(value, bytes) else str(value).encode() for value in values]
        )
