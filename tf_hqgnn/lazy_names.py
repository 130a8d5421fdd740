"""Public names of a package that are imported when they are first asked for, so that importing the package is cheap."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any


def lazy_names(package: str, modules: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """The functions `__getattr__` and `__dir__` of a package's `__init__`.

    Args:
      package: The package's `__name__`.
      modules: By public name, the module of the package that defines it.

    Returns:
      `(__getattr__, __dir__)`.

    Example:
      >>> get, names = lazy_names("json", {"JSONDecoder": "decoder"})
      >>> get("JSONDecoder").__module__, names()
      ('json.decoder', ['JSONDecoder'])
      >>> get("JSONdecoder")
      Traceback (most recent call last):
      ...
      AttributeError: module 'json' has no attribute 'JSONdecoder'
    """

    def get(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f"{package}.{modules[name]}"), name)

    return get, lambda: sorted(modules)
