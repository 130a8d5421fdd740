"""Forgetting in a model store: the state of the last blessed model without the users."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from tf_hqgnn.data.removal import without_users as dataset_without
from tf_hqgnn.export.bundle import export_model
from tf_hqgnn.export.kept_settings import kept_settings
from tf_hqgnn.export.layout import EXACT_MODEL, version_path
from tf_hqgnn.export.reader import read_bundle
from tf_hqgnn.files.durable import staged_name
from tf_hqgnn.forget.export import knows, without_users
from tf_hqgnn.forget.record import Forgotten
from tf_hqgnn.runs.trained_state import TrainedState, judged_model_path
from tf_hqgnn.tfx.model_store import read_pointer, remove_states, state_path, write_pointer
from tf_hqgnn.types import InputError

# What a pipeline that ran here has beside its model store: the metadata, and what every step of every run has written.
_METADATA, _ARTIFACTS = "metadata.sqlite", "pipeline"


def forget_in_store(store_dir: Path, record: Forgotten, export_dir: Path | None) -> None:
    """Replaces the state in a model store, and lets its pointer name the export's new version.

    The caller holds the store's lock. The new state has a name of its own, and counts once the pointer names it: killed
    at any moment, the store is whole, and the same call goes on.

    Args:
      store_dir: of a pipeline.
      record: names the users and the export's new version, and gets what is done.
      export_dir: in which that version was written; None for none.

    Raises:
      InputError: The pointer or the state can't be read, or knows nobody else.
    """
    pointer = read_pointer(store_dir)
    if pointer is None:
        record.not_reached.append(f"{store_dir}: it names no model (latest_blessed.json isn't there)")
        return
    changed = _pointer_to_new_version(pointer, record.version, export_dir)
    before = Path(changed["state"]) if "state" in changed else None
    if before is not None and before.is_dir():
        state = TrainedState.load(before)
        model = judged_model_path(before)
        record.note_known(state.dataset.user_ids)
        if _has(state, record) or (model.is_dir() and knows(model, record.users)):
            changed["state"] = str(_write_state(store_dir, before, state, record, int(changed["version"])))
            record.touched.append(f"{store_dir}: the state that the next training starts from is written without them")
    if changed != pointer:
        write_pointer(store_dir, changed)
    if "state" in changed:
        remove_states(store_dir, keep=Path(changed["state"]))
    beside = Path(store_dir).absolute().parent
    if (beside / _METADATA).is_file():
        record.not_reached.append(
            f"{beside / _ARTIFACTS}: what the steps of past pipeline runs have written; delete it"
        )


def _pointer_to_new_version(pointer: dict[str, Any], version: int | None, export_dir: Path | None) -> dict[str, Any]:
    """The pointer, to the new version of the models that it names, if that is in their folder."""
    if version is None or export_dir is None:
        return dict(pointer)
    here = Path(export_dir).absolute()
    if any(Path(path).absolute().parent.parent != here for path in pointer["models"].values()):
        return dict(pointer)
    models = {name: str(version_path(here, name, version)) for name in pointer["models"]}
    return {**pointer, "version": version, "models": models}


def _has(state: TrainedState, record: Forgotten) -> bool:
    """Whether a state, or the one from before its refit, knows any of the users."""
    parts = [state] if state.held_out is None else [state, state.held_out]
    return any(np.isin(part.dataset.user_ids, np.array(record.users, object)).any() for part in parts)


def _write_state(store_dir: Path, before: Path, state: TrainedState, record: Forgotten, version: int) -> Path:
    number = 1
    while (folder := Path(f"{state_path(store_dir, version)}.{number}")).exists():
        number += 1
    rest = _rest(state, record, store_dir)
    with _judged_model(store_dir, judged_model_path(before), record) as model:
        rest.save(folder, model)
    return folder


def _rest(state: TrainedState, record: Forgotten, store_dir: Path) -> TrainedState:
    kept = ~np.isin(state.dataset.user_ids, np.array(record.users, object))
    if not kept.any():
        raise InputError(f"{store_dir} has no users but these; delete the folder instead")
    return replace(
        state,
        dataset=dataset_without(state.dataset, kept),
        users=state.users[kept],
        held_out=None if state.held_out is None else _rest(state.held_out, record, store_dir),
    )


@contextmanager
def _judged_model(store_dir: Path, model: Path, record: Forgotten) -> Iterator[Path | None]:
    """The SavedModel that candidates are compared with, without the users, under a hidden name; None without one."""
    if not model.is_dir():
        yield None
        return
    folder = staged_name(store_dir / model.name)
    try:
        bundle = without_users(read_bundle(model), record.users, str(store_dir))
        export_model(bundle, EXACT_MODEL, kept_settings(model), folder)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
