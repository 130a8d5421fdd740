"""What is served of a training run: its model, with the items that were added to it since."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tf_hqgnn.data.feature_table import FeatureTable
from tf_hqgnn.data.interaction_table import InteractionTable
from tf_hqgnn.data.interactions import read_interactions
from tf_hqgnn.data.items import ItemCatalogue, read_items
from tf_hqgnn.export.bundle import ServingBundle, export_bundle
from tf_hqgnn.export.new_items import extend
from tf_hqgnn.runs.manifest import ADDED_ITEMS
from tf_hqgnn.runs.run_directory import RunDirectory

_PAIRS, _ITEMS, _FEATURES = "pairs.parquet", "items.parquet", "features.parquet"

Addition = tuple[InteractionTable | None, ItemCatalogue | None]


def bundle_of(run: RunDirectory) -> ServingBundle:
    """What a run serves, with the items that `Recommender.add_items` has added to it.

    Args:
      run: a finished run.
    """
    bundle = ServingBundle.from_run(run)
    for table, items in read_additions(run.path):
        bundle, _ = extend(bundle, table, items)
    return bundle


def export_run(run: RunDirectory, out_dir: str | Path, version: int | None = None) -> int:
    """Writes both models of a training run under the same version number; see `export_bundle`.

    Args:
      run: what to export, with the settings to export it by.
      out_dir: gets `hqgnn/<version>` and `hqgnn_scann/<version>`.
      version: by default the next above every version of both.

    Returns:
      The version.

    Raises:
      InputError: The version exists in either model.
    """
    config = run.config
    return export_bundle(lambda: bundle_of(run), out_dir, config.export, config.retrieval, version)


def read_additions(folder: Path) -> list[Addition]:
    """The logs and items that were added to the run in a folder, in their order."""
    added = sorted(folder.glob(f"{ADDED_ITEMS}/*/"), key=lambda path: int(path.name))
    return [(_pairs_beside(one), _items_beside(one)) for one in added]


def addition_files(number: int, addition: Addition) -> dict[str, bytes]:
    """The files of a run that hold an addition: their bytes by their paths within the run.

    Args:
      number: how many additions came before.
      addition: the log and the items.
    """
    table, items = addition
    with tempfile.TemporaryDirectory(prefix="tf_hqgnn-") as folder:
        written = Path(folder)
        if table is not None:
            pq.write_table(_pairs(table), written / _PAIRS)
        if items is not None:
            pq.write_table(_item_table(items), written / _ITEMS)
            if items.features is not None:
                items.features.save(written / _FEATURES)
        return {f"{ADDED_ITEMS}/{number}/{path.name}": path.read_bytes() for path in written.iterdir()}


def _pairs_beside(folder: Path) -> InteractionTable | None:
    path = folder / _PAIRS
    return read_interactions(path) if path.exists() else None


def _items_beside(folder: Path) -> ItemCatalogue | None:
    path, features = folder / _ITEMS, folder / _FEATURES
    if not path.exists():
        return None
    return replace(read_items(path), features=FeatureTable.load(features) if features.exists() else None)


def _pairs(table: InteractionTable) -> pa.Table:
    pairs = table.interactions
    return pa.table(
        {
            "user_id": pa.array(table.user_ids[pairs.user_index], pa.utf8()),
            "item_id": pa.array(table.item_ids[pairs.item_index], pa.utf8()),
        }
    )


def _item_table(items: ItemCatalogue) -> pa.Table:
    columns = {"item_id": items.item_ids, "title": items.title, "category": items.category}
    table = {name: pa.array(values, pa.utf8()) for name, values in columns.items() if values is not None}
    if items.available is not None:
        table["available"] = pa.array(items.available)
    return pa.table(table)
