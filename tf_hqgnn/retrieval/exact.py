"""Exact retrieval: every item is scored. Stock TensorFlow operations only, each with a GPU kernel."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from tf_hqgnn.retrieval.blocks import BLOCK_SIZE
from tf_hqgnn.retrieval.filters import Blocked
from tf_hqgnn.retrieval.queries import Queries
from tf_hqgnn.retrieval.rows import RowTable
from tf_hqgnn.retrieval.top_k import TopK, best

# Blocks of at most this part of the catalogue; above, scoring candidates costs more than it saves.
_SMALL_PART = 8


class ExactTopK(TopK):
    """Scores q . v of all N items, blocked ones masked, then the k highest; ties go to the lower item row.

    Large catalogues in two stages: the best score of every block of 64 rows, without a matrix of all scores, then the
    items of the best blocks. The k best items are in the k blocks with the highest best scores, or in as many more as
    there are blocked items, since each block with a higher best score holds a better item. Selecting from N / 64
    numbers costs a fraction of selecting from N. Small catalogues, and queries for much of one, take 4 B N bytes for
    all scores.

    Args:
      rows: the items, in any precision.
      jit_compile: whether XLA fuses the first stage, where codes meet codes.

    Example:
      >>> from tf_hqgnn.retrieval.rows import Float32Rows
      >>> index = ExactTopK(Float32Rows([[1.0, 0.0], [0.0, 2.0], [3.0, 3.0]]))
      >>> scores, item_index = index.call(Queries(tf.constant([[0.0, 1.0]])), tf.constant(2))
      >>> scores.numpy().tolist(), item_index.numpy().tolist()
      ([[3.0, 2.0]], [[2, 1]])
    """

    def __init__(self, rows: RowTable, jit_compile: bool = False) -> None:
        super().__init__(name="exact")
        self.rows = rows
        self._jit_compile = jit_compile

    def call(
        self, queries: Queries, k: tf.Tensor, blocked: Blocked | None = None, cosine: bool = False
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """See `TopK`."""

        def at_once() -> tuple[tf.Tensor, tf.Tensor]:
            scores = self.rows.score_all(queries, cosine)
            return best(scores if blocked is None else blocked.mask_all(scores), None, k)

        if not self.rows.by_blocks:
            return at_once()
        most = 0 if blocked is None else blocked.most
        fixed_k = tf.get_static_value(k)
        if fixed_k is not None and most is not None:
            # All shapes follow from what is known now, as XLA needs it.
            fixed_depth = min(int(fixed_k) + most, self.rows.num_rows // BLOCK_SIZE)
            if fixed_depth * BLOCK_SIZE * _SMALL_PART > self.rows.num_rows:
                return at_once()
            return self._by_blocks(queries, k, tf.constant(fixed_depth), blocked, cosine)
        depth = tf.cast(k, tf.int64)
        if blocked is not None:
            depth += tf.reduce_max(tf.concat([[tf.constant(0, tf.int64)], blocked.counts], axis=0))
        few = depth * BLOCK_SIZE * _SMALL_PART <= self.rows.num_rows
        return tf.cond(few, lambda: self._by_blocks(queries, k, tf.cast(depth, tf.int32), blocked, cosine), at_once)

    def _by_blocks(
        self, queries: Queries, k: tf.Tensor, depth: tf.Tensor, blocked: Blocked | None, cosine: bool
    ) -> tuple[tf.Tensor, tf.Tensor]:
        num_rows = self.rows.num_rows

        def blocks(allowed: tf.Tensor | None) -> tf.Tensor:
            highest = self.rows.best_of_blocks(queries, cosine, allowed, self._jit_compile)
            # In the order of the rows, so that ties among candidates go to the lower one.
            return tf.sort(tf.math.top_k(highest, depth, sorted=False).indices, axis=1)

        chosen = blocks(None) if blocked is None else blocked.with_allowed(blocks)
        shape = tf.stack([tf.shape(chosen)[0], depth * BLOCK_SIZE])
        items = tf.reshape(chosen[..., tf.newaxis] * BLOCK_SIZE + tf.range(BLOCK_SIZE), shape)
        tail = tf.range(num_rows // BLOCK_SIZE * BLOCK_SIZE, num_rows)
        items = tf.concat([items, tf.broadcast_to(tail, [shape[0], tf.size(tail)])], axis=1)
        scores = self.rows.score_at(queries, items, cosine)
        if blocked is not None:
            scores = tf.where(blocked.contains(items), -np.inf, scores)
        return best(scores, items, k)

    def is_exact(self) -> bool:
        """Always."""
        return True
