"""Writes a model as shards by ranges of items, for catalogues that no server's memory holds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from tf_hqgnn.config import ExportConfig, RetrievalConfig
from tf_hqgnn.export.bundle import ServingBundle, export_model
from tf_hqgnn.export.layout import ModelSettings, read_metadata, write_metadata
from tf_hqgnn.export.shard_manifest import (
    SHARD_SIGNATURES,
    Shard,
    ShardManifest,
    manifest_path,
    shard_folders,
    shard_names,
)
from tf_hqgnn.export.versions import check_free, next_version, staged_versions, version_lock
from tf_hqgnn.features.model import FeatureModels
from tf_hqgnn.graph.csr import CSR, keep_columns
from tf_hqgnn.quantization.codes import Codes
from tf_hqgnn.types import InputError, Int32Array, Int64Array


def export_shards(
    make_bundle: Callable[[], ServingBundle],
    out_dir: str | Path,
    config: ExportConfig,
    num_shards: int,
    version: int | None = None,
) -> ShardManifest:
    """Writes the exact model as shards, `out_dir/hqgnn-00000-of-00004/<version>` and so on, and last their manifest.

    Each shard has all users, with what must not come back to them, and a range of the items. `serving.sharded` asks
    all of them and puts their answers together. Where users and items are in codes, scores don't depend on how the
    items are cut; products of float32 rows may differ in the last bits.

    Args:
      make_bundle: what the model holds; called once it is known that the version is free.
      out_dir: gets a folder for each shard.
      config: of the answers.
      num_shards: at least 1, and at most the number of items.
      version: by default the next above every version of any shard there.

    Returns:
      The manifest.

    Raises:
      InputError: The version exists, or there are fewer items than shards.
    """
    out, names = Path(out_dir), shard_names(num_shards)
    if version is not None:
        _check_free(out, names, version)
    bundle = make_bundle()
    manifest = ShardManifest.cut(version or 0, len(bundle.item_ids), num_shards)
    settings = ModelSettings(config, RetrievalConfig())
    with version_lock(out):
        number = next_version([*shard_folders(out), *(out / name for name in names)]) if version is None else version
        _check_free(out, names, number)
        manifest = replace(manifest, version=number)
        with staged_versions(out, names, number) as staged:
            for shard in manifest.shards:
                folder = staged.folders[shard.name]
                export_model(items_of_shard(bundle, shard), shard.name, settings, folder, SHARD_SIGNATURES)
                of_all = {"num_items": manifest.num_items, "num_shards": num_shards}
                write_metadata(folder, {**read_metadata(folder), "shard": asdict(shard), "of": of_all})
        manifest.save(out)
    return manifest


def items_of_shard(bundle: ServingBundle, shard: Shard) -> ServingBundle:
    """Cuts a bundle to what one shard holds: all users, and its items."""
    some = slice(shard.first_item, shard.first_item + shard.num_items)
    rows = np.arange(some.start, some.stop)
    num_items, items = len(bundle.item_ids), bundle.items
    dim = items.dim if isinstance(items, Codes) else items.shape[1]

    def cut(csr: CSR) -> tuple[Int64Array, Int32Array]:
        indptr, indices = keep_columns(csr, rows, num_items)
        return indptr.astype(np.int64), indices.astype(np.int32)

    return replace(
        bundle,
        item_ids=bundle.item_ids[some],
        items=items.take(rows) if isinstance(items, Codes) else items[some],
        seen=cut(bundle.seen),
        learnt=None if bundle.learnt is None else cut(bundle.learnt),
        item_popularity=bundle.item_popularity[some],
        item_categories=None if bundle.item_categories is None else bundle.item_categories[some],
        item_available=None if bundle.item_available is None else bundle.item_available[some],
        item_titles=None if bundle.item_titles is None else bundle.item_titles[some],
        # No signature of a shard reads histories or features.
        hop_map=np.zeros((dim, dim), np.float32),
        features=FeatureModels(),
        catalogue_items=num_items,
    )


def _check_free(out: Path, names: list[str], version: int) -> None:
    for name in names:
        check_free(out / name, version)
    path = manifest_path(out, version)
    if path.exists():
        raise InputError(f"{path} exists: versions are never overwritten, take another number")
