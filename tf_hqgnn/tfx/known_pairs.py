"""What a pipeline keeps beside its Examples of pairs that are no interactions: dislikes, and what was taken."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tf_hqgnn.data.items import rows_of
from tf_hqgnn.data.pairs import distinct_pairs
from tf_hqgnn.data.parquet_file import read_parquet_table
from tf_hqgnn.data.split_dataset import SplitDataset
from tf_hqgnn.types import Interactions

_SETS = ("disliked", "taken")


def write_known_pairs(dataset: SplitDataset, directory: Path) -> None:
    """Writes `disliked.parquet` and `taken.parquet` of ids, each only if the dataset has such pairs."""
    directory.mkdir(parents=True, exist_ok=True)
    for name in _SETS:
        pairs: Interactions | None = getattr(dataset, name)
        if pairs is not None:
            users, items = dataset.user_ids[pairs.user_index], dataset.item_ids[pairs.item_index]
            table = pa.table({"user_id": pa.array(users, pa.string()), "item_id": pa.array(items, pa.string())})
            pq.write_table(table, directory / f"{name}.parquet")


def add_known_pairs(dataset: SplitDataset, directory: Path) -> SplitDataset:
    """Returns a dataset of interactions alone with what `write_known_pairs` wrote, and those users who only dislike."""
    tables = {
        name: read_parquet_table(directory / f"{name}.parquet")
        for name in _SETS
        if (directory / f"{name}.parquet").is_file()
    }
    if not tables:
        return dataset
    disliking = tables["disliked"]["user_id"].to_pylist() if "disliked" in tables else []
    user_ids = np.array(sorted({*dataset.user_ids, *disliking}), object)
    place = rows_of(user_ids, dataset.user_ids).astype(np.int32)
    train, valid, test = (
        replace(part, user_index=place[part.user_index]) for part in (dataset.train, dataset.valid, dataset.test)
    )
    sets: dict[str, Interactions] = {}
    for name, table in tables.items():
        users, items = (
            rows_of(ids, np.array(table[column].to_pylist(), object))
            for ids, column in ((user_ids, "user_id"), (dataset.item_ids, "item_id"))
        )
        known = (users >= 0) & (items >= 0)
        sets[name] = distinct_pairs(users[known], items[known])
    return replace(
        dataset,
        user_ids=user_ids,
        train=train,
        valid=valid,
        test=test,
        disliked=sets.get("disliked"),
        taken=sets.get("taken"),
    )
