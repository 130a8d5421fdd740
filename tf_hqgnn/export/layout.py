"""Names and places in an export, and the metadata of a version. Needs no TensorFlow.

An export is a folder of models, `NAME/<version>`, each version a SavedModel with files of ours in `assets.extra/`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from tf_hqgnn.config import ExportConfig, RetrievalConfig
from tf_hqgnn.export.versions import versions
from tf_hqgnn.files.reading import read_json
from tf_hqgnn.types import InputError

EXACT_MODEL = "hqgnn"
SCANN_MODEL = "hqgnn_scann"
MODEL_NAMES = (EXACT_MODEL, SCANN_MODEL)
# What a client asks that names no model, or no signature.
DEFAULT_MODEL = EXACT_MODEL
DEFAULT_SIGNATURE = "serving_default"
# A k may exceed the catalogue, the rest is padding; but a slip of the pen must not make a server allocate gigabytes.
MAX_PADDED_K = 65_536
# What numbers a request may hold. Far beyond what is of use, a popularity is still far from what makes infinities.
RANGES = {"diversity": (0.0, 1.0), "popularity": (-1e6, 1e6)}
# Of models that have learnt from features of users.
FOR_FEATURES = "recommend_for_features"

SAVED_MODEL_FILE = "saved_model.pb"
VARIABLES = "variables/variables"
EXTRA_FILES = "assets.extra"
METADATA_FILE = Path(EXTRA_FILES) / "metadata.json"
WARMUP_FILE = Path(EXTRA_FILES) / "tf_serving_warmup_requests"
# How to ask the version, and a request for each signature, `NAME.json`.
GUIDE_FILE = Path(EXTRA_FILES) / "README.md"
READY_REQUESTS = Path(EXTRA_FILES) / "requests"
# TensorFlow Serving refuses to load a model with more.
MAX_WARMUP_RECORDS = 1000

# Attributes of the exported module that lead to the ids of users and items; see `stored.StoredModel`.
USER_IDS = "user_ids/keys"
ITEM_IDS = "item_ids/keys"
# The attribute that holds the index.
INDEX = "top_k"


@dataclass(frozen=True)
class ModelSettings:
    """The settings that a model was exported with.

    Args:
      export: the section `export` of the config.
      retrieval: the section `retrieval`.
    """

    export: ExportConfig
    retrieval: RetrievalConfig

    def to_json(self) -> dict[str, Any]:
        """What the metadata hold of them: `export` and `retrieval`, each with every setting."""
        return {"export": self.export.model_dump(mode="json"), "retrieval": self.retrieval.model_dump(mode="json")}


def model_dirs(export_dir: Path) -> list[Path]:
    """The folders of the models' versions, whether they are there or not."""
    return [Path(export_dir) / name for name in MODEL_NAMES]


def version_path(export_dir: Path, name: str, version: int) -> Path:
    """Where a version of the model `name` is.

    Example:
      >>> version_path(Path("export"), EXACT_MODEL, 7).as_posix()
      'export/hqgnn/7'
    """
    return Path(export_dir) / name / str(version)


def newest_version(export_dir: Path, name: str) -> Path:
    """The folder of the highest version of the model `name`.

    Raises:
      InputError: There is none.
    """
    found = versions(Path(export_dir) / name)
    if not found:
        from tf_hqgnn.export.folder_kinds import not_an_export

        why = not_an_export(Path(export_dir)) or f"{export_dir} has no version of {name}: export the run again"
        raise InputError(why)
    return version_path(export_dir, name, found[-1])


def write_metadata(version_dir: Path, metadata: dict[str, Any]) -> None:
    """Writes what `read_metadata` reads."""
    path = Path(version_dir) / METADATA_FILE
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(metadata, indent=2) + "\n", encoding="utf-8")


def read_metadata(version_dir: Path) -> dict[str, Any]:
    """The metadata of a version: sizes, bits, settings, `index` and whether that is `exact`.

    Raises:
      InputError: The folder isn't a version of an export, or its metadata are damaged.
    """
    path = Path(version_dir) / METADATA_FILE
    if not path.is_file():
        raise InputError(f"{path} is missing: expected a version written by `tf-hqgnn export`")
    return read_json(path, cure="export the run again")


def settings_of(version_dir: Path, metadata: dict[str, Any]) -> ModelSettings | None:
    """The settings in the metadata of a version; None for an export of version 0.1, which didn't keep them.

    Raises:
      InputError: A setting is unknown here, or out of range.
    """
    if "export" not in metadata or "retrieval" not in metadata:
        return None
    try:
        export = ExportConfig.model_validate(metadata["export"])
        return ModelSettings(export, RetrievalConfig.model_validate(metadata["retrieval"]))
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"])) or "a section"
        raise InputError(
            f"{Path(version_dir) / METADATA_FILE}: {name}: {first['msg']}; if a newer release of tf_hqgnn wrote it, "
            "upgrade, else export the run again"
        ) from error
