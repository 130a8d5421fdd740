"""Exact retrieval: every item is scored. Stock TensorFlow operations only, each with a GPU kernel."""

from __future__ import annotations

import tensorflow as tf

from tf_hqgnn.retrieval.filters import Blocked
from tf_hqgnn.retrieval.queries import Queries
from tf_hqgnn.retrieval.rows import RowTable
from tf_hqgnn.retrieval.top_k import TopK, best


class ExactTopK(TopK):
    """Scores q . v of all N items, blocked ones masked, then the k highest; ties go to the lower item row.

    Needs 4 B N bytes for the scores of a batch of B.

    Args:
      rows: the items, in any precision.

    Example:
      >>> from tf_hqgnn.retrieval.rows import Float32Rows
      >>> index = ExactTopK(Float32Rows([[1.0, 0.0], [0.0, 2.0], [3.0, 3.0]]))
      >>> scores, item_index = index.call(Queries(tf.constant([[0.0, 1.0]])), tf.constant(2))
      >>> scores.numpy().tolist(), item_index.numpy().tolist()
      ([[3.0, 2.0]], [[2, 1]])
    """

    def __init__(self, rows: RowTable) -> None:
        super().__init__(name="exact")
        self.rows = rows

    def call(
        self, queries: Queries, k: tf.Tensor, blocked: Blocked | None = None, cosine: bool = False
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """See `TopK`."""
        scores = self.rows.score_all(queries, cosine)
        return best(scores if blocked is None else blocked.mask_all(scores), None, k)

    def is_exact(self) -> bool:
        """Always."""
        return True
