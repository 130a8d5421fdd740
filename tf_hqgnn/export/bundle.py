"""The only writer of SavedModels: `hqgnn`, exact and of stock operations, and `hqgnn_scann`, approximate."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse
import tensorflow as tf

from tf_hqgnn.config import ExportConfig, RetrievalConfig
from tf_hqgnn.export.bundle_checks import check_ids, check_rows, check_seen, largest_value
from tf_hqgnn.export.contents import write_titles
from tf_hqgnn.export.guide_files import write_guide
from tf_hqgnn.export.layout import (
    EXACT_MODEL,
    EXTRA_FILES,
    MODEL_NAMES,
    SCANN_MODEL,
    ModelSettings,
    version_path,
    write_metadata,
)
from tf_hqgnn.export.loading import CUSTOM_OPERATIONS
from tf_hqgnn.export.serving_module import make_module, same_module
from tf_hqgnn.export.versions import check_free, staged_versions, version_lock
from tf_hqgnn.export.warmup import warmup_batches, warmup_requests, write_warmup
from tf_hqgnn.features.model import FEATURES_FILE, FeatureModels
from tf_hqgnn.files.durable import staged_folder
from tf_hqgnn.graph.csr import CSR
from tf_hqgnn.quantization.codes import Codes
from tf_hqgnn.retrieval.choose import check_index
from tf_hqgnn.retrieval.histories import fit_hop_map
from tf_hqgnn.retrieval.indices.index import EarlierIndex
from tf_hqgnn.types import BoolArray, Float32Array, InputError, Int32Array, Int64Array, ObjectArray

if TYPE_CHECKING:
    from tf_hqgnn.runs.run_directory import RunDirectory


@dataclass(frozen=True, eq=False)
class ServingBundle:
    """Everything that an exported model holds: ids, embeddings, histories, popularity and what is known of items.

    Args:
      user_ids: object [U] of distinct non-empty str, U >= 1.
      item_ids: object [N] of distinct non-empty str, N >= 1.
      users: the propagated rows of users: U codes, or float32 [U, d], finite.
      items: N codes, or float32 [N, d]; codes or not is free on both sides.
      seen: `(indptr, indices)`, int64 [U + 1] and int32 [nnz], strictly ascending within a user: the items that never
        come back to it.
      item_popularity: float32 [N], finite: the score of an item for unknown users.
      item_categories: object [N] of str, separated by `|`, "" for an item without one; None if none has one.
      item_available: bool [N], False for items that never come back; None if all may.
      item_titles: object [N] of str, "" for an item without one; None if none has one. No answer needs them.
      hop_map: float32 [d, d], finite: `user_hop_map` as it was fitted before; None fits it when it is asked for.
      learnt: as `seen`, the items that each user's row was learnt from, which `user_hop_map` is fitted to, and by
        which answers are explained; None for `seen`.
      features: from which new users and items get a row.
      known_users: bool [U], False for users of whom nothing is known but what must not come back to them: they are
        answered as an unknown user is; None if all are known.
      catalogue_items: items of the whole model, of which this is a shard; None if this is all.

    Raises:
      ValueError: The parts don't fit together; the message says which.
      InputError: Scores may be too large for float32.
    """

    user_ids: ObjectArray
    item_ids: ObjectArray
    users: Codes | Float32Array
    items: Codes | Float32Array
    seen: tuple[Int64Array, Int32Array]
    item_popularity: Float32Array
    item_categories: ObjectArray | None = None
    item_available: BoolArray | None = None
    item_titles: ObjectArray | None = None
    hop_map: Float32Array | None = None
    learnt: CSR | None = None
    features: FeatureModels = field(default_factory=FeatureModels)
    known_users: BoolArray | None = None
    catalogue_items: int | None = None

    def __post_init__(self) -> None:
        check_ids("user_ids", self.user_ids)
        check_ids("item_ids", self.item_ids)
        user_dim = check_rows("users", self.users, len(self.user_ids))
        item_dim = check_rows("items", self.items, len(self.item_ids))
        if user_dim != item_dim:
            raise ValueError(f"users have {user_dim} dimensions, items {item_dim}: they must have the same")
        if self.item_popularity.shape != self.item_ids.shape or not np.isfinite(self.item_popularity).all():
            raise ValueError(
                f"item_popularity must be a finite number for each of the {len(self.item_ids)} items, got shape "
                f"{self.item_popularity.shape}"
            )
        for name in ("item_categories", "item_available", "item_titles"):
            values = getattr(self, name)
            if values is not None and values.shape != self.item_ids.shape:
                raise ValueError(f"{name} must have {len(self.item_ids)} entries, one an item, got {values.shape}")
        largest = largest_value(self.users) * largest_value(self.items) * item_dim
        if largest > np.finfo(np.float32).max:
            raise InputError(
                f"scores may be as large as {largest:.0e}, and float32 ends at {np.finfo(np.float32).max:.0e}: divide "
                "the rows of users or items by one number, the ranking stays the same"
            )
        check_seen(*self.seen, len(self.user_ids), len(self.item_ids))
        if self.learnt is not None:
            check_seen(*self.learnt, len(self.user_ids), len(self.item_ids))
        if self.hop_map is not None and (self.hop_map.shape != (item_dim,) * 2 or not np.isfinite(self.hop_map).all()):
            raise ValueError(f"hop_map must be finite and {[item_dim, item_dim]}, got shape {self.hop_map.shape}")

    @cached_property
    def user_hop_map(self) -> Float32Array:
        """What makes a user's row of the rows of its items, float32 [d, d]."""
        if self.hop_map is not None:
            return self.hop_map
        return fit_hop_map(self._matrix(self.learnt or self.seen), as_float32(self.items), as_float32(self.users))

    def seen_matrix(self) -> scipy.sparse.csr_matrix:
        """float32 [U, N], 1 for every seen item."""
        return self._matrix(self.seen)

    def _matrix(self, csr: CSR) -> scipy.sparse.csr_matrix:
        shape = (len(self.user_ids), len(self.item_ids))
        return scipy.sparse.csr_matrix((np.ones(len(csr[1]), np.float32), csr[1], csr[0]), shape)

    @staticmethod
    def from_run(run: RunDirectory) -> ServingBundle:
        """What a finished training run serves, in codes if it has any: after a refit on the whole log that model."""
        from tf_hqgnn.export.run_bundle import bundle_of_rows

        served = run.served()
        return bundle_of_rows(served, served.dataset.history().to_csr(served.dataset.num_users))

    @staticmethod
    def judged(run: RunDirectory) -> ServingBundle:
        """What a run is judged by: the model from before a refit, which may recommend held-out items."""
        from tf_hqgnn.export.run_bundle import bundle_of_rows

        return bundle_of_rows(run, run.graph.masked())


