"""Version directories of a served model: `MODEL/<number>`, each of which appears complete or not at all."""

from __future__ import annotations

import os
import re
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tf_hqgnn.types import InputError

_STAGED = re.compile(r"\.tmp-\d+-(?P<host>.+)-(?P<pid>\d+)")
_ABANDONED_AFTER_SECONDS = 24 * 3600


def versions(model_dir: Path) -> list[int]:
    """The versions in a model's folder, ascending; a folder that isn't there has none."""
    if not model_dir.is_dir():
        return []
    return sorted(int(entry.name) for entry in model_dir.iterdir() if entry.name.isascii() and entry.name.isdecimal())


@contextmanager
def staged_version(model_dir: Path, version: int) -> Iterator[Path]:
    """A folder to write a version into; it becomes `model_dir/<version>` by a rename when the block ends well.

    Until then it has a hidden name that no server takes for a version. If the block fails it is removed; what a killed
    process left is removed by the next export.

    Raises:
      InputError: The version exists, or isn't a positive number.
    """
    check_free(model_dir, version)
    model_dir.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(model_dir)
    staged = model_dir / f".tmp-{version}-{socket.gethostname()}-{os.getpid()}"
    try:
        staged.mkdir()
        yield staged
        check_free(model_dir, version)
        os.rename(staged, model_dir / str(version))
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def check_free(model_dir: Path, version: int) -> None:
    """Raises InputError unless `version` is a positive number that the model doesn't have yet."""
    if version < 1:
        raise InputError(f"a version must be at least 1, got {version}")
    if version in versions(model_dir):
        raise InputError(f"{model_dir / str(version)} exists: versions are never overwritten, take another number")


def _remove_leftovers(model_dir: Path) -> None:
    for entry in model_dir.iterdir():
        match = _STAGED.fullmatch(entry.name)
        if match and _is_abandoned(entry, match["host"], int(match["pid"])):
            shutil.rmtree(entry, ignore_errors=True)


def _is_abandoned(entry: Path, host: str, pid: int) -> bool:
    if host != socket.gethostname():
        # Another machine's processes can't be asked.
        return time.time() - entry.stat().st_mtime > _ABANDONED_AFTER_SECONDS
    if pid == os.getpid():
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False
