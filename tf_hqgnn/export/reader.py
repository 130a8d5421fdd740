"""Reading a bundle back from a version of an export."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tf_hqgnn.export.bundle import ServingBundle
from tf_hqgnn.export.contents import read_contents
from tf_hqgnn.export.layout import EXTRA_FILES, read_metadata
from tf_hqgnn.export.stored import StoredModel
from tf_hqgnn.features.model import FEATURES_FILE, FeatureModels
from tf_hqgnn.quantization.codes import Codes
from tf_hqgnn.quantization.packing import from_bit_planes, pack
from tf_hqgnn.retrieval.bit_planes import unpack_planes
from tf_hqgnn.retrieval.blocks import BLOCK_SIZE
from tf_hqgnn.retrieval.stripes import Stripes
from tf_hqgnn.types import Float32Array, InputError


def read_bundle(version_dir: Path, stored: StoredModel | None = None) -> ServingBundle:
    """What a version of a model was made from; exports of version 0.1 are read, too.

    Exporting what comes back gives a model with the same answers. Models of version 0.1 keep neither categories nor
    popularity of items that aren't available.

    Args:
      version_dir: a version of `hqgnn` or `hqgnn_scann`.
      stored: its variables, if they are open already.

    Raises:
      InputError: It isn't a version of an export, or lacks a variable.
    """
    metadata, stored = read_metadata(version_dir), stored or StoredModel(version_dir)
    try:
        dim, bits, user_bits = (metadata[name] for name in ("embedding_dim", "bits", "user_bits"))
        by_blocks = metadata["by_blocks"]
        # Older exports don't say it, and store users one after the other.
        users_by_blocks = metadata.get("users_by_blocks", False)
    except KeyError as error:
        raise InputError(
            f"{version_dir} doesn't say how its rows are stored (no {error} in its metadata): export the run again"
        ) from error
    return ServingBundle(
        **vars(read_contents(version_dir, stored)),
        users=_rows(stored, "users", user_bits, dim, users_by_blocks),
        items=_rows(stored, "items", bits, dim, by_blocks),
        hop_map=stored.read("history/hop_map"),
        features=FeatureModels.load(Path(version_dir) / EXTRA_FILES / FEATURES_FILE),
    )


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
