"""Which items a request may get: those that are available, of the categories that it asks for.

Category and availability are a number an item, which a query's number is compared with.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from tf_hqgnn.features.columns import pieces
from tf_hqgnn.retrieval.ids import IdTable
from tf_hqgnn.retrieval.sizes import size_of
from tf_hqgnn.retrieval.variables import gather
from tf_hqgnn.types import BoolArray, ObjectArray

# The number that stands for every category.
ANY = -1
# The code of an item that isn't available is as far below this one as its own would be above 0: it may return.
_UNAVAILABLE = -1


class ItemFilter(tf.Module):
    """Which items may come back at all, and what categories each is of.

    Args:
      num_items: N.
      available: bool [N], False for items that never come back; None if all may.
      categories: N strings, the categories of an item separated by `|`, "" for an item without one; None if none has
        one.

    Attributes:
      num_categories: C, how many there are; their numbers are those below.

    Example:
      >>> only = ItemFilter(3, categories=["film", "", "book|film"])
      >>> only.wanted(tf.constant(["", "book", "game"])).numpy().tolist()
      [-1, 0, 3]
      >>> only.allows(only.wanted(tf.constant([["film", "book"]])), tf.zeros([1, 0], tf.int32), None).numpy().tolist()
      [[True, False, True]]
    """

    def __init__(
        self,
        num_items: int,
        available: BoolArray | None = None,
        categories: Sequence[str] | ObjectArray | None = None,
    ) -> None:
        super().__init__(name="filter")
        given = [""] * num_items if categories is None else [str(category) for category in categories]
        # Most items share what they are of with others: a code an item, and the categories of each code.
        code_of = {text: code for code, text in enumerate(dict.fromkeys(given))} or {"": 0}
        sets = [split_categories(text) for text in code_of]
        names = sorted({name for one in sets for name in one})
        # A hash table wants a key; "" is looked up before.
        self.names = IdTable(names or [""])
        self.num_categories = len(names)
        number = {name: place for place, name in enumerate(names)}
        members = np.full((len(sets), max(1, *map(len, sets))), self.num_categories, np.int32)
        for row, one in zip(members, sets):
            row[: len(one)] = [number[name] for name in one]
        codes = np.array([code_of[text] for text in given], np.int32)
        if available is not None:
            codes = np.where(available, codes, _UNAVAILABLE - 1 - codes).astype(np.int32)
        self.available = codes > _UNAVAILABLE
        self.codes = tf.Variable(codes, trainable=False, name="codes")
        self.members = tf.Variable(members, trainable=False, name="members")

    @property
    def blocks_some(self) -> bool:
        """Whether there are items that never come back."""
        return not self.available.all()

    def wanted(self, category: tf.Tensor) -> tf.Tensor:
        """The numbers of categories as int32 of their shape: -1 for "", which is any; unknown ones match nothing."""
        number = tf.cast(self.names.lookup(category), tf.int32)
        return tf.where(tf.equal(category, ""), ANY, tf.where(number < 0, self.num_categories + 1, number))

    def allows(self, wanted: tf.Tensor | None, unwanted: tf.Tensor | None, items: tf.Tensor | None) -> tf.Tensor:
        """Whether queries may be answered with items.

        Args:
          wanted: int32 [B, C] of `wanted`, of which an item must have one; a query of ANY alone wants any item. None
            for any.
          unwanted: int32 [B, D], likewise, of which an item must have none. None together with `wanted`.
          items: int32 or int64 [B, F], rows; None for all of them.

        Returns:
          bool [B, F], or [B or 1, N] for all.
        """
        codes = self.codes.read_value()[tf.newaxis] if items is None else gather(self.codes, items)
        available = codes > _UNAVAILABLE
        if wanted is None or unwanted is None:
            return available
        marks, codes = self._marks(wanted, unwanted), tf.maximum(codes, 0)
        if items is None:
            of_sets = _fit(tf.gather(marks, self.members.read_value(), axis=1))
            return available & tf.gather(of_sets, codes[0], axis=1)
        return available & _fit(tf.gather(marks, gather(self.members, codes), batch_dims=1))

    def _marks(self, wanted: tf.Tensor, unwanted: tf.Tensor) -> tf.Tensor:
        """Whether queries want categories, float32 [B, C + 2]: > 0, or -inf for those they don't want, or 0.

        The last place but one is that of no category, and the last is for what a request has no category for.
        """
        asked = tf.concat([wanted, unwanted], axis=1)
        column = tf.where(tf.equal(asked, ANY), self.num_categories + 1, asked)
        row = tf.broadcast_to(tf.range(size_of(asked, 0))[:, tf.newaxis], tf.shape(asked))
        mark = tf.concat([tf.ones_like(wanted, tf.float32), tf.fill(tf.shape(unwanted), -np.inf)], axis=1)
        shape = tf.stack([size_of(asked, 0), self.num_categories + 2])
        is_any = tf.reduce_all(tf.equal(wanted, ANY), axis=1, keepdims=True)
        return tf.cast(is_any, tf.float32) + tf.scatter_nd(tf.stack([row, column], axis=2), mark, shape)


def split_categories(text: str) -> list[str]:
    """Return the categories of an item, which `|` separates, without blanks around them.

    >>> split_categories("film| book|")
    ['film', 'book']
    """
    return list(dict.fromkeys(pieces(text, "list")))


def _fit(marks: tf.Tensor) -> tf.Tensor:
    """Whether an item of these marks [..., W] has a category that is wanted, and none that isn't."""
    return (tf.reduce_max(marks, axis=-1) > 0) & (tf.reduce_min(marks, axis=-1) >= 0)
