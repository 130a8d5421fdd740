"""Pushing versions to the folders that servers watch, and the pointer to the model that was blessed last.

The pointer, `latest_blessed.json`, lies in the model store: beside the served folders and never inside them.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tf_hqgnn.data.anomalies import FileProfile
from tf_hqgnn.data.report import ReadReport
from tf_hqgnn.export.layout import model_dirs
from tf_hqgnn.export.versions import staged_version, versions
from tf_hqgnn.tfx.push_origin import PushOrigin
from tf_hqgnn.types import InputError

_POINTER = "latest_blessed.json"
_STATE = "state-"


def push(models: Mapping[str, Path], serving_dir: Path, origin: PushOrigin | None = None) -> int:
    """Copies SavedModels to `serving_dir/NAME/VERSION`, all under one version number, the next that no model has.

    Everything is copied first, under names that no server takes for a version, and renamed then: a push killed while
    copying leaves nothing visible, and the next push clears its rest away. What an earlier push of the same origin has
    made visible stays, and only what it lacks is added.

    Args:
      models: name of a model -> folder of its SavedModel.
      serving_dir: what a server watches.
      origin: what the models come from, kept in each version; None if that isn't known.

    Returns:
      The version.
    """
    earlier = None if origin is None else origin.earlier_push(model_dirs(serving_dir))
    version = next_version(serving_dir) if earlier is None else earlier
    with ExitStack() as stack:
        for name, source in models.items():
            if version in versions(serving_dir / name):
                continue
            staged = stack.enter_context(staged_version(serving_dir / name, version))
            shutil.copytree(source, staged, dirs_exist_ok=True)
            if origin is not None:
                origin.write(staged)
    return version


def next_version(serving_dir: Path) -> int:
    """The lowest number above every version of every model; 1 where there is none."""
    return 1 + max((number for folder in model_dirs(serving_dir) for number in versions(folder)), default=0)


def write_pointer(store_dir: Path, record: Mapping[str, Any]) -> None:
    """Replaces `latest_blessed.json` atomically."""
    store_dir.mkdir(parents=True, exist_ok=True)
    partial = store_dir / (_POINTER + ".partial")
    with open(partial, "w", encoding="utf-8") as file:
        json.dump(record, file, indent=2, ensure_ascii=False)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, pointer_path(store_dir))


def read_pointer(store_dir: Path) -> dict[str, Any] | None:
    """What `write_pointer` wrote last, or None.

    Raises:
      InputError: The file isn't JSON any more.
    """
    path = pointer_path(store_dir)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise InputError(
            f"{path}: not valid JSON ({error}); restore it, or delete it to start without a baseline"
        ) from error


def pointer_path(store_dir: Path) -> Path:
    """Where the pointer is."""
    return store_dir / _POINTER


def read_last_log(store_dir: Path) -> tuple[FileProfile, ...]:
    """What the files of the log looked like that the last blessed model was made from; empty if that isn't known."""
    pointer = read_pointer(store_dir)
    if not pointer or "state" not in pointer:
        return ()
    try:
        report = json.loads((Path(pointer["state"]) / "data" / "report.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return ()
    return ReadReport.from_json(report).files


def state_path(store_dir: Path, version: int) -> Path:
    """Where the `TrainedState` of a version is kept."""
    return store_dir / f"{_STATE}{version}"


def remove_states(store_dir: Path, keep: Path) -> None:
    """Removes the trained states that no pointer names any more, and what killed pushes left of others."""
    for pattern in (f"{_STATE}*", f".tmp-{_STATE}*"):
        for path in store_dir.glob(pattern):
            if path != keep:
                shutil.rmtree(path)


def move_version(version_dir: Path, destination: Path) -> None:
    """Makes an exported `MODEL/<version>` the SavedModel of a TFX artifact, which has no version in its path."""
    destination.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(version_dir, destination)
    version_dir.parent.rmdir()
