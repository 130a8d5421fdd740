"""The component that finds an operator's mistakes in seconds, before anything is read or trained.

Kubeflow's launcher turns every exit code into 1, so that a step that was given a wrong path is tried again as one whose
node was lost. This step looks at everything that an operator may choose when starting a run, and isn't tried again.
"""

# No `from __future__ import annotations`: TFX reads the annotations of a component as objects.
import os
import tempfile
from pathlib import Path

from tf_hqgnn.config import DataConfig
from tf_hqgnn.data.named_inputs import named_inputs
from tf_hqgnn.files.stores import refuse_stores
from tf_hqgnn.tfx.annotations import Parameter, component
from tf_hqgnn.tfx.model_store import read_pointer
from tf_hqgnn.tfx.settings import read_data_settings, read_settings
from tf_hqgnn.tfx.thresholds import Thresholds
from tf_hqgnn.types import InputError


@component
def RunCheck(
    config: Parameter[str],
    thresholds: Parameter[str],
    serving_dir: Parameter[str],
    model_store: Parameter[str],
    data_path: Parameter[str] = "",
    items_path: Parameter[str] = "",
    max_epochs: Parameter[int] = 0,
) -> None:
    """Checks the settings, that the files are there, and that models can be pushed; makes nothing.

    Args:
      config: YAML of a `Config`.
      thresholds: JSON of `Thresholds`.
      serving_dir: where models are pushed to.
      model_store: folder of the pointer to the last blessed model.
      data_path: in place of the config's `data.path`, unless "".
      items_path: in place of the config's `data.items_path`, unless "".
      max_epochs: in place of the config's `training.max_epochs` and `warm_epochs`, unless 0.

    Raises:
      InputError: A setting is wrong, a file can't be read, or a folder can't be written.
    """
    read_settings(config, max_epochs)
    Thresholds.from_json(thresholds)
    check_inputs(read_data_settings(config, data_path, items_path).data)
    for name, folder in (("serving_dir", serving_dir), ("model_store", model_store)):
        check_folder(name, Path(folder))
    read_pointer(Path(model_store))


def check_inputs(data: DataConfig) -> None:
    """Opens every file that the settings name.

    Raises:
      InputError: One isn't there, is empty or can't be read.
    """
    if not named_inputs(data):
        raise InputError("no log to read; give data_path, or data.path in the config")


def check_folder(name: str, folder: Path) -> None:
    """Writes a file into a folder, or where the folder would be made, and deletes it.

    Args:
      name: of the parameter that names the folder.
      folder: need not be there yet.

    Raises:
      InputError: It is no absolute path, is of an object store, or can't be written.
    """
    refuse_stores({name: folder})
    if not folder.is_absolute():
        raise InputError(f"{name} {folder}: expected an absolute path, as the steps see it: on a mounted volume")
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    try:
        with tempfile.NamedTemporaryFile(dir=existing, prefix=".tmp-check-"):
            pass
    except OSError as error:
        raise InputError(
            f"{name} {folder}: {error.strerror or error} (as uid {os.getuid()}); expected a folder on a mounted volume "
            "that every step may write"
        ) from error
