"""Types that every part of the package shares."""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast

import numpy as np
import numpy.typing as npt

T = TypeVar("T")
S = TypeVar("S")

# How little a pair may count beside others; 100 half-lives.
SMALLEST_WEIGHT = 2.0**-100

Array = npt.NDArray[Any]
BoolArray = npt.NDArray[np.bool_]
UInt8Array = npt.NDArray[np.uint8]
Int32Array = npt.NDArray[np.int32]
Int64Array = npt.NDArray[np.int64]
Float32Array = npt.NDArray[np.float32]
Float64Array = npt.NDArray[np.float64]
# Where the width doesn't matter.
IntArray = npt.NDArray[np.integer[Any]]
FloatArray = npt.NDArray[np.floating[Any]]
# Strings are kept as Python's objects: NumPy's own have a fixed width.
ObjectArray = npt.NDArray[np.object_]


# What breaks a line or turns its direction: control characters, separators of lines, and marks of writing direction.
UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
# The same, and the halves of surrogate pairs, which no encoding has.
UNSHOWABLE = re.compile(f"{UNPRINTABLE.pattern}|[\ud800-\udfff]")


class InputError(ValueError):
    r"""A user's mistake (a bad file, a wrong setting): the command line shows it as one line and exits with 2.

    Args:
      message: one line; what isn't printable in it, as in the name of a file, is escaped.

    Example:
      >>> print(InputError("a\nb.csv: no such file"))
      a\nb.csv: no such file
    """

    def __init__(self, message: object = "") -> None:
        super().__init__(UNPRINTABLE.sub(lambda found: ascii(found[0])[1:-1], str(message)))


class NotFittedError(ValueError, AttributeError):
    """Raised where a recommender is asked before it has learnt anything."""


@dataclass(frozen=True)
class Interactions:
    """Pairs of rows: user `user_index[n]` interacted with item `item_index[n]`.

    Args:
      user_index: int32 [n].
      item_index: int32 [n].
      timestamp: float64 [n], or None where the log has no time.
      weight: float64 [n], above 0: how much each counts, relative to the others; None where all count the same.
    """

    user_index: Int32Array
    item_index: Int32Array
    timestamp: Float64Array | None = None
    weight: Float64Array | None = None

    def __post_init__(self) -> None:
        if self.user_index.shape != self.item_index.shape or self.user_index.ndim != 1:
            raise ValueError(
                f"user_index and item_index must be vectors of one length, got {self.user_index.shape} and "
                f"{self.item_index.shape}"
            )

    def __len__(self) -> int:
        return len(self.user_index)

    def take(self, rows: IntArray | BoolArray) -> Interactions:
        """The interactions at `rows` (indices or a boolean mask), in that order."""
        timestamp = None if self.timestamp is None else self.timestamp[rows]
        weight = None if self.weight is None else self.weight[rows]
        return Interactions(self.user_index[rows], self.item_index[rows], timestamp, weight)

    def relative_weight(self) -> Float32Array | None:
        """The weights divided by their mean, but at least 2^-100; float32 [n], None where all count the same.

        Example:
          >>> pairs = np.zeros(3, np.int32)
          >>> Interactions(pairs, pairs, weight=np.array([2.0, 2.0, 8.0])).relative_weight().tolist()
          [0.5, 0.5, 2.0]
        """
        if self.weight is None or not len(self.weight) or self.weight.min() == self.weight.max():
            return None
        # Of weights too far apart, the small ones would be 0 in float32.
        relative: Float32Array = np.maximum(self.weight / self.weight.mean(), SMALLEST_WEIGHT).astype(np.float32)
        return relative

    def to_csr(self, num_users: int) -> tuple[Int64Array, Int32Array]:
        """`(indptr, indices)`: int64 [num_users + 1] and int32 [n], the sorted items of each user."""
        # One number a pair: sorting these takes a tenth of the time of sorting by two columns.
        width = int(self.item_index.max(initial=0)) + 1
        pairs = self.user_index.astype(np.int64) * width + self.item_index
        pairs.sort()
        counts = np.bincount(self.user_index, minlength=num_users)
        indptr = np.zeros(num_users + 1, np.int64)
        np.cumsum(counts, out=indptr[1:])
        return indptr, (pairs % width).astype(np.int32)


def concatenate(*parts: Interactions) -> Interactions:
    """All interactions of `parts`, one after the other; the time is dropped unless every part has it.

    Where some parts have weights, the pairs of the others weigh 1.
    """
    timestamps = [part.timestamp for part in parts if part.timestamp is not None]
    weights = [np.ones(len(part)) if part.weight is None else part.weight for part in parts]
    return Interactions(
        np.concatenate([part.user_index for part in parts]),
        np.concatenate([part.item_index for part in parts]),
        np.concatenate(timestamps) if len(timestamps) == len(parts) else None,
        np.concatenate(weights) if any(part.weight is not None for part in parts) else None,
    )


class Registry(Generic[T]):
    """The classes of one kind, by the names that settings give them.

    Args:
      kind: what they are, for messages.
      package: every module of it is imported when the registry is first asked, so a class is known by having a file
        there.

    Example:
      >>> shapes: Registry[object] = Registry("shape")
      >>> @shapes.register("square")
      ... class Square:
      ...     pass
      >>> shapes.names()
      ('square',)
      >>> shapes["circle"]
      Traceback (most recent call last):
      ...
      ValueError: unknown shape 'circle': expected one of square
    """

    def __init__(self, kind: str, package: str | None = None) -> None:
        self.kind = kind
        self.package = package
        self._classes: dict[str, type[T]] = {}
        self._is_complete = package is None

    def register(self, name: str) -> Callable[[type[S]], type[S]]:
        """A decorator that registers a class, and gives it the attribute `name`.

        Raises:
          ValueError: Another class has that name.
        """

        def decorate(cls: type[S]) -> type[S]:
            other = self._classes.get(name)
            if other is not None and (other.__module__, other.__qualname__) != (cls.__module__, cls.__qualname__):
                raise ValueError(f"the {self.kind} {name!r} is registered already: {other.__module__}")
            cls.name = name  # type: ignore[attr-defined]
            self._classes[name] = cast("type[T]", cls)
            return cls

        return decorate

    def remove(self, name: str) -> None:
        """Forgets a class that was registered."""
        del self._classes[name]

    def names(self) -> tuple[str, ...]:
        """All names, sorted."""
        self._complete()
        return tuple(sorted(self._classes))

    def comes_with_package(self, name: str) -> bool:
        """Whether a class has its file in the registry's package, and wasn't registered from elsewhere."""
        return self.package is not None and self[name].__module__.startswith(f"{self.package}.")

    def __getitem__(self, name: str) -> type[T]:
        """The class of that name.

        Raises:
          ValueError: There is none.
        """
        self._complete()
        if name not in self._classes:
            raise ValueError(f"unknown {self.kind} {name!r}: expected one of {', '.join(self.names())}")
        return self._classes[name]

    def _complete(self) -> None:
        if not self._is_complete and self.package is not None:
            self._is_complete = True
            for module in pkgutil.iter_modules(importlib.import_module(self.package).__path__, f"{self.package}."):
                importlib.import_module(module.name)
