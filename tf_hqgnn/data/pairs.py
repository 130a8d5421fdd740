"""Sets of (user, item) pairs, and which of several rows of a pair counts."""

from __future__ import annotations

import numpy as np

from tf_hqgnn.data.sorting import stable_argsort
from tf_hqgnn.types import (
    BoolArray,
    Float64Array,
    FloatArray,
    Int32Array,
    Int64Array,
    IntArray,
    Interactions,
)


def move(pairs: Interactions | None, user_rows: IntArray, item_rows: IntArray) -> Interactions | None:
    """Pairs in the rows of other vocabularies, sorted; those that these don't have are left out.

    Args:
      pairs: of any rows; None stays None.
      user_rows: int [U], the new row of each user, -1 where there is none.
      item_rows: int [I], the same for items.
    """
    if pairs is None:
        return None
    users, items = user_rows[pairs.user_index], item_rows[pairs.item_index]
    kept = (users >= 0) & (items >= 0)
    return distinct_pairs(users[kept], items[kept])


def distinct_pairs(user_index: IntArray, item_index: IntArray) -> Interactions:
    """The distinct pairs, by user, then item, without time and weight."""
    width = int(item_index.max(initial=0)) + 1
    users, items = np.divmod(np.unique(user_index.astype(np.int64) * width + item_index), width)
    return Interactions(users.astype(np.int32), items.astype(np.int32))


def pairs_of_all(*parts: Interactions | None) -> Interactions:
    """The distinct pairs of several parts, at least one of which is there."""
    there = [part for part in parts if part is not None]
    users, items = (np.concatenate([getattr(part, name) for part in there]) for name in ("user_index", "item_index"))
    return distinct_pairs(users, items)


def without(pairs: Interactions, others: Interactions) -> Interactions:
    """The pairs that aren't among the others."""
    width = int(max(pairs.item_index.max(initial=0), others.item_index.max(initial=0))) + 1
    mine, theirs = (one.user_index.astype(np.int64) * width + one.item_index for one in (pairs, others))
    return pairs.take(~np.isin(mine, theirs))


def settle(
    user_index: Int32Array,
    item_index: Int32Array,
    timestamp: Float64Array | None,
    kept: BoolArray,
    disliked: BoolArray,
) -> tuple[BoolArray, Interactions]:
    """Which rows stay interactions, and the disliked pairs: of a pair with both, the last row decides.

    At the same time, or without times, it is disliked.
    """
    keys = user_index.astype(np.int64) * (int(item_index.max()) + 1) + item_index
    pairs, place = np.unique(keys, return_inverse=True)
    time = np.zeros(len(keys)) if timestamp is None else timestamp
    latest = {}
    for which, rows in (("kept", kept), ("disliked", disliked)):
        latest[which] = np.full(len(pairs), -np.inf)
        np.maximum.at(latest[which], place[rows], time[rows])
    is_disliked = np.isfinite(latest["disliked"]) & (latest["disliked"] >= latest["kept"])
    undone = is_disliked[place]
    return kept & ~undone, distinct_pairs(user_index[undone & disliked], item_index[undone & disliked])


def first_rows(
    user_index: Int32Array,
    item_index: Int32Array,
    timestamp: Float64Array | None,
    rating: FloatArray | None,
    weight: Float64Array | None,
    rule: str,
) -> tuple[IntArray, Float64Array | None]:
    """The rows that hold the preferred occurrence of each pair, by user, then item; and the pairs' weights."""
    by_item = stable_argsort(item_index)
    order = by_item[stable_argsort(user_index[by_item])]
    del by_item
    users, items = user_index[order], item_index[order]
    same = (users[1:] == users[:-1]) & (items[1:] == items[:-1])
    if not same.any():
        return order, None if weight is None else weight[order]
    # Only rows of repeated pairs need the sort by every column.
    repeated = np.zeros(len(order), bool)
    repeated[1:] |= same
    repeated[:-1] |= same
    rows = order[repeated]
    keys = {"time": timestamp, "rating": rating, "weight": weight}
    signs = {"time": -1 if rule == "last" else 1, "rating": -1, "weight": -1}
    # The last key counts most.
    places = ("rating", "time", "weight") if rule == "largest" else ("weight", "rating", "time")
    preferences = [signs[key] * values[rows] for key in places if (values := keys[key]) is not None]
    order[repeated] = rows[np.lexsort((*preferences, items[repeated], users[repeated]))]
    starts = np.flatnonzero(np.concatenate([[True], ~same]))
    first: Int64Array = order[starts]
    if rule != "sum":
        return first, None if weight is None else weight[first]
    if weight is None:
        return first, np.diff(np.append(starts, len(order))).astype(np.float64)
    # In the order of the preferences, so that the sum's last bits don't depend on the order of the rows.
    return first, np.add.reduceat(weight[order], starts)
