"""Ids as the arrays that signatures take."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from tf_hqgnn.export.layout import RANGES
from tf_hqgnn.types import Array, InputError, ObjectArray


def as_objects(values: Sequence[Any]) -> ObjectArray:
    """Object [n]; NumPy would make strings of a fixed width, or a matrix, of some lists."""
    array = np.empty(len(values), object)
    array[:] = values
    return array


def encoded(texts: Sequence[str] | ObjectArray) -> ObjectArray:
    """UTF-8 bytes of each text, object [n]."""
    return as_objects([text.encode() for text in texts])


def feature_texts(features: Any) -> list[str]:
    """Returns the features of one user as `name=value`; unknown ones, as NaN and None, are left out.

    Args:
      features: a mapping of names to a value or a list of values, or texts of the form `name=value`.

    Raises:
      InputError: A text isn't of that form, or a name has = in it.

    Example:
      >>> feature_texts({"age": 24, "gender": None, "tags": ["a", "b"]}), feature_texts(["age=24"])
      (['age=24', 'tags=a', 'tags=b'], ['age=24'])
    """
    if isinstance(features, Mapping):
        texts = []
        for name, value in features.items():
            if not isinstance(name, str) or "=" in name or not name:
                raise InputError(f"features: expected names without =, got {name!r}")
            is_one = isinstance(value, str | bytes | Mapping) or not isinstance(value, Iterable)
            texts += [f"{name}={one}" for one in ([value] if is_one else value) if not _is_nothing(one)]
        return texts
    if isinstance(features, str | bytes) or not isinstance(features, Iterable):
        raise InputError(f"features: expected a mapping or a list of texts such as age=24, got {features!r}")
    listed = list(features)
    for text in listed:
        if not isinstance(text, str) or not text.partition("=")[0] or "=" not in text:
            raise InputError(f"features: expected texts such as age=24, got {text!r}")
    return listed


def _is_nothing(value: Any) -> bool:
    """Whether a value says that nothing is known: None, NaN, NaT and pandas' NA, or an empty text."""
    return value is None or str(value) in ("", "nan", "NaT", "<NA>")


def flags_of(name: str, given: Any, num_users: int) -> Array:
    """Return bool [1], for all users, or [num_users].

    Raises:
      InputError: It is neither True nor False, nor one for each user.
    """
    flags: Array = np.atleast_1d(np.asarray(given))
    if flags.dtype != bool or flags.shape not in ((1,), (num_users,)):
        raise InputError(f"{name}: expected True or False, or one for each of the {num_users} users, got {given!r}")
    return flags


def numbers_of(name: str, given: Any, num_users: int) -> Array:
    """Return float32 [1], for all users, or [num_users].

    Raises:
      InputError: It is neither a number in the range of `RANGES`, nor one for each user.

    Example:
      >>> numbers_of("diversity", 0.5, 3), numbers_of("diversity", [0, 1], 2)
      (array([0.5], dtype=float32), array([0., 1.], dtype=float32))
    """
    numbers, (low, high) = np.atleast_1d(np.asarray(given)), RANGES[name]
    is_number = numbers.dtype.kind in "iuf" and numbers.shape in ((1,), (num_users,))
    if not is_number or not ((low <= numbers) & (numbers <= high)).all():
        raise InputError(
            f"{name}: expected a number from {low:g} to {high:g}, or one for each of the {num_users} users, got "
            f"{given!r}"
        )
    return np.asarray(numbers, np.float32)


def padded(lists: Sequence[ObjectArray]) -> ObjectArray:
    """Encoded ids as object [len(lists), longest], at least one column, padded with b"".

    >>> padded([encoded(["a", "b"]), encoded(["c"])]).tolist()
    [[b'a', b'b'], [b'c', b'']]
    """
    array = np.full((len(lists), max(map(len, lists), default=0) or 1), b"", object)
    for row, ids in enumerate(lists):
        array[row, : len(ids)] = ids
    return array
