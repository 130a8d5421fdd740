"""Removes versions that no server needs any more."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from pathlib import Path

from tf_hqgnn.export.layout import model_dirs
from tf_hqgnn.export.versions import versions
from tf_hqgnn.files.durable import staged_name
from tf_hqgnn.serving.config_files import read_model_configs
from tf_hqgnn.types import InputError

log = logging.getLogger(__name__)


def remove_old_versions(serving_dir: Path, keep: int, config_files: Sequence[Path]) -> list[int]:
    """Keeps the newest versions, and those that a server loads or labels; the caller holds the `store_lock`.

    A server without a model config file serves the newest version, which is always kept. Where a file can't be read
    nothing is removed, and a line of the log says so.

    Args:
      serving_dir: what servers watch.
      keep: how many of the newest versions stay, at least 1.
      config_files: the servers' model config files: what they load and label stays, in every model.

    Returns:
      The versions that were removed, ascending.
    """
    dirs = model_dirs(serving_dir)
    numbers = sorted({number for folder in dirs for number in versions(folder)})
    try:
        named = {number for path in config_files for number in _named(path)}
    except InputError as error:
        log.warning("no old version is removed: %s", error)
        return []
    old = [number for number in numbers[:-keep] if number not in named]
    for number in old:
        for folder in dirs:
            path = folder / str(number)
            if path.is_dir():
                # Under another name first: nobody sees half a version.
                hidden = staged_name(path)
                path.rename(hidden)
                shutil.rmtree(hidden, ignore_errors=True)
    if old:
        log.info("removed the old versions %s of %s", ", ".join(map(str, old)), serving_dir)
    return old


def _named(path: Path) -> set[int]:
    """The versions that a model config file loads or labels."""
    found: set[int] = set()
    for model in read_model_configs(path):
        found.update(model.model_version_policy.specific.versions)
        found.update(model.version_labels.values())
    return found
