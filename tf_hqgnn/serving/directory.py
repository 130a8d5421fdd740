"""What the export directory holds: models, their versions, and whether a version is still being written."""

from __future__ import annotations

import os
import time
from pathlib import Path

from tf_hqgnn.export.layout import SAVED_MODEL_FILE
from tf_hqgnn.types import InputError

_MAX_VERSION = 2**63 - 1

# (relative path, size, mtime, ctime) of every file.
Fingerprint = tuple[tuple[str, int, int, int], ...]


def find_models(base_path: Path) -> list[str]:
    """The names of the folders of `base_path` that hold at least one version, sorted."""
    try:
        with os.scandir(base_path) as entries:
            names = [entry.name for entry in entries if not entry.name.startswith(".") and entry.is_dir()]
    except OSError:
        return []
    return sorted(name for name in names if find_versions(base_path / name))


def find_versions(model_path: Path) -> dict[int, Path]:
    """The numbered folders of a model, newest first; other names are temporary ones, and not ours to touch.

    A folder that can't be read holds no versions: it may be there again at the next look.
    """
    versions: dict[int, Path] = {}
    try:
        with os.scandir(model_path) as entries:
            # Sorted, so that of "7" and "007" the plain one is always taken.
            names = sorted((entry.name for entry in entries if entry.is_dir()), key=lambda name: (-len(name), name))
    except OSError:
        return {}
    for name in names:
        if name.isascii() and name.isdigit() and int(name) <= _MAX_VERSION:
            versions[int(name)] = model_path / name
    return dict(sorted(versions.items(), reverse=True))


def check_base_path(base_path: Path) -> None:
    """Raises InputError, with the way out, unless `base_path` holds at least one model with a version."""
    if not base_path.is_dir():
        what = "is a file" if base_path.exists() else "does not exist"
        raise InputError(f"{base_path} {what}: expected an export directory, with <model>/<version>/saved_model.pb")
    if (base_path / SAVED_MODEL_FILE).exists():
        raise InputError(f"{base_path} is one SavedModel: give the directory that holds <model>/<version>/")
    if find_models(base_path):
        return
    if find_versions(base_path):
        raise InputError(f"{base_path} is one model: give the directory above it, {base_path.absolute().parent}")
    raise InputError(f"{base_path} holds no model: expected folders like hqgnn/1/ with a saved_model.pb in each")


def fingerprint(directory: Path) -> Fingerprint:
    """Changes whenever a file below `directory` is added, removed, renamed or written."""
    found = []
    for parent, _, names in os.walk(directory):
        for name in names:
            path = Path(parent, name)
            try:
                status = path.stat()
            except OSError:
                continue  # Gone between listing and looking: the next look sees the directory without it.
            found.append((str(path.relative_to(directory)), status.st_size, status.st_mtime_ns, status.st_ctime_ns))
    return tuple(sorted(found))


def is_settled(now: Fingerprint, before: Fingerprint | None, quiet_seconds: float) -> bool:
    """Whether nothing was written lately: the same as at the look before, or untouched for `quiet_seconds`.

    A copy under way has a file whose inode changed a moment ago. The time used is ctime, since `cp -p` and rsync set
    mtime to that of the original.

    >>> is_settled((("saved_model.pb", 5, 0, 0),), None, 1.0)
    True
    """
    if now == before:
        return True
    newest = max((entry[3] for entry in now), default=0)
    return time.time_ns() - newest > quiet_seconds * 1e9
