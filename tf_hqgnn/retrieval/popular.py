"""Popularity fallback for unknown users."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from tf_hqgnn.retrieval.filters import Blocked
from tf_hqgnn.retrieval.item_filter import ANY, ItemFilter
from tf_hqgnn.retrieval.sizes import size_of
from tf_hqgnn.retrieval.top_k import best
from tf_hqgnn.retrieval.variables import gather
from tf_hqgnn.types import FloatArray


class PopularItems(tf.Module):
    """Items in the order of their popularity, ties by the lower item row; for each category, too.

    A category of few items would be found only far down in the order of all, so each has its own. What a query takes
    is thus in proportion to the answers it asks for and the items that are blocked for it, not to the catalogue.

    Args:
      popularity: float32 [N], how many users each item has.
      items: which items may come back, and their categories.

    Example:
      >>> from tf_hqgnn.retrieval.filters import block_listed
      >>> popular = PopularItems(np.array([5.0, 9.0, 5.0], np.float32), ItemFilter(3))
      >>> scores, item_index = popular.call(tf.constant(2), block_listed(tf.constant([[1, -1]], tf.int64), 3))
      >>> scores.numpy().tolist(), item_index.numpy().tolist()
      ([[5.0, 5.0]], [[0, 2]])
    """

    def __init__(self, popularity: FloatArray, items: ItemFilter) -> None:
        super().__init__(name="popular")
        popularity = np.asarray(popularity, np.float32)
        order = np.argsort(-popularity, kind="stable").astype(np.int32)
        order = order[items.available[order]]
        self.order = tf.Variable(order, trainable=False, name="order")
        # In the order of the items, of whom some are asked for by name; what isn't available may return one day.
        self.by_item = tf.Variable(popularity, trainable=False, name="by_item")
        # What nobody has taken counts as the rarest that somebody has: its share has a logarithm, too.
        available = popularity[items.available]
        self._least = float(min(available[available > 0], default=1.0))
        shares = np.maximum(available, self._least).astype(np.float64)
        self._log_total = float(np.log(shares.sum())) if len(shares) else 0.0
        # Where the items of each category stand in `order`; one of several is in several lists, one of none in none.
        sets = items.members.numpy()[items.codes.numpy()[order]]
        place, column = np.nonzero(sets < items.num_categories)
        numbers = sets[place, column]
        places = place[np.argsort(numbers, kind="stable")].astype(np.int32)
        lengths = np.bincount(numbers, minlength=items.num_categories + 1)
        # The last list is for categories that there aren't; the closing place is what is looked at beyond a list.
        self.places = tf.Variable(np.append(places, np.int32(0)), trainable=False, name="places")
        self.starts = tf.Variable(np.cumsum(lengths) - lengths, trainable=False, name="starts")
        self.lengths = tf.Variable(lengths, trainable=False, name="lengths")

    def call(self, k: tf.Tensor, blocked: Blocked, asked: tf.Tensor | None = None) -> tuple[tf.Tensor, tf.Tensor]:
        """`(scores, item_index)` as of `TopK`, for each of the B queries of `blocked`; the score is the popularity.

        Args:
          k: int32 scalar >= 0.
          blocked: what must not come back, and the category that each query wants: one at most, and none unwanted.
          asked: bool [B], which queries are answered: the others get no item, and take nothing. None for all.
        """
        if asked is None:
            return self._best(k, blocked)
        scores, item_index = self._best(k, blocked.at(tf.cast(tf.where(asked)[:, 0], tf.int32)))
        # The others share a row without items, below the answers.
        nothing = size_of(scores, 0)
        place = tf.where(asked, tf.cumsum(tf.cast(asked, tf.int32)) - 1, nothing)
        scores = tf.concat([scores, tf.fill([1, size_of(scores, 1)], -np.inf)], axis=0)
        item_index = tf.concat([item_index, tf.zeros([1, size_of(scores, 1)], tf.int32)], axis=0)
        return tf.gather(scores, place), tf.gather(item_index, place)

    def _best(self, k: tf.Tensor, blocked: Blocked) -> tuple[tf.Tensor, tf.Tensor]:
        num_items = tf.size(self.order, tf.int64)
        wanted = tf.fill(tf.shape(blocked.counts), ANY)
        if blocked.wanted is not None:
            wanted = tf.reduce_max(tf.concat([wanted[:, tf.newaxis], blocked.wanted], axis=1), axis=1)
        is_any = tf.equal(wanted, ANY)
        number = tf.clip_by_value(wanted, 0, self.lengths.shape[0] - 1)
        length = tf.where(is_any, num_items, gather(self.lengths, number))
        longest = tf.reduce_max(tf.concat([[tf.constant(0, tf.int64)], length], axis=0))
        column = tf.range(tf.minimum(tf.cast(k, tf.int64) + blocked.deepest, longest))
        there = column < length[:, tf.newaxis]
        is_listed = there & ~is_any[:, tf.newaxis]
        listed = tf.where(is_listed, gather(self.starts, number)[:, tf.newaxis] + column, self.places.shape[0] - 1)
        place = tf.where(is_any[:, tf.newaxis], tf.cast(column, tf.int32), gather(self.places, listed))
        item_index = gather(self.order, place)
        allowed = there & ~blocked.contains_pairs(item_index)
        return best(tf.where(allowed, self.scores(item_index), -np.inf), item_index, k)

    def scores(self, item_index: tf.Tensor) -> tf.Tensor:
        """The popularity of items (rows of any shape, in range), float32 of the same shape."""
        return gather(self.by_item, item_index)

    def log_shares(self, item_index: tf.Tensor | None = None) -> tf.Tensor:
        """The logarithm of the share that items have of the popularity of all that are available.

        An item that nobody has taken counts as the rarest that somebody has.

        Args:
          item_index: rows of any shape, in range; None for all items.

        Returns:
          float32 of that shape, or [N].
        """
        popularity = self.by_item.read_value() if item_index is None else self.scores(item_index)
        return tf.math.log(tf.maximum(popularity, self._least)) - self._log_total
