"""The parts of a test split that a mean over all users hides: cold users, cold items, items by popularity."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from tf_hqgnn.graph.csr import CSR, keep_entries, rows_of_entries
from tf_hqgnn.types import BoolArray, Float64Array, IntArray

_COLD_SHARE = 0.25
_MAX_BUCKETS = 10
# A bucket of fewer items has too few test interactions to tell anything.
_ITEMS_PER_BUCKET = 20


@dataclass(frozen=True)
class Slice:
    """Some of the users, judged by some of the items.

    Args:
      name: in words, as a report shows it.
      users: bool [B], whose rankings count.
      items: bool [I], which relevant items count; a ranking is over the whole catalogue all the same.
    """

    name: str
    users: BoolArray
    items: BoolArray


def make_slices(user_degree: IntArray, item_degree: IntArray) -> Iterator[Slice]:
    """Cold users and items, the catalogue in up to ten equal buckets by popularity, and users and items that are new.

    A user is cold with at most as many training interactions as the quarter of users that has the fewest, an item
    likewise among the items. Where a count is shared by many, a slice is larger than a quarter. A user or an item is
    new without any training interaction: all that a model can know of it is its features. The least popular bucket
    comes first; there are slices of new ones where there are some.

    Args:
      user_degree: int [B], training interactions of the users of the test split.
      item_degree: int [I], of every item.

    Example:
      >>> for one in make_slices(np.array([1, 2, 3, 4]), np.arange(40)):
      ...     print(one.name, one.users.sum(), one.items.sum())
      cold users (at most 1 interactions) 1 40
      cold items (at most 9 interactions) 4 10
      popularity bucket 1 of 2 (0 to 19 interactions) 4 20
      popularity bucket 2 of 2 (20 to 39 interactions) 4 20
      new items (no interactions) 4 1
    """
    every_user, every_item = np.ones(len(user_degree), bool), np.ones(len(item_degree), bool)
    if not len(user_degree) or not len(item_degree):
        return
    limit = int(np.quantile(user_degree, _COLD_SHARE, method="lower"))
    yield Slice(f"cold users (at most {limit} interactions)", user_degree <= limit, every_item)
    limit = int(np.quantile(item_degree, _COLD_SHARE, method="lower"))
    yield Slice(f"cold items (at most {limit} interactions)", every_user, item_degree <= limit)
    number = min(_MAX_BUCKETS, len(item_degree) // _ITEMS_PER_BUCKET)
    number = number if number > 1 else 0
    for place, rows in enumerate(np.array_split(np.argsort(item_degree, kind="stable"), number) if number else (), 1):
        bucket = np.zeros(len(item_degree), bool)
        bucket[rows] = True
        low, high = item_degree[rows[0]], item_degree[rows[-1]]
        yield Slice(f"popularity bucket {place} of {number} ({low} to {high} interactions)", every_user, bucket)
    if not user_degree.all():
        yield Slice("new users (no interactions)", user_degree == 0, every_item)
    if not item_degree.all():
        yield Slice("new items (no interactions)", every_user, item_degree == 0)


def slice_relevant(relevant: CSR, part: Slice) -> CSR:
    """The relevant items of a slice: CSR over the same users, with those that don't count left out."""
    user = rows_of_entries(relevant)
    return keep_entries(relevant, part.users[user] & part.items[relevant[1]])


def slice_overlap(exact: IntArray, approximate: IntArray, part: Slice, k: int) -> Float64Array:
    """Of every user, the share of its k first exact items in the slice that are among the k first approximate ones.

    Args:
      exact: int32 [B, >= k], -1 where there is nothing.
      approximate: the same.
      part: the slice.
      k: how many first items count.

    Returns:
      float64 [B], NaN for a user that isn't in the slice, or has no exact item in it.

    Example:
      >>> part = Slice("odd items", np.array([True, False]), np.array([False, True, False, True]))
      >>> slice_overlap(np.array([[1, 2, 3], [1, 3, 0]]), np.array([[3, 2, 0], [1, 3, 0]]), part, 3).tolist()
      [0.5, nan]
    """
    best = exact[:, :k]
    counts = (best >= 0) & part.items[best] & part.users[:, np.newaxis]
    found = np.zeros(best.shape, bool)
    for column in approximate[:, :k].T:
        found |= best == column[:, np.newaxis]
    number = counts.sum(axis=1)
    share: Float64Array = (counts & found).sum(axis=1) / np.where(number, number, np.nan)
    return share
