"""Reads the files that the project writes itself: a damaged one is named in one line, and nothing in it can run."""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from tf_hqgnn.types import Array, InputError

T = TypeVar("T")

# What a damaged archive of arrays raises, depending on where it is cut.
_DAMAGED = (
    ValueError,
    KeyError,
    EOFError,
    TypeError,
    AttributeError,
    NotImplementedError,
    OverflowError,
    MemoryError,
    zipfile.BadZipFile,
    zlib.error,
)


def read_arrays(path: Path, *names: str, cure: str, optional: Sequence[str] = ()) -> dict[str, Array]:
    """Arrays of an .npz file; never unpickles.

    Args:
      path: of the file.
      names: of the arrays to read; without any, all of them.
      cure: what to do about a damaged file, for messages.
      optional: of arrays to read besides `names` if the file has them.

    Raises:
      InputError: The file isn't there, is damaged, or lacks an array.
    """

    def load() -> dict[str, Array]:
        # Opened here: NumPy leaves a damaged file open.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            _check_sizes(path, arrays.zip)
            there = [name for name in optional if name in arrays.files]
            return {name: arrays[name] for name in (*names, *there) or arrays.files}

    return _read(path, load, cure)


def read_array(path: Path, *, cure: str) -> Array:
    """The array of an .npy file; see `read_arrays`."""

    def load() -> Array:
        with path.open("rb") as file:
            array: Array = np.load(file, allow_pickle=False)
        if not isinstance(array, np.ndarray):
            raise ValueError("it holds several arrays, expected one")
        return array

    return _read(path, load, cure)


def read_json(path: Path, *, cure: str) -> dict[str, Any]:
    """The object of a JSON file.

    Args:
      path: of the file.
      cure: what to do about a damaged file, for messages.

    Raises:
      InputError: The file isn't there, is damaged, or holds something else than an object.
    """

    def load() -> dict[str, Any]:
        value = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(value, dict):
            raise ValueError(f"expected a JSON object, got {type(value).__name__}")
        return value

    return _read(path, load, cure)


def read_text(path: Path, *, cure: str) -> str:
    """The text of a file in UTF-8 that isn't empty; see `read_json`."""

    def load() -> str:
        text = path.read_text(encoding="utf-8")
        if not text:
            raise ValueError("it is empty")
        return text

    return _read(path, load, cure)


def _check_sizes(path: Path, archive: zipfile.ZipFile) -> None:
    """Refuses an archive whose content is larger than itself: ours aren't compressed, and it could be of any size."""
    size = sum(member.file_size for member in archive.infolist())
    if size > path.stat().st_size:
        raise ValueError(f"it is compressed, and its content has {size:,} bytes")


@contextmanager
def naming_damage(path: Path, cure: str) -> Iterator[None]:
    """Names a file in one line, as an InputError, where what was read from it isn't what was written to it."""
    try:
        yield
    except InputError:
        raise
    except _DAMAGED as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{path}: the file is damaged ({reason}); {cure}") from error


def _read(path: Path, load: Callable[[], T], cure: str) -> T:
    try:
        with naming_damage(path, cure):
            return load()
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; {cure}") from error
    except OSError as error:
        raise InputError(f"{path}: {(error.strerror or str(error)).lower()}; {cure}") from error
    except RecursionError as error:
        raise InputError(f"{path}: the file is damaged (nested too deeply); {cure}") from error
