"""A dataset without some of its users."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tf_hqgnn.data.split_dataset import SplitDataset
from tf_hqgnn.types import BoolArray, Interactions


def without_users(dataset: SplitDataset, kept: BoolArray) -> SplitDataset:
    """Removes the ids, the interactions and the features of users; items stay, also those that nobody else took.

    Args:
      dataset: ids and splits.
      kept: bool [U], False for the users to remove.

    Example:
      >>> ids = np.array(["a", "b"], object)
      >>> pairs = Interactions(np.array([0, 1], np.int32), np.array([1, 0], np.int32))
      >>> rest = without_users(SplitDataset(ids, ids, pairs, pairs, pairs), np.array([False, True]))
      >>> rest.user_ids.tolist(), rest.train.user_index.tolist(), rest.train.item_index.tolist()
      (['b'], [0], [0])
    """
    row = (np.cumsum(kept) - 1).astype(np.int32)

    def rest(pairs: Interactions) -> Interactions:
        found = pairs.take(kept[pairs.user_index])
        return replace(found, user_index=row[found.user_index])

    gone = dataset.user_ids[~kept]
    # Sentences about ids give one as an example.
    odd_ids = tuple(line for line in dataset.report.odd_ids if not any(user in line for user in gone))
    return replace(
        dataset,
        user_ids=dataset.user_ids[kept],
        train=rest(dataset.train),
        valid=rest(dataset.valid),
        test=rest(dataset.test),
        disliked=None if dataset.disliked is None else rest(dataset.disliked),
        taken=None if dataset.taken is None else rest(dataset.taken),
        user_features=None if dataset.user_features is None else dataset.user_features.take(kept),
        report=replace(dataset.report, odd_ids=odd_ids),
    )
