"""Object stores, such as s3:// and gs://: what can't read or write them says so before any work is done."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from tf_hqgnn.types import InputError

# pathlib makes one slash of two. A single letter is a drive of Windows.
_STORE = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/{1,2}([^/].*)", re.DOTALL)


def store_uri(path: str | Path) -> str | None:
    """Returns a path that names a place of a store, as it was written; None for a file or folder of this machine.

    Example:
      >>> store_uri(Path("s3://bucket/log.csv")), store_uri("C:/log.csv"), store_uri("log.csv")
      ('s3://bucket/log.csv', None, None)
    """
    found = _STORE.fullmatch(os.fspath(path))
    return None if found is None else f"{found[1]}://{found[2]}"


def refuse_stores(paths: Mapping[str, str | Path | Sequence[str | Path] | None], instead: str = "") -> None:
    """Refuses places of stores where only files and folders of this machine will do.

    Args:
      paths: name of the option or setting -> its value: a path, several in a list or separated by commas, or None.
      instead: what reads stores, to be said besides.

    Raises:
      InputError: A path names a place of a store.

    Example:
      >>> refuse_stores({"--out": "gs://bucket/run"})  # doctest: +ELLIPSIS
      Traceback (most recent call last):
      tf_hqgnn.types.InputError: --out gs://bucket/run: expected a path of this machine, not of an object store; ...
    """
    for name, value in paths.items():
        several = () if value is None else [value] if isinstance(value, str | Path) else value
        for path in (path for one in several for path in os.fspath(one).split(",")):
            uri = store_uri(path)
            if uri is not None:
                raise InputError(
                    f"{name} {uri}: expected a path of this machine, not of an object store; copy it to or from the "
                    f"store yourself, or mount the bucket and name its folder{instead}"
                )
