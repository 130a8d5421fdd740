"""Version directories of served models, `MODEL/<number>`: each appears complete or not at all, and no number returns.

All that writes versions into one folder of models, in whatever process and on whatever machine that mounts it, holds
the lock of that folder meanwhile. So whatever lies there under a staged name belongs to a process that died.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from shutil import rmtree

from tf_hqgnn.files.durable import (
    check_files,
    list_files,
    make_folder,
    remove_staged,
    staged_name,
    sync,
    sync_tree,
    write_file,
)
from tf_hqgnn.files.lock import waited_for
from tf_hqgnn.types import InputError

# TF Serving's versions are int64.
LARGEST_VERSION = 2**63 - 1
_LOCK = ".lock"
# Of a model's folder: the highest number that was ever given.
_LAST = ".last_version"
log = logging.getLogger(__name__)


def versions(model_dir: Path) -> list[int]:
    """The versions in a model's folder, ascending; a folder that isn't there has none."""
    if not model_dir.is_dir():
        return []
    names = (entry.name for entry in model_dir.iterdir())
    numbers = (int(name) for name in names if name.isascii() and name.isdecimal())
    return sorted(number for number in numbers if number <= LARGEST_VERSION)


@contextmanager
def version_lock(models_dir: Path) -> Iterator[None]:
    """Keeps other writers of versions out of a folder of models; waits until they are done."""
    with waited_for(models_dir / _LOCK, f"a version into {models_dir}"):
        yield


def next_version(model_dirs: Sequence[Path]) -> int:
    """The lowest number above every one that any of the models has or has had; 1 where there is none.

    Raises:
      InputError: There is no number left.
    """
    highest = max((max((*versions(folder), _last_given(folder)), default=0) for folder in model_dirs), default=0)
    if highest == LARGEST_VERSION:
        raise InputError(f"version {highest} is the highest that there can be: move it to a lower number")
    return highest + 1


def check_free(model_dir: Path, version: int) -> None:
    """Raises InputError unless `version` is a number that the model can have and doesn't have yet."""
    if not 1 <= version <= LARGEST_VERSION:
        raise InputError(f"a version must be at least 1 and below 2^63, got {version}")
    if version in versions(model_dir):
        raise InputError(f"{model_dir / str(version)} exists: versions are never overwritten, take another number")


@dataclass(frozen=True)
class StagedVersions:
    """Folders to write one version of several models into.

    Args:
      version: its number.
      folders: name of a model -> an empty folder.
    """

    version: int
    folders: Mapping[str, Path]


@contextmanager
def staged_versions(models_dir: Path, names: Sequence[str], version: int | None = None) -> Iterator[StagedVersions]:
    """Folders that become `models_dir/NAME/<version>`, all or none, when the block ends well.

    Until then they have hidden names that no server takes for a version. If the block fails they are removed; what a
    killed process left is removed by the next one. A process that is killed between two renames leaves one model
    without the version: the next number is above it for all models.

    Args:
      models_dir: the folder of all models. The caller holds its `version_lock`.
      names: of the models.
      version: its number, by default the `next_version`.

    Raises:
      InputError: A model has the version, or it is no number that a version can have.
    """
    model_dirs = {name: models_dir / name for name in names}
    number = next_version(list(model_dirs.values())) if version is None else version
    for folder in model_dirs.values():
        check_free(folder, number)
    staged = {name: staged_name(folder / str(number)) for name, folder in model_dirs.items()}
    try:
        for name, folder in model_dirs.items():
            make_folder(folder)
            remove_staged(folder)
            staged[name].mkdir()
        yield StagedVersions(number, staged)
        _publish({staged[name]: folder / str(number) for name, folder in model_dirs.items()})
    finally:
        for path in staged.values():
            rmtree(path, ignore_errors=True)


def _publish(places: Mapping[Path, Path]) -> None:
    """Renames all folders, or none; what they hold is on the disk before the first has its name."""
    files = {staged: list_files(staged) for staged in places}
    for staged, path in places.items():
        sync_tree(staged)
        if int(path.name) > _last_given(path.parent):
            write_file(path.parent / _LAST, f"{path.name}\n")
    for staged in places:
        check_files(staged, files[staged])
    done: list[tuple[Path, Path]] = []
    try:
        for staged, path in places.items():
            staged.rename(path)
            done.append((staged, path))
    except BaseException:
        for staged, path in done:
            with suppress(OSError):
                path.rename(staged)
        raise
    for path in places.values():
        sync(path.parent)


def _last_given(model_dir: Path) -> int:
    path = model_dir / _LAST
    try:
        return int(path.read_text(encoding="ascii"))
    except FileNotFoundError:
        return 0
    except ValueError:
        log.warning("%s is damaged, it should hold a number: version numbers go on from the versions there are", path)
        return 0
