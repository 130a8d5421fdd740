"""A dataset with more users and items than its interactions have."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tf_hqgnn.data.feature_table import FeatureTable
from tf_hqgnn.data.items import rows_of
from tf_hqgnn.data.split_dataset import SplitDataset
from tf_hqgnn.types import Array, InputError, Interactions, ObjectArray


def grow(dataset: SplitDataset, user_ids: ObjectArray, item_ids: ObjectArray) -> SplitDataset:
    """Returns the dataset with the ids of both; nothing is known of the new ones, and new items are available.

    Args:
      dataset: ids and splits.
      user_ids: object [m] of str, any users.
      item_ids: object [n] of str, any items.

    Example:
      >>> one = Interactions(np.array([0], np.int32), np.array([0], np.int32))
      >>> ids = np.array(["b"], object)
      >>> grown = grow(SplitDataset(ids, ids, one, one, one), ids, np.array(["a", "c"], object))
      >>> grown.item_ids.tolist(), grown.train.item_index.tolist()
      (['a', 'b', 'c'], [1])
    """
    users = np.array(sorted({*dataset.user_ids, *user_ids}), object)
    items = np.array(sorted({*dataset.item_ids, *item_ids}), object)
    user_row, item_row = rows_of(users, dataset.user_ids), rows_of(items, dataset.item_ids)
    place = rows_of(dataset.item_ids, items)

    def moved(part: Interactions) -> Interactions:
        rows = user_row[part.user_index].astype(np.int32), item_row[part.item_index].astype(np.int32)
        return replace(part, user_index=rows[0], item_index=rows[1])

    def column(values: Array | None, empty: str | bool) -> Array | None:
        return None if values is None else np.append(values, empty)[place].astype(values.dtype)

    return replace(
        dataset,
        user_ids=users,
        item_ids=items,
        train=moved(dataset.train),
        valid=moved(dataset.valid),
        test=moved(dataset.test),
        disliked=None if dataset.disliked is None else moved(dataset.disliked),
        taken=None if dataset.taken is None else moved(dataset.taken),
        titles=column(dataset.titles, ""),
        categories=column(dataset.categories, ""),
        available=column(dataset.available, True),
        user_features=None if dataset.user_features is None else dataset.user_features.align(users),
        item_features=None if dataset.item_features is None else dataset.item_features.align(items),
    )


def with_features(
    dataset: SplitDataset, users: FeatureTable | None = None, items: FeatureTable | None = None
) -> SplitDataset:
    """Returns the dataset with features, and with the users and items of which nothing else is known.

    Args:
      dataset: ids and splits.
      users: features of users; what the dataset knows already fills their gaps. None for no more than that.
      items: features of items; None for none.

    Raises:
      InputError: No user, or no item, of the first features is among those of the interactions.
    """
    joined: dict[str, FeatureTable | None] = {}
    for holds, mine, ids, before in (
        ("user", users, dataset.user_ids, dataset.user_features),
        ("item", items, dataset.item_ids, dataset.item_features),
    ):
        if mine is not None:
            mine = mine.take(mine.known())
            if before is None and not set(mine.ids).intersection(ids):
                raise InputError(
                    f"{holds}s: none of the {len(mine.ids):,} {holds}s with features is among the {len(ids):,} of the "
                    f"interactions (such as {ids[0]!r}); expected the same {holds}_id in both"
                )
        joined[holds] = before if mine is None else mine if before is None else mine.over(before)
    nobody = np.zeros(0, object)
    found = [nobody if table is None else table.ids for table in joined.values()]
    grown = grow(dataset, *found)
    aligned = [
        None if table is None else table.align(ids)
        for table, ids in zip(joined.values(), (grown.user_ids, grown.item_ids))
    ]
    return replace(grown, user_features=aligned[0], item_features=aligned[1])
