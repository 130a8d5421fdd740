"""Distinct (user, item) pairs in one order, whatever the order of the rows that they come from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tf_hqgnn.data.anomalies import FileProfile, id_kinds
from tf_hqgnn.data.chunks import ID_COLUMNS, Chunk
from tf_hqgnn.data.ids import odd_ids
from tf_hqgnn.data.report import BadRows, ReadReport
from tf_hqgnn.data.sorting import stable_argsort
from tf_hqgnn.types import (
    BoolArray,
    Float32Array,
    Float64Array,
    FloatArray,
    InputError,
    Int32Array,
    Int64Array,
    IntArray,
    Interactions,
    ObjectArray,
)


@dataclass(frozen=True)
class InteractionTable:
    """Distinct (user, item) pairs, sorted by user, then item.

    Args:
      user_ids: object [U] of str, sorted by code point; each has at least one interaction.
      item_ids: object [I] of str, likewise.
      interactions: the pairs as rows into these, with the timestamp where the log has one.
      rating: float32 [n], or None.
      weight: float32 [n], or None.
      report: what became of every row read.
    """

    user_ids: ObjectArray
    item_ids: ObjectArray
    interactions: Interactions
    rating: Float32Array | None
    weight: Float32Array | None
    report: ReadReport

    def __len__(self) -> int:
        return len(self.interactions)

    def filter(self, mask: BoolArray) -> InteractionTable:
        """The table with the pairs where `mask` (bool [n]) is true; users and items without any are left out."""
        users, user_index = _compact(self.interactions.user_index[mask], len(self.user_ids))
        items, item_index = _compact(self.interactions.item_index[mask], len(self.item_ids))
        removed = len(self) - len(user_index)
        report = replace(self.report, kept=self.report.kept - removed, filtered=self.report.filtered + removed)
        timestamp = self.interactions.timestamp
        return InteractionTable(
            self.user_ids[users],
            self.item_ids[items],
            Interactions(user_index, item_index, None if timestamp is None else timestamp[mask]),
            None if self.rating is None else self.rating[mask],
            None if self.weight is None else self.weight[mask],
            report,
        )


def combine(
    chunks: list[Chunk],
    files: Sequence[FileProfile],
    bad: Mapping[str, BadRows],
    name: str,
    min_rating: float | None,
) -> InteractionTable:
    """One table of distinct pairs from the good rows of a log.

    Args:
      chunks: the rows, at least one; the list is emptied.
      files: what the files look like that they are from.
      bad: the rows that could not be used, by kind.
      name: of the log, for messages.
      min_rating: the lowest rating that counts as an interaction.

    Raises:
      InputError: There is no column rating, which `min_rating` needs, or no rating reaches it.
    """
    with ThreadPoolExecutor(len(ID_COLUMNS)) as threads:
        columns = ([getattr(chunk, name) for chunk in chunks] for name in ID_COLUMNS)
        (user_ids, user_index), (item_ids, item_index) = threads.map(_encode, columns)
    timestamp, rating, weight = (_column(chunks, name) for name in ("timestamp", "rating", "weight"))
    # Else every row would be in memory twice.
    chunks.clear()
    rows_read = len(user_index)
    ratings = None
    if min_rating is None and rating is not None:
        ratings = float(rating.min()), float(rating.max())
    if min_rating is not None:
        if rating is None:
            raise InputError(f"{name}: min_rating={min_rating} needs a column rating, which it doesn't have")
        mask = rating >= min_rating
        if not mask.any():
            raise InputError(f"{name}: no rating reaches min_rating={min_rating}, the highest is {rating.max():g}")
        users, user_index = _compact(user_index[mask], len(user_ids))
        items, item_index = _compact(item_index[mask], len(item_ids))
        user_ids, item_ids = user_ids[users], item_ids[items]
        timestamp, rating, weight = (None if x is None else x[mask] for x in (timestamp, rating, weight))
    filtered = rows_read - len(user_index)
    rows = _distinct(user_index, item_index, timestamp, rating, weight)
    num_bad = sum(count.count for count in bad.values())
    repeated = rows_read - filtered - len(rows)
    odd = odd_ids("user_id", user_ids) + odd_ids("item_id", item_ids)
    report = ReadReport(rows_read + num_bad, len(rows), repeated, filtered, bad, tuple(files), ratings, odd)
    return InteractionTable(
        user_ids,
        item_ids,
        Interactions(user_index[rows], item_index[rows], None if timestamp is None else timestamp[rows]),
        None if rating is None else rating[rows].astype(np.float32),
        None if weight is None else weight[rows].astype(np.float32),
        report,
    )


def kinds_of_ids(chunks: list[Chunk]) -> dict[str, dict[str, float]]:
    """`id_kinds` of both columns."""
    kinds = {}
    for name in ID_COLUMNS:
        # A log may begin and end with different things; what is between costs more than it tells.
        ends = [getattr(chunk, name).dictionary for chunk in (chunks[0], chunks[-1])]
        kinds[name] = id_kinds(pc.unique(pa.concat_arrays(ends)))
    return kinds


def _encode(arrays: list[pa.DictionaryArray]) -> tuple[ObjectArray, Int32Array]:
    """The sorted distinct strings (object [m]) and each row's position among them (int32 [n])."""
    unified = pa.chunked_array(arrays).unify_dictionaries()
    values = unified.chunk(0).dictionary
    # Arrow compares UTF-8 bytes, whose order is that of the code points.
    order = pc.array_sort_indices(values)
    rank = np.empty(len(values), np.int32)
    rank[order.to_numpy()] = np.arange(len(values), dtype=np.int32)
    codes = np.concatenate([chunk.indices.to_numpy() for chunk in unified.chunks])
    return values.take(order).to_numpy(zero_copy_only=False), rank[codes]


def _column(chunks: list[Chunk], name: str) -> Float64Array | None:
    """One column of numbers over all chunks, or None where the file has none."""
    parts = [getattr(chunk, name) for chunk in chunks]
    return None if parts[0] is None else np.concatenate(parts)


def _compact(index: IntArray, size: int) -> tuple[IntArray, Int32Array]:
    """The rows below `size` that occur in `index`, and `index` as int32 positions among them."""
    used = np.bincount(index, minlength=size) > 0
    position = np.cumsum(used) - 1
    return np.flatnonzero(used), position[index].astype(np.int32)


def _distinct(
    user_index: Int32Array,
    item_index: Int32Array,
    timestamp: Float64Array | None,
    rating: FloatArray | None,
    weight: FloatArray | None,
) -> IntArray:
    """The rows that hold the preferred occurrence of each pair, by user, then item."""
    by_item = stable_argsort(item_index)
    order = by_item[stable_argsort(user_index[by_item])]
    del by_item
    users, items = user_index[order], item_index[order]
    same = (users[1:] == users[:-1]) & (items[1:] == items[:-1])
    if not same.any():
        return order
    # Only rows of repeated pairs need the sort by every column.
    repeated = np.zeros(len(order), bool)
    repeated[1:] |= same
    repeated[:-1] |= same
    rows = order[repeated]
    preferences = [
        column[rows] * sign for column, sign in ((weight, -1), (rating, -1), (timestamp, 1)) if column is not None
    ]
    order[repeated] = rows[np.lexsort((*preferences, items[repeated], users[repeated]))]
    first: Int64Array = order[np.concatenate([[True], ~same])]
    return first
