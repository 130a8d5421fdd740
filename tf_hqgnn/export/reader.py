"""Reading a bundle back from a version of an export."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tf_hqgnn.export.bundle import ServingBundle
from tf_hqgnn.export.layout import EXTRA_FILES, ITEM_IDS, USER_IDS, read_metadata
from tf_hqgnn.export.stored import StoredModel
from tf_hqgnn.features.model import FEATURES_FILE, FeatureModels
from tf_hqgnn.quantization.codes import Codes
from tf_hqgnn.quantization.packing import from_bit_planes, pack
from tf_hqgnn.retrieval.bit_planes import unpack_planes
from tf_hqgnn.retrieval.blocks import BLOCK_SIZE
from tf_hqgnn.retrieval.stripes import Stripes
from tf_hqgnn.types import Float32Array, InputError, ObjectArray


def read_bundle(version_dir: Path) -> ServingBundle:
    """What a version of a model was made from; exports of version 0.1 are read, too.

    Exporting what comes back gives a model with the same answers. What no answer needs isn't kept in a model:
    categories and popularity of items that aren't available.

    Args:
      version_dir: a version of `hqgnn` or `hqgnn_scann`.

    Raises:
      InputError: It isn't a version of an export, or lacks a variable.
    """
    metadata, stored = read_metadata(version_dir), StoredModel(version_dir)
    item_ids, codes = _ids(stored, ITEM_IDS), stored.read("item_filter/codes")
    if "popular/by_item" in stored:
        popularity = stored.read("popular/by_item")
    else:
        # Exports without the signature `rerank` hold it in the order of popularity.
        popularity = np.zeros(len(item_ids), np.float32)
        popularity[stored.read("popular/order")] = stored.read("popular/popularity")
    names = _ids(stored, "item_filter/names/keys")
    has_category = (codes >= 0) & (codes < len(names))
    categories = np.where(has_category, names[np.where(has_category, codes, 0)], "")
    available = codes >= 0
    try:
        dim, bits, user_bits = (metadata[name] for name in ("embedding_dim", "bits", "user_bits"))
        by_blocks = metadata["by_blocks"]
    except KeyError as error:
        raise InputError(
            f"{version_dir} doesn't say how its rows are stored (no {error} in its metadata): export the run again"
        ) from error
    return ServingBundle(
        user_ids=_ids(stored, USER_IDS),
        item_ids=item_ids,
        users=_rows(stored, "users", user_bits, dim, by_blocks=False),
        items=_rows(stored, "items", bits, dim, by_blocks),
        seen=(stored.read("seen/indptr"), stored.read("seen/indices")),
        item_popularity=popularity,
        item_categories=categories if categories.any() else None,
        item_available=None if available.all() else available,
        hop_map=stored.read("history/hop_map"),
        known_users=stored.read("known_users") > 0 if "known_users" in stored else None,
        features=FeatureModels.load(Path(version_dir) / EXTRA_FILES / FEATURES_FILE),
    )


def _ids(stored: StoredModel, path: str) -> ObjectArray:
    return np.array([value.decode("utf-8") for value in stored.read(path)], object)


def _rows(stored: StoredModel, name: str, num_bits: int | None, dim: int, by_blocks: bool) -> Codes | Float32Array:
    if num_bits is None:
        return stored.read(f"{name}/values")
    if num_bits == 8:
        codes = stored.read(f"{name}/codes")
    else:
        num_words = stored.length(f"{name}/words/0")
        words = [[stored.read(f"{name}/words/{p}/{word}") for word in range(num_words)] for p in range(num_bits)]
        codes = from_bit_planes(unpack_planes(np.array(words)), dim)
    stripes = Stripes(len(codes), BLOCK_SIZE if by_blocks else 1)

    def ranges(path: str) -> Any:
        values = stored.read(path)
        return stripes.restore(values) if len(values) == len(codes) else values

    offset = ranges(f"{name}/offset") if f"{name}/offset" in stored else None
    return Codes(pack(stripes.restore(codes), num_bits), ranges(f"{name}/scale"), offset, num_bits, dim)