def export_exact(bundle: ServingBundle, directory: str | Path, config: ExportConfig, version: int) -> Path:
    """Writes `directory/hqgnn/<version>`: every item is scored, by operations that any TensorFlow has.

    Returns:
      The version's folder.

    Raises:
      InputError: The version exists.
      ImportError: tensorflow-serving-api isn't installed.
    """
    export_bundle(lambda: bundle, directory, config, RetrievalConfig(), version, (EXACT_MODEL,))
    return version_path(Path(directory), EXACT_MODEL, version)


def export_scann(
    bundle: ServingBundle, directory: str | Path, config: ExportConfig, retrieval: RetrievalConfig, version: int
) -> Path:
    """Writes `directory/hqgnn_scann/<version>`: ScaNN finds candidates; it must be imported before this is loaded.

    Returns:
      The version's folder.

    Raises:
      InputError: The version exists, or `retrieval` doesn't fit the catalogue.
      ImportError: ScaNN or tensorflow-serving-api isn't installed.
    """
    export_bundle(lambda: bundle, directory, config, retrieval, version, (SCANN_MODEL,))
    return version_path(Path(directory), SCANN_MODEL, version)


def export_bundle(
    make_bundle: Callable[[], ServingBundle],
    out_dir: str | Path,
    config: ExportConfig,
    retrieval: RetrievalConfig,
    version: int | None = None,
    models: tuple[str, ...] = MODEL_NAMES,
) -> int:
    """Writes models under the same version number, all of them before the first appears.

    Args:
      make_bundle: what they hold; called once it is known that the version is free.
      out_dir: gets a folder for each model.
      config: of the answers.
      retrieval: of the index.
      version: by default the next above every version of them.
      models: which to write.

    Returns:
      The version.

    Raises:
      InputError: The version exists in one of them.
    """
    settings = dict.fromkeys(models, ModelSettings(config, retrieval))
    # What is refused leaves no folder behind, not even one with a lock in it.
    _check(out_dir, settings, version)
    with version_lock(Path(out_dir)):
        return write_version(make_bundle, out_dir, settings, version)


