"""Full-catalogue ranking and its metrics: no sampling, seen items masked, memory bounded by a chunk of users."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tf_hqgnn.evaluation.metrics import RankingMetrics, check_cutoffs, ranking_metrics
from tf_hqgnn.evaluation.ranking import rank, rank_by_popularity
from tf_hqgnn.evaluation.stock import in_stock
from tf_hqgnn.graph.csr import CSR, check_rows
from tf_hqgnn.types import Array, BoolArray, Float32Array, IntArray, Interactions


def evaluate_embeddings(
    user_embeddings: Float32Array,
    item_embeddings: Float32Array,
    targets: Interactions,
    seen: CSR,
    item_popularity: Array,
    ks: Sequence[int],
    chunk_size: int = 1024,
    available: BoolArray | None = None,
    unknown: tuple[BoolArray, BoolArray] | None = None,
) -> RankingMetrics:
    """Rank all items by dot product for every user with a target, and compare the ranking with the targets.

    A target that is among the user's seen items can't be recommended, and counts as missed.

    Args:
      user_embeddings: float32 [num_users, d].
      item_embeddings: float32 [num_items, d].
      targets: The held-out interactions.
      seen: `(indptr, indices)` over all users: training items, and those of validation when testing.
      item_popularity: [num_items], the number of training interactions.
      ks: Cut-offs, each >= 1.
      chunk_size: Users scored at once.
      available: bool [num_items]; an item that isn't available is neither recommended nor a target (see stock.py).
      unknown: bool [num_users] and bool [num_items], of whom a model knows nothing. As in what is served, such users
        get the most popular items, and such items aren't recommended; as targets they are missed.

    Returns:
      The metrics; users without a target are counted in `num_skipped`.

    Raises:
      ValueError: The arrays don't fit each other, a score isn't finite, or there is no target that is available.
    """
    num_users, num_items = len(user_embeddings), len(item_embeddings)
    ks = check_cutoffs(ks)
    users, relevant = _users_with_targets(in_stock(targets, available), num_users, num_items)
    if unknown is None:
        top = rank(user_embeddings, item_embeddings, users, seen, ks[-1], chunk_size, available)
    else:
        known = _returnable(available, unknown[1])
        top, strangers = np.empty((len(users), ks[-1]), np.int32), unknown[0][users]
        friends = users[~strangers]
        top[~strangers] = rank(user_embeddings, item_embeddings, friends, seen, ks[-1], chunk_size, known)
        top[strangers] = rank_by_popularity(item_popularity, users[strangers], seen, ks[-1], chunk_size, known)
    metrics = ranking_metrics(top, relevant, ks, num_items, item_popularity)
    return RankingMetrics(metrics.values, metrics.num_users, num_users - metrics.num_users)


def evaluate_popularity(
    targets: Interactions,
    seen: CSR,
    item_popularity: Array,
    ks: Sequence[int],
    chunk_size: int = 1024,
    available: BoolArray | None = None,
    unknown_items: BoolArray | None = None,
) -> RankingMetrics:
    """Compute the metrics of a baseline that recommends the most popular unseen items to everybody.

    Arguments and errors as `evaluate_embeddings`; `unknown_items` is the second part of its `unknown`.
    """
    ks, num_users, num_items = check_cutoffs(ks), len(seen[0]) - 1, len(item_popularity)
    users, relevant = _users_with_targets(in_stock(targets, available), num_users, num_items)
    allowed = available if unknown_items is None else _returnable(available, unknown_items)
    top = rank_by_popularity(item_popularity, users, seen, ks[-1], chunk_size, allowed)
    metrics = ranking_metrics(top, relevant, ks, num_items, item_popularity)
    return RankingMetrics(metrics.values, metrics.num_users, num_users - metrics.num_users)


def _returnable(available: BoolArray | None, unknown_items: BoolArray) -> BoolArray:
    """The items that may be recommended, bool [num_items]: known, and available where that is said."""
    return ~unknown_items if available is None else available & ~unknown_items


def _users_with_targets(targets: Interactions, num_users: int, num_items: int) -> tuple[IntArray, CSR]:
    """The users who have a target, and the targets of each of these."""
    if not len(targets):
        raise ValueError("there are no targets: this part of the split is empty; give it a larger share")
    check_rows(targets.user_index, num_users, "user_index of the targets")
    check_rows(targets.item_index, num_items, "item_index of the targets")
    indptr, indices = targets.to_csr(num_users)
    users = np.flatnonzero(np.diff(indptr))
    # Users without a target have an empty range in `indptr`, so dropping theirs leaves a CSR over `users`.
    return users, (np.append(indptr[users], indptr[-1]), indices)
