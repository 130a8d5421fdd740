"""Metrics of rankings, in NumPy: of given recommendations, and summed over some of the users."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from tf_hqgnn.graph.csr import CSR, check_csr, coordinates
from tf_hqgnn.types import Array, BoolArray, Float64Array, IntArray

# Users whose metrics are worked out at once: bounds the temporary arrays of ranking_metrics.
METRIC_ROWS = 1 << 16


@dataclass(frozen=True)
class RankingMetrics:
    """Ranking metrics, averaged over users.

    Args:
      values: By name and k, such as "ndcg@20": recall, ndcg, mrr, hit, precision (means over users, in [0, 1]),
        coverage (share of the catalogue that is recommended to anyone) and popularity (its mean over what is
        recommended).
      num_users: With at least one target: those that the means are over.
      num_skipped: Without a target, left out.
    """

    values: dict[str, float]
    num_users: int
    num_skipped: int


def ranking_metrics(
    top_items: IntArray,
    relevant: CSR,
    ks: Sequence[int],
    num_items: int,
    item_popularity: Array,
) -> RankingMetrics:
    """Compute ranking metrics of given recommendations.

    With rel(u) the distinct relevant items of a user, hit_j = 1 if the item at rank j is one of them, and sums over
    j = 1..k: recall = sum hit_j / |rel|, precision = sum hit_j / k, hit = min(1, sum hit_j), mrr = 1 / (lowest j with
    hit_j), ndcg = sum hit_j / log2(j + 1) divided by its maximum, sum_(j <= min(|rel|, k)) 1 / log2(j + 1).
    A missing item (-1) is no hit and counts for neither coverage nor popularity.

    Args:
      top_items: int [B, K], best first, -1 where there is none, no item twice in a row.
      relevant: `(indptr, indices)` over those B users; an item named twice counts once.
      ks: Cut-offs, each >= 1; one beyond K is as if the rows went on with -1.
      num_items: Size of the catalogue.
      item_popularity: [num_items], such as the number of training interactions.

    Returns:
      The means over the users with a relevant item; the others are counted in `num_skipped`.

    Raises:
      ValueError: The arrays don't fit each other, or no user has a relevant item.

    Reference:
      As RecBole 1.2 and LightGCN's released code compute them (binary relevance).

    Example:
      >>> top, relevant = np.array([[0, 1], [2, -1]]), (np.array([0, 1, 3]), np.array([1, 0, 2]))
      >>> values = ranking_metrics(top, relevant, [2], num_items=4, item_popularity=np.ones(4)).values
      >>> values["recall@2"], values["mrr@2"], values["coverage@2"]
      (0.75, 0.75, 0.75)
    """
    top_items, popularity = np.asarray(top_items), np.asarray(item_popularity, np.float64)
    ks = check_cutoffs(ks)
    if top_items.ndim != 2:
        raise ValueError(f"top_items must have shape [users, K], got {top_items.shape}")
    if top_items.size and (top_items.min() < -1 or top_items.max() >= num_items):
        raise ValueError(
            f"top_items must be item rows in [0, {num_items}) or -1, got values from {top_items.min()} to "
            f"{top_items.max()}"
        )
    if popularity.shape != (num_items,):
        raise ValueError(f"item_popularity must have shape [{num_items}], got {popularity.shape}")
    check_csr(relevant, len(top_items), num_items, "relevant")
    evaluated = np.flatnonzero(np.diff(relevant[0]) > 0)
    if not len(evaluated):
        raise ValueError(f"none of the {len(top_items)} users has a relevant item: there is nothing to evaluate")
    top_items = top_items[:, : ks[-1]]
    totals = {f"{name}@{k}": 0.0 for k in ks for name in ("recall", "ndcg", "mrr", "hit", "precision")}
    first_rank = np.full(num_items, ks[-1], np.int64)  # the best rank at which an item is recommended to anyone
    recommended, popular = np.zeros(ks[-1]), np.zeros(ks[-1])  # by rank: how many items, and their popularity
    for start in range(0, len(evaluated), METRIC_ROWS):
        rows = evaluated[start : start + METRIC_ROWS]
        items = top_items[rows]
        for name, value in _sums(*_relevance(items, relevant, rows, num_items), ks):
            totals[name] += value
        for column, column_items in enumerate(items.T):
            present = column_items[column_items >= 0]
            np.minimum.at(first_rank, present, column)
            recommended[column] += len(present)
            popular[column] += popularity[present].sum()
    values = {name: total / len(evaluated) for name, total in totals.items()}
    for k in ks:
        values[f"coverage@{k}"] = float(np.count_nonzero(first_rank < k) / num_items)
        values[f"popularity@{k}"] = float(popular[:k].sum() / max(recommended[:k].sum(), 1))
    return RankingMetrics(values, len(evaluated), len(top_items) - len(evaluated))


def user_sums(top: IntArray, relevant: CSR, ks: Sequence[int], num_items: int) -> dict[str, float]:
    """The metrics that are means over users, summed over some users, each with a relevant item.

    Args:
      top: int [B, K], rows of items, best first, -1 for none.
      relevant: CSR over the users.
      ks: cut-offs, ascending.
      num_items: I.

    Example:
      >>> user_sums(np.array([[3, 1], [0, 2]]), (np.array([0, 1, 2]), np.array([1, 0])), [2], 4)["recall@2"]
      2.0
    """
    sums: dict[str, float] = {}
    for start in range(0, len(top), METRIC_ROWS):
        rows = np.arange(start, min(start + METRIC_ROWS, len(top)))
        for name, value in _sums(*_relevance(top[rows], relevant, rows, num_items), ks):
            sums[name] = sums.get(name, 0.0) + value
    return sums


def _relevance(items: IntArray, relevant: CSR, rows: IntArray, num_items: int) -> tuple[BoolArray, IntArray]:
    """Bool like `items`, whether each is relevant to its user; int64 [B], the distinct relevant items of each."""
    pairs = coordinates(relevant, rows, np.int64)
    user, item = np.divmod(np.unique(pairs[:, 0] * num_items + pairs[:, 1]), max(num_items, 1))
    hits = np.zeros(items.shape, bool)
    for column, recommended in enumerate(items.T):
        hits[user[recommended[user] == item], column] = True
    return hits, np.bincount(user, minlength=len(rows))


def _sums(hits: BoolArray, num_relevant: IntArray, ks: Sequence[int]) -> Iterator[tuple[str, float]]:
    """Each metric that is a mean over users, summed over these."""
    found = hits.any(axis=1)
    first = np.where(found, hits.argmax(axis=1) + 1, ks[-1] + 1) if hits.shape[1] else np.full(len(hits), ks[-1] + 1)
    for k in ks:
        cut = hits[:, :k]
        num_hits = cut.sum(axis=1)
        yield f"recall@{k}", float((num_hits / num_relevant).sum())
        yield f"precision@{k}", float(num_hits.sum() / k)
        yield f"hit@{k}", float((num_hits > 0).sum())
        yield f"mrr@{k}", float((1 / first[first <= k]).sum())
        yield f"ndcg@{k}", float(_ndcg(cut, num_relevant, k).sum())


def _ndcg(hits: BoolArray, num_relevant: IntArray, k: int) -> Float64Array:
    """NDCG@k of every user, float64 [B], from `hits` bool [B, at most k]; each has a relevant item."""
    discount = 1 / np.log2(np.arange(2, k + 2))
    ndcg: Float64Array = hits @ discount[: hits.shape[1]] / np.cumsum(discount)[np.minimum(num_relevant, k) - 1]
    return ndcg


@dataclass(frozen=True)
class UserMetrics:
    """Of every user, NaN where it has no relevant item.

    Args:
      ndcg: float64 [B].
      recall: float64 [B].
    """

    ndcg: Float64Array
    recall: Float64Array


def user_metrics(top: IntArray, relevant: CSR, k: int, num_items: int) -> UserMetrics:
    """NDCG@k and Recall@k of every user, whose means are those of `ranking_metrics`.

    Args:
      top: int32 [B, >= k], rows of items, best first, -1 for none.
      relevant: CSR over the users.
      k: cut-off.
      num_items: I.

    Example:
      >>> found = user_metrics(np.array([[3, 1], [0, -1]]), (np.array([0, 1, 1]), np.array([1])), 2, 4)
      >>> found.ndcg.round(4).tolist(), found.recall.tolist()
      ([0.6309, nan], [1.0, nan])
    """
    hits, num_relevant = _relevance(top[:, :k], relevant, np.arange(len(top)), num_items)
    ndcg, recall = np.full(len(top), np.nan), np.full(len(top), np.nan)
    has = num_relevant > 0
    ndcg[has] = _ndcg(hits[has], num_relevant[has], k)
    recall[has] = hits[has].sum(axis=1) / num_relevant[has]
    return UserMetrics(ndcg, recall)


def check_cutoffs(ks: Sequence[int]) -> tuple[int, ...]:
    """Cut-offs in ascending order, each once; raises ValueError if there is none, or one below 1."""
    ordered = tuple(sorted({int(k) for k in ks}))
    if not ordered or ordered[0] < 1:
        raise ValueError(f"ks must hold at least one cut-off, each 1 or more, got {list(ks)}")
    return ordered
