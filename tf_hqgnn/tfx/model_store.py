"""Pushing versions to the folders that servers watch, and the pointer to the model that was blessed last.

The pointer, `latest_blessed.json`, lies in the model store: beside the served folders and never inside them.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tf_hqgnn.data.anomalies import FileProfile
from tf_hqgnn.data.report import ReadReport
from tf_hqgnn.export.versions import staged_versions, version_lock, versions
from tf_hqgnn.files.durable import check_files, list_files, make_folder, remove_staged, write_file
from tf_hqgnn.files.lock import waited_for
from tf_hqgnn.files.reading import read_json
from tf_hqgnn.tfx.push_origin import PushOrigin
from tf_hqgnn.types import InputError

_POINTER = "latest_blessed.json"
_STATE = "state-"
_LOCK = ".lock"
# The store holds the ids of the log, which are nobody's business but the pipeline's.
_PRIVATE = 0o700
log = logging.getLogger(__name__)


@contextmanager
def store_lock(store_dir: Path, serving_dir: Path) -> Iterator[None]:
    """Keeps other pushes out of a model store, and other writers of versions out of the served folders."""
    with only_store_lock(store_dir), version_lock(serving_dir):
        yield


@contextmanager
def only_store_lock(store_dir: Path) -> Iterator[None]:
    """Keeps other pushes out of a model store; whoever needs the lock of served folders, too, takes it after this."""
    make_folder(store_dir, _PRIVATE)
    with suppress(OSError):
        # Not ours where it is the root of a volume.
        store_dir.chmod(_PRIVATE)
    with waited_for(store_dir / _LOCK, f"a push into {store_dir}"):
        yield


def push(models: Mapping[str, Path], serving_dir: Path, version: int, origin: PushOrigin | None = None) -> None:
    """Copies SavedModels to `serving_dir/NAME/<version>`; the caller holds the `store_lock`.

    Everything is copied first, under names that no server takes for a version, compared with the source, and renamed
    then: a push killed while copying leaves nothing visible, and the next push clears its rest away. What an earlier
    push of the same origin has made visible stays, and only what it lacks is added.

    Args:
      models: name of a model -> folder of its SavedModel.
      serving_dir: what a server watches.
      version: the number of all of them.
      origin: what the models come from, kept in each version; None if that isn't known.
    """
    lacking = {name: source for name, source in models.items() if version not in versions(serving_dir / name)}
    with staged_versions(serving_dir, list(lacking), version) as staged:
        for name, source in lacking.items():
            shutil.copytree(source, staged.folders[name], dirs_exist_ok=True)
            check_files(staged.folders[name], list_files(source))
            if origin is not None:
                origin.write(staged.folders[name])


def write_pointer(store_dir: Path, record: Mapping[str, Any]) -> None:
    """Replaces `latest_blessed.json`, which is on the disk when this returns."""
    make_folder(store_dir, _PRIVATE)
    write_file(pointer_path(store_dir), json.dumps(record, indent=2, ensure_ascii=False))


def read_pointer(store_dir: Path) -> dict[str, Any] | None:
    """What `write_pointer` wrote last, or None.

    Raises:
      InputError: The file is damaged.
    """
    path = pointer_path(store_dir)
    if not path.exists():
        return None
    return read_json(path, cure="restore it, or delete it to start without a baseline")


def pointer_path(store_dir: Path) -> Path:
    """Where the pointer is."""
    return store_dir / _POINTER


def read_last_log(store_dir: Path) -> tuple[FileProfile, ...]:
    """What the files of the log looked like that the last blessed model was made from; empty if that isn't known."""
    pointer = read_pointer(store_dir)
    if not pointer or "state" not in pointer:
        return ()
    path = Path(pointer["state"]) / "data" / "report.json"
    try:
        return ReadReport.from_json(read_json(path, cure="delete the state's folder")).files
    except (InputError, KeyError, TypeError) as error:
        log.warning("today's log isn't compared with the last one: %s", error)
        return ()


def state_path(store_dir: Path, version: int) -> Path:
    """Where the `TrainedState` of a version is kept."""
    return store_dir / f"{_STATE}{version}"


def remove_states(store_dir: Path, keep: Path) -> None:
    """Removes the trained states that no pointer names, and what killed pushes left; the caller holds the lock."""
    remove_staged(store_dir)
    for path in store_dir.glob(f"{_STATE}*"):
        if path != keep:
            shutil.rmtree(path)
