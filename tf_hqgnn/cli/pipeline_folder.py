"""The folder of a pipeline, which its user edits: written from the template, found, and imported.

It is imported by the name that the user gave it, and never as the project's own.
"""

from __future__ import annotations

import importlib
import keyword
import shutil
import sys
from pathlib import Path
from typing import Any

from tf_hqgnn import __version__
from tf_hqgnn.config.presets import carried_folder
from tf_hqgnn.types import InputError

_RUNNERS = ("pipeline.py", "run_local.py", "run_kubeflow.py")
# What of the template is the repository's own: its demo, and an image that is built from its lock. A new folder gets a
# Dockerfile that installs the released package.
_IMAGE = "Dockerfile.new"
_NOT_COPIED = ("demo.py", "Dockerfile*", "build_image.sh", "__pycache__")
# What of a folder is sent to the builder of its image: no logs and no keys.
_SENT = "# A folder that your steps import needs a line of its own: !features\n**\n!*.py\n!*.yaml\n!wheels\n"
_DEFAULT_FOLDER = "pipelines"


def write_folder(folder: Path) -> None:
    """Writes the pipeline into a new folder.

    Raises:
      InputError: Python can't import a folder of that name, it is there already, or it can't be written.
    """
    if not folder.name.isidentifier() or keyword.iskeyword(folder.name):
        raise InputError(f"{folder}: Python can't import a folder of that name; use letters, digits and underscores")
    if folder.exists():
        raise InputError(f"{folder} exists, and nothing is overwritten: delete it, or choose another name")
    if not folder.absolute().parent.is_dir():
        raise InputError(f"{folder}: {folder.absolute().parent} is no folder; make it, or choose another place")
    template = carried_folder("pipeline_template", _DEFAULT_FOLDER)
    try:
        shutil.copytree(template, folder, ignore=shutil.ignore_patterns(*_NOT_COPIED))
        _write_image(template, folder)
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise InputError(f"{folder}: {error.strerror or error}; expected a place that can be written") from error


def _write_image(template: Path, folder: Path) -> None:
    """Writes the Dockerfile of a new folder's image, and what it needs beside it."""
    text = (template / _IMAGE).read_text(encoding="utf-8")
    text = text.replace("@FOLDER@", folder.name).replace("@VERSION@", __version__)
    (folder / "Dockerfile").write_text(text, encoding="utf-8")
    (folder / ".dockerignore").write_text(_SENT, encoding="utf-8")
    (folder / "wheels").mkdir()
    # Version control keeps no empty folders, and the Dockerfile copies this one.
    (folder / "wheels" / ".keep").touch()


def find_folder(folder: Path | None) -> Path:
    """Returns the folder that holds a pipeline: the given one, else this one, or pipelines/ in it.

    Raises:
      InputError: None of them does.
    """
    here = Path.cwd()
    places = [folder.absolute()] if folder is not None else [here, here / _DEFAULT_FOLDER]
    for place in places:
        if all((place / name).is_file() for name in _RUNNERS):
            return place
    raise InputError(
        f"{folder or here} holds no pipeline ({', '.join(_RUNNERS)}): write one with `tf-hqgnn pipeline new DIR`, and "
        "name it by --dir DIR"
    )


def import_runner(folder: Path, name: str) -> Any:
    """Returns a module of a pipeline's folder, which is imported as a package under its own name.

    Raises:
      InputError: Python finds another package of that name.
    """
    parent = str(folder.resolve().parent)
    if parent not in sys.path:
        sys.path.insert(0, parent)
    module = importlib.import_module(f"{folder.resolve().name}.{name}")
    found = Path(str(module.__file__)).resolve().parent
    if found != folder.resolve():
        raise InputError(f"{folder}: Python finds another package of that name, {found}; rename the folder")
    return module
