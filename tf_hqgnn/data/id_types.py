"""In which type ids come, and how they get back to it: inside, every id is text."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from tf_hqgnn.types import Array, InputError, ObjectArray

# Types of pandas that answers can have, too; a category stands for the type of its values.
_PANDAS = re.compile(r"U?Int\d+|Float\d+|string(\[\w+\])?|str|\w+\[pyarrow\]")
_TEXT, _BYTES = "str", "bytes"


@dataclass(frozen=True)
class IdType:
    """The type of a column of ids.

    Args:
      name: `str`, `bytes`, or the name of a NumPy type of integers or floats.
      pandas: the type that the column had in pandas where NumPy has no such type, as `Int64`; empty otherwise.

    Example:
      >>> IdType("int64").decode(np.array(["7", "-1"], object)).tolist()
      [7, -1]
    """

    name: str = _TEXT
    pandas: str = ""

    @staticmethod
    def of(kind: pa.DataType, pandas: str = "") -> IdType:
        """The type of ids in an Arrow column of type `kind`, which came from a column of pandas' type `pandas`."""
        if pa.types.is_dictionary(kind):
            kind = kind.value_type
        name = _TEXT
        if pa.types.is_integer(kind) or pa.types.is_floating(kind):
            name = np.dtype(kind.to_pandas_dtype()).name
        elif pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
            name = _BYTES
        return IdType(name, pandas if _PANDAS.fullmatch(pandas) else "")

    @property
    def is_text(self) -> bool:
        """Whether the ids came as text, and not as numbers."""
        return self.name in (_TEXT, _BYTES)

    @property
    def missing(self) -> Any:
        """The filler of a NumPy array where there is no id: "", -1, NaN, or the largest number of an unsigned type."""
        if self.is_text:
            return "" if self.name == _TEXT else b""
        dtype = np.dtype(self.name)
        if dtype.kind == "f":
            return np.nan
        return np.iinfo(dtype).max if dtype.kind == "u" else -1

    def decode(self, ids: ObjectArray) -> Array:
        """The ids in their type.

        Args:
          ids: object [n] of str.

        Returns:
          [n], object where they are `str` or `bytes`.

        Raises:
          ValueError: One of them isn't of that type.
        """
        if self.name == _TEXT:
            return ids
        if self.name == _BYTES:
            return np.array([*(value.encode() for value in ids), None], object)[:-1]
        dtype = np.dtype(self.name)
        wide = np.uint64 if dtype.kind == "u" else np.int64
        whole = [int(value) for value in ids]
        if any(str(number) != value for number, value in zip(whole, ids)):
            raise ValueError("an id isn't written as a number is: 007 is another id than 7")
        try:
            numbers: Array = np.array(whole, wide)
        except OverflowError as error:
            raise ValueError(str(error)) from error
        decoded = numbers.astype(dtype)
        if dtype.kind != "f" and not np.array_equal(decoded, numbers):
            raise ValueError(f"an id is outside the range of {dtype}")
        return decoded


def id_texts(name: str, ids: Any) -> ObjectArray:
    """Ids of any type as text.

    Args:
      name: of the argument, for messages.
      ids: one id; or a list, an array or a column of ids: strings, bytes in UTF-8 or whole numbers.

    Returns:
      Object [n] of str.

    Raises:
      InputError: Something else is among them.

    Example:
      >>> id_texts("users", [196, "u7", 3.0]).tolist()
      ['196', 'u7', '3']
    """
    texts = [_text(name, value) for value in as_list(name, ids)]
    array = np.empty(len(texts), object)
    array[:] = texts
    return array


def as_list(name: str, values: Any) -> list[Any]:
    """The values of a list, an array or a column, as a list; one string or number is a list of its own.

    Raises:
      InputError: It is a table, or can't be iterated over.
    """
    if isinstance(values, str | bytes) or np.isscalar(values):
        return [values]
    if hasattr(values, "columns") or hasattr(values, "column_names"):
        raise InputError(f"{name}: expected a list or a column of ids, got a table; take a column of it")
    for method in ("tolist", "to_list", "to_pylist"):
        if hasattr(values, method):
            listed = getattr(values, method)()
            return listed if isinstance(listed, list) else [listed]
    if not isinstance(values, Iterable):
        raise InputError(f"{name}: expected a list of ids, got {values!r}")
    return list(values)


def _text(name: str, value: Any) -> str:
    if isinstance(value, str):
        return str(value)
    if isinstance(value, int | np.integer) and not isinstance(value, bool):
        return str(int(value))
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError as error:
            raise InputError(f"{name}: {value!r} isn't UTF-8 text") from error
    raise InputError(f"{name}: {value!r} is not an id; expected strings or whole numbers, as in the log")
