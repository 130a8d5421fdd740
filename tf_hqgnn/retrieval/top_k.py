"""The interface of every index, and the selection that they share."""

from __future__ import annotations

import abc

import tensorflow as tf

from tf_hqgnn.retrieval.filters import Blocked
from tf_hqgnn.retrieval.queries import Queries
from tf_hqgnn.retrieval.sizes import size_of


class TopK(tf.Module, abc.ABC):
    """An index over N item rows that answers queries with its best items.

    An answer is `(scores, item_index)`, float32 and int32 [B, k'], best first, k' <= min(k, N). Places for which there
    is no item left hold the score -inf, always after the real ones; their item row means nothing, but is in range.
    """

    @abc.abstractmethod
    def call(
        self, queries: Queries, k: tf.Tensor, blocked: Blocked | None = None, cosine: bool = False
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """The best items of each query.

        Args:
          queries: B queries of d numbers: `RowTable.queries`, or `Queries(rows)` of any float32 [B, d].
          k: int32 scalar >= 0, known when the graph runs.
          blocked: pairs that must not come back.
          cosine: rank by q . v / |v| instead of q . v; queries of length one then get cosines.
        """

    @abc.abstractmethod
    def is_exact(self) -> bool:
        """Whether the answer is that of scoring every item."""

    def describe(self) -> dict[str, object]:
        """What one wants to know about an index in production; goes into the export's metadata.json."""
        return {"index": type(self).__name__, "exact": self.is_exact()}


def best(scores: tf.Tensor, item_index: tf.Tensor | None, k: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """The k highest of `scores` float32 [B, F], best first; among equals the one further left.

    Args:
      scores: -inf where there is no candidate.
      item_index: int32 [B, F], the candidates' rows; None if column n is item n.
      k: int32 scalar; at most F come back.
    """
    top, column = tf.math.top_k(scores, k=tf.minimum(k, size_of(scores, 1)))
    if item_index is None:
        return top, column
    return top, tf.gather(item_index, column, batch_dims=1)


def pad_to(values: tf.Tensor, width: tf.Tensor, value: float) -> tf.Tensor:
    """`values` [B, F] with columns of `value` on the right, up to `width` columns; never fewer than it has."""
    missing = tf.maximum([0, width] - tf.shape(values), 0)
    return tf.pad(values, tf.stack([tf.zeros_like(missing), missing], axis=1), constant_values=value)
