"""Forgetting in an export: its models as a new version without the users."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from tf_hqgnn.export.bundle import ServingBundle, write_version
from tf_hqgnn.export.kept_settings import kept_settings
from tf_hqgnn.export.layout import EXACT_MODEL, MODEL_NAMES, USER_IDS, newest_version, version_path
from tf_hqgnn.export.reader import read_bundle
from tf_hqgnn.export.shard_manifest import shard_folders
from tf_hqgnn.export.stored import StoredModel
from tf_hqgnn.export.versions import versions
from tf_hqgnn.forget.record import Forgotten
from tf_hqgnn.graph.csr import select_rows
from tf_hqgnn.quantization.codes import Codes
from tf_hqgnn.tfx.old_versions import remove_old_versions
from tf_hqgnn.types import InputError


def forget_in_export(export_dir: Path, record: Forgotten, keep: int | None, config_files: Sequence[Path] = ()) -> None:
    """Writes the next version of every model without the users; the caller holds the `version_lock`.

    Rows of other users and of items stay as they are. Where the newest versions don't know the users none is written.

    Args:
      export_dir: of `tf-hqgnn export`, or the folder that a pipeline pushes to.
      record: names the users, and gets what is done.
      keep: how many versions before the newest stay; None removes none.
      config_files: of servers: a version that one loads or labels stays.

    Raises:
      InputError: There is no export, or it knows nobody else.
    """
    newest = {name: newest_version(export_dir, name) for name in MODEL_NAMES if versions(export_dir / name)}
    if EXACT_MODEL not in newest and shard_folders(export_dir):
        raise InputError(
            f"{export_dir} holds shards, which can't be changed: forget the users in the run, and export it again with "
            "--shards"
        )
    if EXACT_MODEL not in newest:
        raise InputError(f"{export_dir} has no version of {EXACT_MODEL}: expected a folder of `tf-hqgnn export`")
    if any(knows(path, record.users) for path in newest.values()):
        settings = {name: kept_settings(path) for name, path in newest.items()}
        before = read_bundle(newest[EXACT_MODEL])
        record.note_known(before.user_ids)
        bundle = without_users(before, record.users, str(export_dir))
        record.version = write_version(lambda: bundle, export_dir, settings)
        names = ", ".join(settings)
        record.touched.append(f"{export_dir}: version {record.version} of {names} is written without them")
        record.not_reached.append(f"servers that haven't loaded version {record.version} of {export_dir} yet")
    if keep is not None:
        removed = remove_old_versions(export_dir, keep + 1, config_files)
        if removed:
            record.touched.append(f"{export_dir}: removed the old versions {', '.join(map(str, removed))}")
    for folder in shard_folders(export_dir):
        record.not_reached.append(f"{folder}: a shard (export the run again with --shards, and delete old versions)")
    for path in _others(export_dir):
        try:
            if knows(path, record.users):
                record.not_reached.append(f"{path}: an older version (--keep 0 removes those)")
        except InputError as error:
            record.not_reached.append(f"{path}: an older version that can't be read ({error})")


def knows(model_dir: Path, users: Sequence[str]) -> bool:
    """Whether a SavedModel of ours holds the id of any of the users.

    Raises:
      InputError: It can't be read.
    """
    wanted = {user.encode() for user in users}
    return any(user in wanted for user in StoredModel(model_dir).read(USER_IDS))


def without_users(bundle: ServingBundle, users: Sequence[str], where: str) -> ServingBundle:
    """A bundle without the ids, the rows and the histories of users.

    Raises:
      InputError: There is no other user.
    """
    kept = ~np.isin(bundle.user_ids, np.array(users, object))
    if not kept.any():
        raise InputError(f"{where} has no users but these; delete the folder instead")
    indptr, indices = select_rows(bundle.seen, np.flatnonzero(kept))
    return replace(
        bundle,
        user_ids=bundle.user_ids[kept],
        users=bundle.users.take(kept) if isinstance(bundle.users, Codes) else bundle.users[kept],
        seen=(indptr.astype(np.int64), indices.astype(np.int32)),
        # Fitted to all users; what is left of one in d x d numbers is nothing of their own.
        hop_map=bundle.user_hop_map,
        learnt=None if bundle.learnt is None else select_rows(bundle.learnt, np.flatnonzero(kept)),
        known_users=None if bundle.known_users is None else bundle.known_users[kept],
    )


def _others(export_dir: Path) -> Iterator[Path]:
    """Every version but the newest of each model."""
    for name in MODEL_NAMES:
        for version in versions(export_dir / name)[:-1]:
            yield version_path(export_dir, name, version)
