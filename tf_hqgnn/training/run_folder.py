"""The folder of a training while it goes on: made, locked, checked when training is resumed, and given its name."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

from tf_hqgnn.config import Config
from tf_hqgnn.data.splits import SplitDataset
from tf_hqgnn.files.durable import make_folder, publish, remove_staged, sync_tree, write_file
from tf_hqgnn.files.failures import is_disk_full
from tf_hqgnn.files.lock import locked_beside
from tf_hqgnn.runs.manifest import write_manifest
from tf_hqgnn.runs.run_directory import partial_path
from tf_hqgnn.types import InputError

# An empty file in the folder of a run that ended because the disk was full.
_FULL_DISK = "disk-full"


def run_lock(out: Path) -> AbstractContextManager[None]:
    """Keeps a second writer out of a run directory.

    Raises:
      InputError: Another process is training into it, or forgetting users in it.
    """
    refusal = f"another process is writing into {out}; wait until it is done, or name another folder"
    return locked_beside(out, refusal)


def check_out(out: Path, resume: bool) -> None:
    """Raises InputError if `out` can't become a run directory, so that a caller learns it before reading data."""
    if out.exists():
        raise InputError(f"{out} exists already; choose another --out, or delete it")
    partial = partial_path(out)
    if partial.exists() and not resume and not (partial / _FULL_DISK).exists():
        raise InputError(f"{partial} holds an unfinished run; add --resume to go on with it, or delete it")


def prepare(dataset: SplitDataset, config: Config, out: Path, resume: bool) -> Path:
    """Makes `OUT.partial`, or checks the one that is there, and returns it; the caller holds the `run_lock`.

    Raises:
      InputError: `out` is there, an unfinished run is in the way, it was made with other settings or data, or there is
        too little to train on.
    """
    check_out(out, resume)
    if len(dataset.train) < 2:
        raise InputError(f"training needs at least 2 interactions, the train split has {len(dataset.train)}")
    partial = partial_path(out)
    (partial / _FULL_DISK).unlink(missing_ok=True)
    fingerprint = dataset.fingerprint()
    if (partial / "data.sha256").is_file():
        remove_staged(partial)
        if Config.load(partial / "given.yaml") != config:
            raise InputError(
                f"{partial} was started with other settings (its given.yaml); resume with those, or delete it"
            )
        if (partial / "data.sha256").read_text(encoding="utf-8") != fingerprint:
            raise InputError(
                f"{partial} was started on other data (its data.sha256); resume with the same log, or delete it"
            )
        return partial
    # Nothing, or a start that was killed before it was complete.
    shutil.rmtree(partial, ignore_errors=True)
    make_folder(partial)
    write_file(partial / "given.yaml", config.to_yaml())
    dataset.save(partial / "data")
    sync_tree(partial)
    # The last file: with it, all that a resumed training needs is there.
    write_file(partial / "data.sha256", fingerprint)
    return partial


def finish(partial: Path, out: Path) -> None:
    """Gives the finished run its name, once all of it is on the disk."""
    write_manifest(partial)
    publish(partial, out)


@contextmanager
def marking_full_disk(partial: Path) -> Iterator[None]:
    """Lets the same command go on, without --resume, where the disk was full."""
    try:
        yield
    except Exception as error:
        if partial.is_dir() and is_disk_full(error):
            with suppress(OSError):
                (partial / _FULL_DISK).touch()
        raise
