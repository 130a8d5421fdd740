"""New items in a served model without training: rows from their first interactions, codes and index like all others."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import scipy.sparse

from tf_hqgnn.config import DataConfig
from tf_hqgnn.data.feature_input import read_features
from tf_hqgnn.data.feature_table import FeatureTable
from tf_hqgnn.data.interactions import InteractionTable, read_table
from tf_hqgnn.data.items import ItemCatalogue, read_items, rows_of
from tf_hqgnn.data.report import BadRowLog
from tf_hqgnn.export.bundle import ServingBundle, as_float32, write_version
from tf_hqgnn.export.kept_settings import kept_settings
from tf_hqgnn.export.layout import EXACT_MODEL, INDEX, ITEM_IDS, MODEL_NAMES, newest_version, read_metadata
from tf_hqgnn.export.reader import read_bundle
from tf_hqgnn.export.stored import StoredModel
from tf_hqgnn.export.versions import version_lock, versions
from tf_hqgnn.features.model import blend
from tf_hqgnn.quantization.codes import Codes
from tf_hqgnn.retrieval.histories import fit_hop_map, hop
from tf_hqgnn.retrieval.indices.index import EarlierIndex
from tf_hqgnn.types import Array, BoolArray, Float32Array, InputError, Int32Array, Int64Array, ObjectArray


@dataclass(frozen=True)
class AddedItems:
    """What became of the interactions.

    Args:
      version: that holds the new items.
      num_added: items that the model didn't know.
      num_by_features: those of them that have no interaction of a known user, but features that the model knows.
      num_skipped: new items without either: nothing can be said of them.
      num_updated: known items with new interactions, which count for what a user has seen and for popularity.
      num_withdrawn: known items that were available, and aren't by the file of items.
      num_returned: known items that weren't available, and are by the file of items.
      num_unknown_users: users that the model doesn't know; `recommend_for_history` is for them.
    """

    version: int
    num_added: int
    num_by_features: int
    num_skipped: int
    num_updated: int
    num_withdrawn: int
    num_returned: int
    num_unknown_users: int


def add_items(export_dir: Path, interactions: Path | None, items: str | Path | None = None) -> AddedItems:
    """Writes the next version of every model in `export_dir`, with the new items of a log.

    A new item's row is one hop over the rows of the users who took it, through the map that leads from such hops to
    the rows of the items that were trained. Its length, which is its popularity, grows with the interactions. Rows of
    known users and items stay as they are; pairs of the log count as seen from now on. Known items are withdrawn, and
    return, by the column `available` of the file of items.

    Every model keeps the settings that its newest version was exported with, and an index keeps what it has learnt:
    see `Index.update`.

    Args:
      export_dir: of `tf-hqgnn export`; its newest version is read.
      interactions: a log as of training; None where the items have none yet.
      items: a file of items (or several, separated by commas), for categories, availability and features. If the
        model has learnt from features of items, an item that has some is added without any interaction.

    Raises:
      InputError: There is no export or it can't be read, the log can't be read, or there is nothing to change.
    """
    export_dir = Path(export_dir)
    with version_lock(export_dir):
        exact = newest_version(export_dir, EXACT_MODEL)
        stored = StoredModel(exact)
        bundle = read_bundle(exact, stored)
        newest = {name: newest_version(export_dir, name) for name in MODEL_NAMES if versions(export_dir / name)}
        settings = {name: kept_settings(version_dir) for name, version_dir in newest.items()}
        earlier = {
            name: _index_of(version_dir)
            for name, version_dir in newest.items()
            if version_dir == exact or _same_items(stored, version_dir)
        }
        table = None
        if interactions is not None:
            with BadRowLog(0, None) as log:
                table = read_table(interactions, DataConfig().format, log)
        catalogue = None if items is None else replace(read_items(items), features=_features(bundle, items))
        extended, counts = extend(bundle, table, catalogue)
        version = write_version(lambda: extended, export_dir, settings, earlier=earlier)
    return AddedItems(version, **counts)


def _index_of(version_dir: Path) -> EarlierIndex:
    """The index of a version, for the one that follows."""
    stored, metadata = StoredModel(version_dir), read_metadata(version_dir)
    return EarlierIndex(
        metadata,
        metadata["num_items"],
        lambda name: f"{INDEX}/{name}" in stored,
        lambda name: stored.read(f"{INDEX}/{name}"),
    )


def _same_items(stored: StoredModel, version_dir: Path) -> bool:
    """Whether a version has the items of a stored model, and the same rows for them: models may be exported apart."""
    other = StoredModel(version_dir)
    paths = [ITEM_IDS, *stored.below("items")]
    return all(path in other and np.array_equal(stored.read(path), other.read(path)) for path in paths)


def _features(bundle: ServingBundle, items: str | Path) -> FeatureTable | None:
    model = bundle.features.items
    # Of the columns that the model knows, the new items may lack some.
    return None if model is None else read_features(items, "items", "all")


def extend(
    bundle: ServingBundle, table: InteractionTable | None, catalogue: ItemCatalogue | None = None
) -> tuple[ServingBundle, dict[str, int]]:
    """`bundle` with the new items and pairs of `table`, and how many there were, as `AddedItems` counts.

    Args:
      bundle: what is served.
      table: the first interactions of new items; None where there are none yet.
      catalogue: of any items. One with features that the bundle knows is added without any interaction.

    Raises:
      InputError: No item is new, and has an interaction of a known user or known features; and none is withdrawn, or
        returns.
    """
    log = _Log.of(bundle, table)
    users, items, user_index, item_index = log.users, log.items, log.user_index, log.item_index
    taken = np.zeros(len(items), bool)
    taken[item_index] = True
    taken &= items < 0
    by_features = _known_by_features(bundle, catalogue, log.item_ids[taken])
    new_ids = np.concatenate([log.item_ids[taken], by_features])
    by_file = catalogue is not None and (table is None or bundle.features.items is not None)
    given = {*log.item_ids, *(catalogue.item_ids if catalogue is not None and by_file else ())}
    known = given.intersection(bundle.item_ids)
    was_available, is_available = _availability(bundle, catalogue)
    counts = {
        "num_added": len(new_ids),
        "num_by_features": len(by_features),
        "num_skipped": len(given - known - {*new_ids}),
        "num_updated": len(np.unique(item_index[items[item_index] >= 0])),
        "num_withdrawn": int(np.count_nonzero(was_available & ~is_available)),
        "num_returned": int(np.count_nonzero(~was_available & is_available)),
        "num_unknown_users": int((users < 0).sum()),
    }
    if not len(new_ids) and (was_available == is_available).all():
        raise InputError(
            f"nothing to add: of the {len(given):,} items given {len(known):,} are known already, and "
            f"{counts['num_skipped']:,} have neither an interaction of a user that the model knows nor "
            + (
                "a feature, for this model has learnt from none: name data.item_features, and train it again"
                if bundle.features.items is None
                else f"a feature that it knows ({', '.join(column.name for column in bundle.features.items.columns)})"
            )
        )
    items[taken] = len(bundle.item_ids) + np.arange(taken.sum())
    pairs = user_index, items[item_index]
    shape = (len(bundle.user_ids), len(bundle.item_ids) + len(new_ids))
    added = scipy.sparse.csr_matrix((np.ones(len(user_index), np.float32), pairs), shape)
    before = bundle.seen_matrix()
    before.resize(shape)
    seen = (before + added).tocsr()
    seen.sum_duplicates()
    seen.data[:] = 1
    first_new = len(bundle.item_ids)
    neighbours = added[:, first_new:].T.tocsr()
    neighbours.data[:] = 1
    rows = _new_rows(bundle, neighbours, new_ids, catalogue)
    popularity = np.pad(bundle.item_popularity, (0, len(new_ids)))
    popularity += np.asarray(added.sum(axis=0), np.float32).ravel()
    about = (catalogue or ItemCatalogue(new_ids)).align(new_ids)
    extended = replace(
        bundle,
        item_ids=np.concatenate([bundle.item_ids, new_ids]),
        items=_append(bundle.items, rows),
        seen=(seen.indptr.astype(np.int64), seen.indices.astype(np.int32)),
        item_popularity=popularity,
        item_categories=_append_column(bundle.item_categories, about.category, "", first_new, len(new_ids)),
        item_available=_append_column(is_available, about.available, True, first_new, len(new_ids)),
        item_titles=_append_column(bundle.item_titles, about.title, "", first_new, len(new_ids)),
        # The rows of known users were learnt from what they had taken before, and so was the map that leads to them.
        learnt=bundle.learnt or bundle.seen,
    )
    return extended, counts


def _availability(bundle: ServingBundle, catalogue: ItemCatalogue | None) -> tuple[BoolArray, BoolArray]:
    """Whether each item of a bundle was available, and whether it is by the catalogue, where that says so."""
    before = np.ones(len(bundle.item_ids), bool) if bundle.item_available is None else bundle.item_available
    after = before.copy()
    if catalogue is not None and catalogue.available is not None:
        places = rows_of(bundle.item_ids, catalogue.item_ids)
        after[places[places >= 0]] = catalogue.available[places >= 0]
    return before, after


class _Log(NamedTuple):
    """A log in rows of a bundle; -1 for what that doesn't know.

    Args:
      item_ids: of the log.
      users: rows of the log's users.
      items: rows of its items.
      user_index: of the pairs of known users, rows of the bundle.
      item_index: likewise, rows of the log.
    """

    item_ids: ObjectArray
    users: Int64Array
    items: Int64Array
    user_index: Int64Array
    item_index: Int32Array

    @staticmethod
    def of(bundle: ServingBundle, table: InteractionTable | None) -> _Log:
        """The log of a table; None is an empty one."""
        if table is None:
            nothing = np.zeros(0, np.int64)
            return _Log(np.zeros(0, object), nothing, nothing.copy(), nothing, nothing.astype(np.int32))
        users, items = rows_of(bundle.user_ids, table.user_ids), rows_of(bundle.item_ids, table.item_ids)
        user_index, item_index = users[table.interactions.user_index], table.interactions.item_index
        known = user_index >= 0
        return _Log(table.item_ids, users, items, user_index[known], item_index[known])


def _known_by_features(bundle: ServingBundle, catalogue: ItemCatalogue | None, others: ObjectArray) -> ObjectArray:
    """New items of a catalogue that have known features, and aren't among `others`."""
    model, features = bundle.features.items, None if catalogue is None else catalogue.features
    if model is None or features is None:
        return np.zeros(0, object)
    old = {*bundle.item_ids, *others}
    new = features.take(np.array([one not in old for one in features.ids], bool))
    return new.ids[model.predict(new)[1]]


