"""Which (query, item) pairs must not come back: items a user has seen, items excluded by the request, items of another
category than the one asked for, and items that aren't available.

A blocked pair is one int64 key, `query * num_items + item`, with `query` a row of the batch. Such a key is at once
the position of the pair in a flattened [B, N] score matrix (the exact index scatters -inf there) and something that a
binary search finds (an approximate index looks its few candidates up), and no [B, N] mask is ever made. Keys are made
when they are needed, for the queries that are then worked on: a batch of users with long histories has many.
Category and availability are those of `ItemFilter`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import tensorflow as tf

from tf_hqgnn.retrieval.item_filter import ANY, ItemFilter
from tf_hqgnn.retrieval.sizes import size_of
from tf_hqgnn.retrieval.variables import gather
from tf_hqgnn.types import IntArray


class Pairs(Protocol):
    """Pairs of a batch of B queries and items."""

    def at(self, queries: tf.Tensor) -> Pairs:
        """Those of the queries at int32 [Q], rows of the batch, as a batch of their own."""

    def keys(self) -> tf.Tensor:
        """One for each pair, int64, ascending; a pair may be there more than once."""


@dataclass(frozen=True, eq=False)
class Blocked:
    """Blocked pairs of a batch of B queries over N items.

    Args:
      pairs: a pair is blocked if it is in any of them.
      counts: int64 [B], at least as many as a query's blocked items: how much deeper to search for it.
      num_items: N.
      items: which of the items may come back to all queries, and their categories; None if all may.
      wanted: int32 [B, C], the categories each query asks for, as of `ItemFilter.allows`; None for any.
      unwanted: int32 [B, D], those that it doesn't want.
      listed: int32 [B, E], rows of items that are blocked besides `pairs`, -1 for none. Unlike keys, their shapes
        don't depend on their values, so that XLA can compile what is done with them.
    """

    pairs: tuple[Pairs, ...]
    counts: tf.Tensor
    num_items: int
    items: ItemFilter | None = None
    wanted: tf.Tensor | None = None
    unwanted: tf.Tensor | None = None
    listed: tf.Tensor | None = None

    def at(self, queries: tf.Tensor) -> Blocked:
        """What is blocked for the queries at int32 [Q], rows of the batch, as a batch of their own."""
        return replace(
            self,
            pairs=tuple(pairs.at(queries) for pairs in self.pairs),
            counts=tf.gather(self.counts, queries),
            wanted=None if self.wanted is None else tf.gather(self.wanted, queries),
            unwanted=None if self.unwanted is None else tf.gather(self.unwanted, queries),
            listed=None if self.listed is None else tf.gather(self.listed, queries),
        )

    @property
    def deepest(self) -> tf.Tensor:
        """The highest of `counts`, int64 scalar; 0 for an empty batch."""
        return tf.reduce_max(tf.concat([[tf.constant(0, tf.int64)], self.counts], axis=0))

    @property
    def most(self) -> int | None:
        """The most items that can be blocked for a query, where the shapes say so; None where only values do."""
        return self.listed.shape[1] if self.listed is not None and not self.pairs else None

    def within(self, items: ItemFilter, wanted: tf.Tensor | None = None, unwanted: tf.Tensor | None = None) -> Blocked:
        """Blocks what isn't available, too, and what isn't of a category that is wanted, or of one that isn't.

        Args:
          items: which are available, and their categories.
          wanted: int32 [B], or [B, C] for several categories; None for any.
          unwanted: int32 [B, D]; None for none, goes with `wanted`.
        """
        if wanted is not None:
            wanted = wanted[:, tf.newaxis] if wanted.shape.rank == 1 else wanted
            unwanted = tf.zeros([size_of(wanted, 0), 0], tf.int32) if unwanted is None else unwanted
        only = items if items.blocks_some or wanted is not None else None
        return replace(self, items=only, wanted=wanted, unwanted=unwanted)

    def mask_shared(self, scores: tf.Tensor) -> tf.Tensor:
        """`scores` float32 [B, N] with -inf at what isn't available or of another category: the keys left alone."""
        return self.with_allowed(lambda allowed: scores if allowed is None else tf.where(allowed, scores, -np.inf))

    def with_allowed(self, compute: Callable[[tf.Tensor | None], tf.Tensor]) -> tf.Tensor:
        """`compute(allowed)`: bool [B or 1, N], what is available and of the wanted category; None if all is."""
        items = self.items
        if items is None:
            return compute(None)

        def masked() -> tf.Tensor:
            return compute(items.allows(self.wanted, self.unwanted, None))

        if items.blocks_some or self.wanted is None:
            return masked()
        # Most requests ask for no category: no pass over all items for them.
        return tf.cond(self.asks_for_a_category(), masked, lambda: compute(None))

    def asks_for_a_category(self) -> tf.Tensor:
        """Whether any query does, or asks for none of one, bool []."""
        if self.wanted is None or self.unwanted is None:
            return tf.constant(False)
        return tf.reduce_any(self.wanted != ANY) | tf.reduce_any(self.unwanted != ANY)

    def mask_all(self, scores: tf.Tensor) -> tf.Tensor:
        """`scores` float32 [B, N] with -inf at the blocked pairs."""
        flat = tf.reshape(self.mask_shared(scores), [tf.size(scores)])
        for pairs in self.pairs:
            keys = pairs.keys()
            flat = tf.tensor_scatter_nd_update(flat, keys[:, tf.newaxis], tf.fill(tf.shape(keys), -np.inf))
        if self.listed is not None:
            queries = tf.range(size_of(self.listed, 0, tf.int64))[:, tf.newaxis]
            places = queries * self.num_items + tf.cast(tf.maximum(self.listed, 0), tf.int64)
            # A place that stands for no item keeps its score: nothing is above infinity.
            lowered = tf.where(self.listed >= 0, -np.inf, np.inf)
            flat = tf.tensor_scatter_nd_min(flat, tf.reshape(places, [-1, 1]), tf.reshape(lowered, [-1]))
        return tf.reshape(flat, tf.shape(scores))

    def contains(self, items: tf.Tensor) -> tf.Tensor:
        """Which of the candidates `items` (int32 or int64 [B, F], rows of items) are blocked, bool [B, F]."""
        blocked = self.contains_pairs(items)
        return blocked if self.items is None else blocked | ~self.items.allows(self.wanted, self.unwanted, items)

    def contains_pairs(self, items: tf.Tensor) -> tf.Tensor:
        """As `contains`, but for what isn't available or of another category."""
        queries = tf.range(size_of(items, 0, tf.int64))[:, tf.newaxis]
        wanted = tf.reshape(queries * self.num_items + tf.cast(items, tf.int64), [1, tf.size(items)])
        blocked = tf.zeros_like(wanted, tf.bool)
        for pairs in self.pairs:
            # The closing key matches no pair; with it there is always a key to compare with.
            ends = tf.concat([pairs.keys(), [tf.int64.max]], axis=0)
            place = tf.raw_ops.LowerBound(sorted_inputs=ends[tf.newaxis], values=wanted)
            blocked |= tf.equal(tf.gather(ends, place), wanted)
        blocked = tf.reshape(blocked, tf.shape(items))
        if self.listed is not None:
            same = tf.equal(tf.cast(items, tf.int32)[:, :, tf.newaxis], self.listed[:, tf.newaxis])
            blocked |= tf.reduce_any(same, axis=2)
        return blocked


