"""The sizes of a run's files, `manifest.json`: a file that was cut off still reads well where it is text."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tf_hqgnn.config import Config
from tf_hqgnn.config.text import parse_settings
from tf_hqgnn.files.durable import differences, list_files, write_file
from tf_hqgnn.files.reading import read_json, read_text
from tf_hqgnn.types import InputError

FILE = "manifest.json"
# The folder in a run of what a refit on the whole log has made.
REFIT = "refit"
# Items that were added to a finished run; a folder of each addition, by number.
ADDED_ITEMS = "added_items"
CURE = "train again, or take another run directory"
# What a run is read from. Reports and logs may be deleted, or written anew; config.yaml may be edited before an export,
# and is known to be whole by its sections.
_MODEL = ("embeddings.npz", "tables.npz", "features.npz", "graph/", "codes/")
_READ = ("metrics.json", "data/", *_MODEL, *(f"{REFIT}/{name}" for name in _MODEL))


def served_folder(run_dir: Path, metrics: Mapping[str, Any]) -> Path:
    """The folder in a run of the model that is served: that of its refit on the whole log, if it passed its guard.

    Args:
      run_dir: the run.
      metrics: what its `metrics.json` holds.
    """
    refit = metrics.get("refit")
    return run_dir / REFIT if refit and refit["served"] else run_dir


def write_manifest(folder: Path) -> None:
    """Notes the size of every file that a run is read from."""
    files = {name: size for name, size in sorted(list_files(folder).items()) if name.startswith(_READ)}
    # Of the settings, which people may edit, that no section is cut off; later versions have more of them.
    noted = {"sections": sorted(Config.model_fields), "files": files}
    write_file(folder / FILE, json.dumps(noted, indent=2) + "\n")


def check_manifest(folder: Path) -> None:
    """Compares the files of a run with what was noted; one of version 0.1 has no notes.

    Raises:
      InputError: A file isn't there or has another size, or a section of the settings is missing.
    """
    if not (folder / FILE).is_file():
        return
    config = folder / "config.yaml"
    manifest = read_json(folder / FILE, cure="delete it, and the run's files are read unchecked")
    found = parse_settings(read_text(config, cure=CURE), (), str(config), Config)
    lacking = set(manifest.get("sections", ())) - set(found)
    if lacking:
        raise InputError(f"{config}: the file is damaged, it lacks {', '.join(sorted(lacking))}; {CURE}")
    noted = manifest.get("files", {})
    for name, came in differences(folder, noted):
        raise InputError(f"{folder / name}: the file is damaged, it {came}, expected {noted[name]:,}; {CURE}")