def _new_rows(
    bundle: ServingBundle, neighbours: scipy.sparse.csr_matrix, ids: ObjectArray, catalogue: ItemCatalogue | None
) -> Float32Array:
    """Rows by the interactions [n, U] of new items, and by their features where these are known."""
    if not len(ids):
        return np.zeros((0, bundle.items.dim if isinstance(bundle.items, Codes) else bundle.items.shape[1]), np.float32)
    users, items = as_float32(bundle.users), as_float32(bundle.items)
    rows = hop(neighbours, users) @ fit_hop_map(bundle.seen_matrix().T.tocsr(), users, items)
    model, features = bundle.features.items, None if catalogue is None else catalogue.features
    if model is None or features is None:
        return rows
    predicted, known = model.predict(features.align(ids))
    blended = blend(predicted, rows, np.diff(neighbours.indptr))
    return np.where(known[:, np.newaxis], blended, rows)


def _append(items: Codes | Float32Array, rows: Float32Array) -> Codes | Float32Array:
    """`items` with `rows` after them, in codes of the same bits and kind of range if they are codes."""
    if not isinstance(items, Codes):
        extended: Float32Array = np.concatenate([items, rows.astype(np.float32)])
        return extended
    shared = len(items.scale) == 1 and len(items) > 1
    scale = items.scale.astype(np.float32)
    offset = np.float32(0) if items.offset is None else items.offset.astype(np.float32)
    ranges = (offset - scale, offset + scale) if shared else None
    new = Codes.quantize(rows, items.num_bits, symmetric=items.offset is None, ranges=ranges)
    if shared:
        joined, middle = items.scale, items.offset
    else:
        joined = np.concatenate([items.scale, new.scale])
        middle = None if items.offset is None else np.concatenate([items.offset, new.offset])
    return Codes(np.concatenate([items.packed, new.packed]), joined, middle, items.num_bits, items.dim)


def _append_column(
    before: Array | None, new: Array | None, default: object, num_before: int, num_new: int
) -> Array | None:
    """A column of all items; None if there is neither part."""
    if before is None and new is None:
        return None
    kind = bool if isinstance(default, bool) else object
    first = np.full(num_before, default, kind) if before is None else before
    column: Array = np.concatenate([first, np.full(num_new, default, kind) if new is None else new])
    return column