class SeenItems(tf.Module):
    """The items that each user has already interacted with.

    Args:
      indptr: int64 [U + 1]; a variable is held as it is.
      indices: int32 [nnz], ascending within a user; likewise.
      num_items: N.
    """

    def __init__(self, indptr: IntArray | tf.Variable, indices: IntArray | tf.Variable, num_items: int) -> None:
        super().__init__(name="seen")
        self.indptr = _as_variable("indptr", indptr, np.int64)
        self.indices = _as_variable("indices", indices, np.int32)
        self.num_items = num_items

    def blocked(self, user_index: tf.Tensor) -> Blocked:
        """Blocks the seen items of the users `user_index` (int64 [B], -1: unknown, has seen nothing)."""
        return Blocked((_SeenPairs(self, user_index),), self.ranges(user_index)[1], self.num_items)

    def lists(self, user_index: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """The seen items of users (int64 [B], -1: unknown): rows int64 [B, longest], and bool, which of them are there.

        Example:
          >>> seen = SeenItems(np.array([0, 1, 3]), np.array([4, 2, 3]), num_items=5)
          >>> items, there = seen.lists(tf.constant([1, 0, -1], tf.int64))
          >>> tf.where(there, items, -1).numpy().tolist()
          [[2, 3], [4, -1], [-1, -1]]
        """
        start, length = self.ranges(user_index)
        longest = tf.reduce_max(tf.concat([[tf.constant(0, tf.int64)], length], axis=0))
        column = tf.range(longest)
        there = column < length[:, tf.newaxis]
        place = tf.where(there, start[:, tf.newaxis] + column, tf.constant(0, tf.int64))
        return tf.cast(gather(self.indices, place), tf.int64), there

    def ranges(self, user_index: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Where the items of users begin in `indices`, and how many they are, int64 [B]."""
        known = tf.maximum(user_index, 0)
        start = gather(self.indptr, known)
        return start, tf.where(user_index >= 0, gather(self.indptr, known + 1) - start, 0)


def _as_variable(name: str, values: IntArray | tf.Variable, dtype: type) -> tf.Variable:
    if isinstance(values, tf.Variable):
        return values
    return tf.Variable(np.asarray(values, dtype), trainable=False, name=name)


@dataclass(frozen=True, eq=False)
class _SeenPairs:
    """What the users of a batch have seen: int64 [B], -1 for an unknown one."""

    seen: SeenItems
    user_index: tf.Tensor

    def at(self, queries: tf.Tensor) -> _SeenPairs:
        return _SeenPairs(self.seen, tf.gather(self.user_index, queries))

    def keys(self) -> tf.Tensor:
        start, length = self.seen.ranges(self.user_index)
        end = tf.cumsum(length)
        # A ragged gather of operations that all have GPU kernels, which RaggedRange and its like don't.
        position = tf.range(tf.reduce_sum(length))
        row = tf.raw_ops.UpperBound(sorted_inputs=end[tf.newaxis], values=position[tf.newaxis], out_type=tf.int64)[0]
        source = tf.gather(start + length - end, row) + position
        return row * self.seen.num_items + tf.cast(gather(self.seen.indices, source), tf.int64)


@dataclass(frozen=True, eq=False)
class _ListedPairs:
    """Rows of items, int64 [B, E], -1 for none."""

    item_index: tf.Tensor
    num_items: int

    def at(self, queries: tf.Tensor) -> _ListedPairs:
        return _ListedPairs(tf.gather(self.item_index, queries), self.num_items)

    def keys(self) -> tf.Tensor:
        queries = tf.range(size_of(self.item_index, 0, tf.int64))[:, tf.newaxis]
        return tf.sort(tf.gather_nd(queries * self.num_items + self.item_index, tf.where(self.item_index >= 0)))


def block_listed(item_index: tf.Tensor, num_items: int) -> Blocked:
    """Blocks the items named by a request.

    Args:
      item_index: int64 [B, E], rows of items; -1 (padding, an unknown item) blocks nothing; repeats are fine.
      num_items: N.
    """
    counts = tf.reduce_sum(tf.cast(item_index >= 0, tf.int64), axis=1)
    return Blocked((_ListedPairs(item_index, num_items),), counts, num_items)


def block_fixed(item_index: tf.Tensor, num_items: int) -> Blocked:
    """As `block_listed` of int32 [B, E], but of fixed shapes, for programs that XLA compiles.

    Every candidate is compared with every item of its query's list: for lists of up to some hundred items.
    """
    counts = tf.reduce_sum(tf.cast(item_index >= 0, tf.int64), axis=1)
    return Blocked((), counts, num_items, listed=item_index)


def block_any(*parts: Blocked) -> Blocked:
    """Blocks what any of `parts` blocks; they must be of one batch and one catalogue."""
    pairs = tuple(pairs for part in parts for pairs in part.pairs)
    listed = [part.listed for part in parts if part.listed is not None]
    counts = tf.add_n([part.counts for part in parts])
    return Blocked(pairs, counts, parts[0].num_items, listed=tf.concat(listed, axis=1) if listed else None)
