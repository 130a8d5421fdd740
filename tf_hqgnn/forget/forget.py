"""Removes users from an export, a model store and runs, and says what can't be reached."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from tf_hqgnn.export.versions import version_lock
from tf_hqgnn.forget.export import forget_in_export
from tf_hqgnn.forget.record import EVERYWHERE, Forgotten
from tf_hqgnn.forget.run import check_run, forget_in_run
from tf_hqgnn.forget.store import forget_in_store
from tf_hqgnn.tfx.model_store import only_store_lock
from tf_hqgnn.training.run_folder import run_lock
from tf_hqgnn.types import InputError


def forget(
    users: Sequence[str],
    export_dir: Path | None = None,
    store_dir: Path | None = None,
    run_dirs: Sequence[Path] = (),
    keep: int | None = None,
    config_files: Sequence[Path] = (),
) -> Forgotten:
    """Remove users' ids, embeddings and histories from models, without training.

    Each folder is whole at any moment. A call that was interrupted is given again, and goes on where it stopped. Other
    writers wait, as they do for an export or a push; a training into one of the runs refuses the call.

    Args:
      users: their ids.
      export_dir: gets a new version without them.
      store_dir: of a pipeline; gets a new state without them.
      run_dirs: of trainings; each is replaced by one without them.
      keep: how many versions before the newest stay in the export; None removes none, 0 removes all of them.
      config_files: model config files of servers, whose versions stay.

    Returns:
      What was touched, and what wasn't reached.

    Raises:
      InputError: No user or no folder is named, or one of the folders can't be read.
    """
    if not users:
        raise InputError("name the users to forget")
    if "" in users:
        raise InputError("the ID of a user to forget is empty; expected one that the log has")
    if export_dir is None and store_dir is None and not run_dirs:
        raise InputError("say where to forget: an export, a model store or a run")
    record = Forgotten(tuple(dict.fromkeys(users)))
    for folder, kind in ((export_dir, "tf-hqgnn export"), (store_dir, "a pipeline's model store")):
        if folder is not None and not Path(folder).is_dir():
            raise InputError(f"{folder} is no folder: expected that of {kind}")
    runs = list(dict.fromkeys(map(Path, run_dirs)))
    with ExitStack() as held:
        # What refuses the call does so before another folder is changed.
        for run_dir in runs:
            check_run(run_dir)
            held.enter_context(run_lock(run_dir))
        if store_dir is not None:
            held.enter_context(only_store_lock(Path(store_dir)))
        if export_dir is not None:
            held.enter_context(version_lock(Path(export_dir)))
            forget_in_export(Path(export_dir), record, keep, config_files)
        if store_dir is not None:
            forget_in_store(Path(store_dir), record, export_dir)
        for run_dir in runs:
            forget_in_run(run_dir, record)
    strange = [user for user in record.users if user not in record.known]
    if record.known and strange:
        record.not_reached.append(f"{', '.join(map(repr, strange))}: none of the folders knows them; check the ids")
    record.not_reached += EVERYWHERE
    return record
