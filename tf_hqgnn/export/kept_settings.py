"""The settings that a version was exported with, also where its metadata, those of version 0.1, don't hold them."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np

from tf_hqgnn.config import ExportConfig, RetrievalConfig
from tf_hqgnn.export.layout import SCANN_MODEL, ModelSettings, read_metadata, settings_of
from tf_hqgnn.export.loading import is_compiled
from tf_hqgnn.export.stored import StoredModel
from tf_hqgnn.export.warmup import warmed_up_batches, warmup_batches
from tf_hqgnn.retrieval.indices.scann import BRUTE_FORCE_BELOW
from tf_hqgnn.retrieval.scann import ScannSizing
from tf_hqgnn.types import InputError

log = logging.getLogger(__name__)


def kept_settings(version_dir: Path) -> ModelSettings:
    """The settings of a version.

    An export of version 0.1 kept only `default_k`. For it, `jit_compile`, `index` and `num_leaves` are inferred from
    the model, the others take their defaults, and a line of the log says so.

    Args:
      version_dir: a version of an export.

    Raises:
      InputError: The metadata are missing or damaged, or hold settings that are unknown here.
    """
    metadata = read_metadata(version_dir)
    settings = settings_of(version_dir, metadata)
    return settings if settings is not None else _inferred(version_dir, metadata)


def _inferred(version_dir: Path, metadata: dict[str, Any]) -> ModelSettings:
    if "default_k" not in metadata:
        raise InputError(f"{version_dir} doesn't say what its default_k is: export the run again")
    # A catalogue that is too small for blocks has nothing to compile, but is warmed up in the same sizes.
    jit_compile = is_compiled(version_dir) or warmed_up_batches(version_dir) == warmup_batches(jit_compile=True)
    export = ExportConfig(default_k=metadata["default_k"], jit_compile=jit_compile)
    num_available = int(np.count_nonzero(StoredModel(version_dir).read("item_filter/codes") >= 0))
    found = infer_index(metadata, num_available)
    log.warning(
        "%s was exported by version 0.1, which kept no settings: export.jit_compile %s, retrieval.index %s and "
        "retrieval.num_leaves %s follow from the model, the other settings of retrieval take their defaults; to set "
        "them, export the run again",
        version_dir,
        str(export.jit_compile).lower(),
        found.index,
        "null" if found.num_leaves is None else found.num_leaves,
    )
    return ModelSettings(export, found)


def infer_index(metadata: dict[str, Any], num_items: int) -> RetrievalConfig:
    """The settings of the index of version 0.1, the defaults where these give it for the catalogue.

    Args:
      metadata: of the version.
      num_items: how many of its items are available: those that an index holds.

    Example:
      >>> infer_index({"model": "hqgnn_scann", "index": "ScannTopK", "num_leaves": 300}, 40_000).num_leaves
      300
    """
    is_large = num_items >= BRUTE_FORCE_BELOW
    if "num_leaves" not in metadata:
        # Of the exact model nothing can be said.
        forced = is_large and metadata.get("model") == SCANN_MODEL
        return RetrievalConfig(index="exact" if forced else "auto")
    usual = ScannSizing.choose(num_items, RetrievalConfig()).num_leaves
    num_leaves = None if metadata["num_leaves"] == usual else metadata["num_leaves"]
    index = "auto" if is_large else "scann"
    return RetrievalConfig(index=index, num_leaves=num_leaves)
