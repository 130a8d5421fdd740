"""A sample of the users with validation targets, what each way of ranking gives them, and by which kinds of user."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tf_hqgnn.evaluation.metrics import ranking_metrics
from tf_hqgnn.evaluation.ranking import rank
from tf_hqgnn.evaluation.stock import in_stock
from tf_hqgnn.graph.csr import CSR, select_rows
from tf_hqgnn.runs.run_directory import RunDirectory
from tf_hqgnn.types import BoolArray, Float32Array, Int32Array, Int64Array, IntArray

K = 20  # the cut-off that training watches
MAX_USERS, MIN_USERS = 5000, 200
# Bounds what one ranking costs: 5,000 users over catalogues of up to 50,000 items, fewer beyond.
MAX_SCORES = 250_000_000


@dataclass(frozen=True)
class Bucket:
    """Some of a sample's users.

    Args:
      lowest: their smallest number of training interactions.
      highest: the largest.
      rows: int [n], places in the sample.
    """

    lowest: int
    highest: int
    rows: IntArray

    def __str__(self) -> str:
        return f"{self.lowest:,}" if self.lowest == self.highest else f"{self.lowest:,}-{self.highest:,}"


@dataclass(frozen=True, eq=False)
class ValidationSample:
    """Users to measure by, drawn by the run's seed.

    Args:
      run: where they are from; its validation split isn't empty.
      users: int64 [n], ascending rows of users with a validation target.
      num_judged: users with a validation target, before sampling.
      targets: `(indptr, indices)` over `users`: what was held out.
    """

    run: RunDirectory
    users: Int64Array
    num_judged: int
    targets: CSR

    @staticmethod
    def draw(run: RunDirectory) -> ValidationSample | None:
        """At most 5,000 users, fewer where the catalogue is beyond 50,000 items; None without a validation split."""
        targets = in_stock(run.dataset.valid, run.dataset.available)
        if not len(targets):
            return None
        indptr, indices = targets.to_csr(run.dataset.num_users)
        judged = np.flatnonzero(np.diff(indptr))
        size = min(MAX_USERS, max(MIN_USERS, MAX_SCORES // run.dataset.num_items))
        users = judged
        if len(judged) > size:
            users = np.sort(np.random.default_rng(run.config.seed).choice(judged, size, replace=False))
        return ValidationSample(run, users, len(judged), select_rows((indptr, indices), users))

    @property
    def described(self) -> str:
        """Who was measured, for a caption."""
        if len(self.users) == self.num_judged:
            return f"all {self.num_judged:,} users of the validation split"
        return f"a sample of {len(self.users):,} of the {self.num_judged:,} users of the validation split"

    def rank(self, users: Float32Array, items: Float32Array) -> Int32Array:
        """int32 [n, K], the best unseen items of each user of the sample; tables of all users and all items."""
        run = self.run
        chunk_size, available = run.config.evaluation.chunk_size, run.dataset.available
        return rank(users, items, self.users, run.graph.masked(), K, chunk_size, available)

    def rank_popular(self) -> Int32Array:
        """int32 [n, K], the most popular unseen items."""
        popularity = self.run.graph.item_strength.astype(np.float32)[:, None]
        return self.rank(np.ones((self.run.dataset.num_users, 1), np.float32), popularity)

    def ndcg(self, top: IntArray, rows: IntArray | None = None) -> float:
        """Mean NDCG@K of a ranking `top` [n, K], over the users at `rows`, or over all."""
        rows = np.arange(len(self.users)) if rows is None else rows
        relevant = select_rows(self.targets, rows)
        popularity = self.run.graph.item_strength
        values = ranking_metrics(top[rows], relevant, [K], len(popularity), popularity).values
        return values[f"ndcg@{K}"]

    def degree_buckets(self, count: int = 5) -> list[Bucket]:
        """The users in `count` parts of about equal size by their training interactions; ties stay together."""
        return degree_buckets(self.run.graph.user_degree[self.users], count)

    def held_out(self, top: IntArray) -> tuple[IntArray, BoolArray]:
        """The item of each held-out pair, int [p], and whether `top` [n, K] has it for its user, bool [p]."""
        owner = np.repeat(np.arange(len(self.users)), np.diff(self.targets[0]))
        num_items = self.run.dataset.num_items
        given = (np.arange(len(top))[:, None] * num_items + top)[top >= 0]
        return self.targets[1], np.isin(owner * num_items + self.targets[1], given)


def degree_buckets(degree: IntArray, count: int) -> list[Bucket]:
    """Places of `degree` (int [n], n >= 1) in up to `count` buckets that end at its quantiles, from few to many.

    >>> [(str(bucket), bucket.rows.tolist()) for bucket in degree_buckets(np.array([5, 1, 2, 1, 9]), 2)]
    [('1-2', [1, 2, 3]), ('5-9', [0, 4])]
    """
    ends = np.unique(np.quantile(degree, np.arange(1, count) / count, method="inverted_cdf"))
    bucket = np.searchsorted(ends, degree, side="left")
    members = [np.flatnonzero(bucket == place) for place in range(len(ends) + 1)]
    return [Bucket(int(degree[rows].min()), int(degree[rows].max()), rows) for rows in members if len(rows)]


def popularity_groups(item_degree: IntArray, count: int = 10) -> IntArray:
    """Int [I], the group of each item, 0 the most popular: `count` groups of about equal size, ties by row.

    >>> popularity_groups(np.array([3, 9, 1, 3]), count=2)
    array([0, 0, 1, 1])
    """
    place = np.empty(len(item_degree), np.int64)
    place[np.argsort(-item_degree.astype(np.int64), kind="stable")] = np.arange(len(item_degree))
    return place * min(count, len(item_degree)) // max(len(item_degree), 1)
