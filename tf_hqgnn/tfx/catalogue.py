"""What a pipeline keeps of its input besides the interactions: the catalogue of items and the report of the read."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tf_hqgnn.data.feature_table import FeatureTable
from tf_hqgnn.data.growth import with_features
from tf_hqgnn.data.parquet_file import read_parquet_table
from tf_hqgnn.data.report import ReadReport
from tf_hqgnn.data.splits import SplitDataset
from tf_hqgnn.types import Array, BoolArray, ObjectArray

_FILE = "items.parquet"
_REPORT = "report.json"
_FEATURES = ("user_features", "item_features")


@dataclass(frozen=True)
class CatalogueColumns:
    """Columns of the catalogue; None where the input had none.

    Args:
      titles: str [I], "" where an item has none.
      categories: str [I], "" where an item has none.
      available: bool [I].
    """

    titles: ObjectArray | None
    categories: ObjectArray | None
    available: BoolArray | None


def write_catalogue(dataset: SplitDataset, directory: Path) -> None:
    """Writes `items.parquet`: `item_id`, what the dataset has of `title`, `category`, `available`; and features."""
    columns = {"item_id": pa.array(dataset.item_ids, pa.string())}
    for name, values in (("title", dataset.titles), ("category", dataset.categories)):
        if values is not None:
            columns[name] = pa.array(values, pa.string())
    if dataset.available is not None:
        columns["available"] = pa.array(dataset.available, pa.bool_())
    directory.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), directory / _FILE)
    for name in _FEATURES:
        features = getattr(dataset, name)
        if features is not None:
            features.save(directory / f"{name}.parquet")


def read_catalogue(directory: Path, item_ids: ObjectArray) -> CatalogueColumns:
    """Reads the catalogue in the order of `item_ids`.

    Raises:
      ValueError: An id isn't in the catalogue.
    """
    table = read_parquet_table(directory / _FILE)
    row_of = {item: row for row, item in enumerate(table["item_id"].to_pylist())}
    missing = [item for item in item_ids if item not in row_of]
    if missing:
        raise ValueError(f"{len(missing)} items of the examples are not in the catalogue, the first is {missing[0]!r}")
    rows = np.array([row_of[item] for item in item_ids], np.int64)

    def column(name: str, dtype: type) -> Array | None:
        if name not in table.column_names:
            return None
        return np.array(table[name].to_pylist(), dtype)[rows]

    return CatalogueColumns(column("title", object), column("category", object), column("available", bool))


def add_features(dataset: SplitDataset, directory: Path) -> SplitDataset:
    """Returns the dataset with the features that `write_catalogue` kept, and those who are known by nothing else."""
    paths = [directory / f"{name}.parquet" for name in _FEATURES]
    return with_features(dataset, *(FeatureTable.load(path) if path.is_file() else None for path in paths))


def write_report(dataset: SplitDataset, directory: Path) -> None:
    """Writes `report.json`: `read` (the balance of the rows), `text` (in words), and the sizes of the result."""
    report = {
        "text": "\n".join(dataset.report.summary),
        "read": dataset.report.to_json(),
        "num_users": dataset.num_users,
        "num_items": dataset.num_items,
        "train": len(dataset.train),
        "valid": len(dataset.valid),
        "test": len(dataset.test),
    }
    directory.mkdir(parents=True, exist_ok=True)
    (directory / _REPORT).write_text(json.dumps(report, indent=2, ensure_ascii=False), encoding="utf-8")


def read_report(directory: Path) -> dict[str, Any]:
    """What `write_report` wrote, with `read` as a `ReadReport`."""
    report = json.loads((directory / _REPORT).read_text(encoding="utf-8"))
    return {**report, "read": ReadReport.from_json(report["read"])}
