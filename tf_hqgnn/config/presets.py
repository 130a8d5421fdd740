"""The presets, found by name wherever the package lies: in the wheel, or beside it in a checkout."""

from __future__ import annotations

import difflib
from pathlib import Path

from tf_hqgnn.types import InputError


def carried_folder(in_wheel: str, in_checkout: str) -> Path:
    """A folder that travels with the package.

    Args:
      in_wheel: its name within the package.
      in_checkout: its name beside the package, in the repository.
    """
    package = Path(__file__).resolve().parent.parent
    inside = package / in_wheel
    return inside if inside.is_dir() else package.parent / in_checkout


def preset_names() -> list[str]:
    """The names of all presets, sorted."""
    return sorted(path.stem for path in carried_folder("presets", "configs").glob("*.yaml"))


def find_config(name: str | Path) -> Path:
    """The file of a preset's name, or of a path.

    Args:
      name: `default`, or a path such as `configs/mine.yaml`. A file of that name comes before a preset.

    Raises:
      InputError: There is neither.
    """
    path = Path(name)
    if path.is_file() or path.suffix or len(path.parts) > 1:
        return path
    preset = carried_folder("presets", "configs") / f"{name}.yaml"
    if preset.is_file():
        return preset
    names = preset_names()
    close = difflib.get_close_matches(str(name), names, n=1)
    hint = f"; do you mean {close[0]}?" if close else ""
    raise InputError(f"config {name}: no such file, and no preset of that name{hint} (presets: {', '.join(names)})")