def export_model(
    bundle: ServingBundle,
    name: str,
    settings: ModelSettings,
    directory: Path,
    signatures: tuple[str, ...] | None = None,
) -> None:
    """Writes one SavedModel without a version, as a TFX artifact holds it.

    Args:
      bundle: what it holds.
      name: of the model, `hqgnn` or `hqgnn_scann`.
      settings: of its answers and its index.
      directory: appears when it is complete; must not exist, or be empty.
      signatures: which it has; None for all.

    Raises:
      InputError: ScaNN is asked for and isn't installed, or the settings don't fit the catalogue.
    """
    with staged_folder(directory) as staged:
        described = _write(bundle, staged, name, settings, signatures)
        _describe(bundle, staged, name, settings, described, signatures)


def write_version(
    make_bundle: Callable[[], ServingBundle],
    out_dir: str | Path,
    settings: Mapping[str, ModelSettings],
    version: int | None = None,
    earlier: Mapping[str, EarlierIndex] | None = None,
) -> int:
    """As `export_bundle`, with settings for each model; the caller holds the `version_lock` of `out_dir`.

    Args:
      make_bundle: as of `export_bundle`.
      out_dir: as of `export_bundle`.
      settings: of each model to write, by its name.
      version: as of `export_bundle`.
      earlier: by a model's name, the index of the version that this one follows; None builds all anew.

    Returns:
      The version.

    Raises:
      InputError: The version exists in one of them, or ScaNN is asked for and isn't installed.
    """
    _check(out_dir, settings, version)
    bundle = make_bundle()
    with staged_versions(Path(out_dir), list(settings), version) as staged:
        written: dict[str, tuple[Path, dict[str, Any]]] = {}
        for name, folder in staged.folders.items():
            twin = next((other for other in written if same_module(bundle, other, name, settings)), None)
            if twin is None:
                described = _write(bundle, folder, name, settings[name], earlier=(earlier or {}).get(name))
            else:
                source, described = written[twin]
                shutil.copytree(source, folder, dirs_exist_ok=True)
            _describe(bundle, folder, name, settings[name], described)
            written[name] = folder, described
    return staged.version


def _check(out_dir: str | Path, settings: Mapping[str, ModelSettings], version: int | None) -> None:
    if SCANN_MODEL in settings:
        check_index(settings[SCANN_MODEL].retrieval)
    for name in settings:
        if version is not None:
            check_free(Path(out_dir) / name, version)


def _write(
    bundle: ServingBundle,
    model_dir: Path,
    name: str,
    settings: ModelSettings,
    signatures: tuple[str, ...] | None = None,
    earlier: EarlierIndex | None = None,
) -> dict[str, Any]:
    """Write all but what names the model; returns what its metadata say of its tables and its index."""
    module = make_module(bundle, name, settings, earlier)
    if signatures is not None:
        module.keep(signatures)
    users, items = module.users, module.items
    options = tf.saved_model.SaveOptions(namespace_whitelist=list(CUSTOM_OPERATIONS))
    tf.saved_model.save(module, str(model_dir), signatures=module.signatures(), options=options)
    if bundle.item_titles is not None:
        write_titles(model_dir, bundle.item_ids, bundle.item_titles)
    if bundle.features:
        (model_dir / EXTRA_FILES).mkdir(exist_ok=True)
        bundle.features.save(model_dir / EXTRA_FILES / FEATURES_FILE)
    return {
        "num_users": users.num_rows,
        "num_items": items.num_rows,
        "embedding_dim": items.embedding_dim,
        "bits": items.num_bits,
        "user_bits": users.num_bits,
        "bytes_per_item": items.bytes_per_row,
        "bytes_per_user": users.bytes_per_row,
        "scoring": "integer" if items.num_bits and users.num_bits else "float32",
        "by_blocks": items.by_blocks,
        "users_by_blocks": users.by_blocks,
        **module.top_k.describe(),
    }


def _describe(
    bundle: ServingBundle,
    model_dir: Path,
    name: str,
    settings: ModelSettings,
    described: Mapping[str, Any],
    signatures: tuple[str, ...] | None = None,
) -> None:
    """Write what names the model: its warm-up records, how to ask it, and its metadata."""
    config = settings.export
    batches = warmup_batches(config.jit_compile)
    some_features = () if bundle.features.users is None else bundle.features.users.example()
    requests = warmup_requests(bundle.user_ids[:16], bundle.item_ids[:16], config.default_k, batches, some_features)
    write_warmup(model_dir, name, [one for one in requests if signatures is None or one[0] in signatures])
    write_guide(model_dir, name, requests)
    write_metadata(model_dir, {"model": name, "default_k": config.default_k, **settings.to_json(), **described})


def as_float32(rows: Codes | Float32Array) -> Float32Array:
    """What rows stand for, float32 [n, d]."""
    return rows.dequantize() if isinstance(rows, Codes) else rows
