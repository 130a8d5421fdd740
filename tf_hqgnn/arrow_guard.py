"""Keeps pyarrow from running code that it finds in a file (CVE-2023-47248).

Before 14.0.1, pyarrow unpickles the extension types that a Parquet or Feather file names, used or not, and with them
whatever its author has put there. TFX's pins keep pyarrow at 10. The package `pyarrow-hotfix` takes that away, once it
is imported; `tf_hqgnn/__init__.py` sees to it before any module of this package can touch pyarrow.
"""

from __future__ import annotations

import importlib
import re
from importlib import metadata

_SAFE = (14, 0, 1)


def forbid_pickled_types() -> None:
    """Imports the hotfix where the installed pyarrow needs it.

    Raises:
      ImportError: It needs it, and the hotfix isn't installed.
    """
    try:
        version = metadata.version("pyarrow")
    except metadata.PackageNotFoundError:
        # What needs it says so when it is imported.
        return
    if is_safe(version):
        return
    try:
        importlib.import_module("pyarrow_hotfix")
    except ImportError as error:
        raise ImportError(
            f"pyarrow {version} runs code that it finds in Parquet files (CVE-2023-47248): install pyarrow-hotfix, or "
            "pyarrow 14.0.1 or newer"
        ) from error


def is_safe(version: str) -> bool:
    """Whether a release of pyarrow has the mend.

    >>> is_safe("10.0.1"), is_safe("14.0.1"), is_safe("21.0.0.dev3")
    (False, True, True)
    """
    return tuple(int(number) for number in re.findall(r"\d+", version)[:3]) >= _SAFE
