"""Exact retrieval: every item is scored. Stock TensorFlow operations only, each with a GPU kernel."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from tf_hqgnn.retrieval.blocks import BLOCK_SIZE, PART_SIZE
from tf_hqgnn.retrieval.filters import Blocked
from tf_hqgnn.retrieval.queries import Queries
from tf_hqgnn.retrieval.rows import RowTable
from tf_hqgnn.retrieval.sizes import size_of
from tf_hqgnn.retrieval.slices import Answer, candidate_bytes, in_slices
from tf_hqgnn.retrieval.top_k import TopK, best

Search = Callable[[Queries, tf.Tensor, "Blocked | None", bool], Answer]

# Blocks of at most this part of the catalogue; above, scoring candidates costs more than it saves.
_SMALL_PART = 8
_PARTS = BLOCK_SIZE // PART_SIZE
# About what the numbers of a query take, in bytes: its score of every item, with the copies that masking and sorting
# make; the bests of every block and of its parts; whether an item is of the category; an item that has been seen.
_SCORE, _BLOCK, _ALLOWED, _SEEN = 24, 112, 4, 48


class ExactTopK(TopK):
    """Scores q . v of all N items, blocked ones masked, then the k highest; ties go to the lower item row.

    Large catalogues in two stages: the best score of every block of 64 rows, without a matrix of all scores, then the
    items of the best blocks. The k best items are in the k blocks with the highest best scores, or in as many more as
    there are blocked items, since each block with a higher best score holds a better item. Selecting from N / 64
    numbers costs a fraction of selecting from N. Small catalogues, and queries for much of one, get a score of every
    item. The two kinds of queries are answered apart, and each a slice of the batch at a time, so that memory doesn't
    grow with the batch, nor with what one query of it asks for.

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
        self._has_blocks = rows.by_blocks and rows.num_rows >= BLOCK_SIZE

    def call(self, queries: Queries, k: tf.Tensor, blocked: Blocked | None = None, cosine: bool = False) -> Answer:
        """See `TopK`."""
        most = 0 if blocked is None else blocked.most
        fixed_k = tf.get_static_value(k)
        if fixed_k is not None and most is not None:
            # All shapes follow from what is known now, as XLA needs it.
            fixed_depth = min(int(fixed_k) + most, self.rows.num_rows // BLOCK_SIZE)
            if not self._has_blocks or fixed_depth * BLOCK_SIZE * _SMALL_PART > self.rows.num_rows:
                return self._at_once(queries, k, blocked, cosine)
            chosen = self._best_parts(queries, tf.constant(fixed_depth), blocked, cosine)
            return self._of_parts(queries, k, chosen, blocked, cosine)
        depth = tf.fill([size_of(queries.rows, 0)], tf.cast(k, tf.int64))
        if blocked is not None:
            depth += blocked.counts
        # Those that search deep share slices.
        order = tf.argsort(depth, stable=True)
        few = depth * BLOCK_SIZE * _SMALL_PART <= self.rows.num_rows
        num_few = tf.reduce_sum(tf.cast(few, tf.int32)) if self._has_blocks else tf.constant(0)

        def in_slices_by(search: Search, rows: tf.Tensor, bytes_per_row: tf.Tensor) -> Answer:
            def answer(part: tf.Tensor) -> Answer:
                return search(queries.at(part), k, None if blocked is None else blocked.at(part), cosine)

            return in_slices(answer, rows, tf.minimum(k, self.rows.num_rows), bytes_per_row)

        bytes_per_row = _bytes_per_row(blocked, self.rows.num_rows)
        deep = in_slices_by(self._at_once, order[num_few:], bytes_per_row + _SCORE * self.rows.num_rows)
        if not self._has_blocks:
            ordered = deep
        else:
            num_blocks = self.rows.num_rows // BLOCK_SIZE
            shallow = in_slices_by(self._by_blocks, order[:num_few], bytes_per_row + _BLOCK * num_blocks)
            ordered = tf.concat([shallow[0], deep[0]], axis=0), tf.concat([shallow[1], deep[1]], axis=0)
        place = tf.math.invert_permutation(order)
        return tf.gather(ordered[0], place), tf.gather(ordered[1], place)

    def _at_once(self, queries: Queries, k: tf.Tensor, blocked: Blocked | None, cosine: bool) -> Answer:
        scores = self.rows.score_all(queries, cosine)
        return best(scores if blocked is None else blocked.mask_all(scores), None, k)

    def _by_blocks(self, queries: Queries, k: tf.Tensor, blocked: Blocked | None, cosine: bool) -> Answer:
        depth = tf.cast(k, tf.int64) + (0 if blocked is None else blocked.deepest)
        chosen = self._best_parts(queries, tf.cast(depth, tf.int32), blocked, cosine)

        def candidates(part: tf.Tensor) -> Answer:
            part_blocked = None if blocked is None else blocked.at(part)
            return self._of_parts(queries.at(part), k, tf.gather(chosen, part), part_blocked, cosine)

        bytes_per_row = tf.cast(size_of(chosen, 1), tf.int64) * PART_SIZE * candidate_bytes(self.rows.embedding_dim)
        return in_slices(candidates, tf.range(size_of(chosen, 0)), k, bytes_per_row)

    def _best_parts(self, queries: Queries, depth: tf.Tensor, blocked: Blocked | None, cosine: bool) -> tf.Tensor:
        """The parts of blocks to look into, int32 [B, at least depth], ascending: ties go to the lower row."""

        def parts(allowed: tf.Tensor | None) -> tf.Tensor:
            def surely() -> tf.Tensor:
                highest = self.rows.best_of_blocks(queries, cosine, allowed, self._jit_compile)
                blocks = tf.sort(tf.math.top_k(highest, depth, sorted=False).indices, axis=1)
                every = blocks[..., tf.newaxis] * _PARTS + tf.range(_PARTS)
                return tf.reshape(every, [size_of(blocks, 0), size_of(blocks, 1) * _PARTS])

            likely = self.rows.likely_parts(queries, cosine, allowed, depth, self._jit_compile)
            return surely() if likely is None else tf.cond(likely[1], lambda: tf.sort(likely[0], axis=1), surely)

        return parts(None) if blocked is None else blocked.with_allowed(parts)

    def _of_parts(
        self, queries: Queries, k: tf.Tensor, chosen: tf.Tensor, blocked: Blocked | None, cosine: bool
    ) -> Answer:
        num_rows = self.rows.num_rows
        shape = tf.stack([size_of(chosen, 0), size_of(chosen, 1) * PART_SIZE])
        items = tf.reshape(chosen[..., tf.newaxis] * PART_SIZE + tf.range(PART_SIZE), shape)
        tail = tf.range(num_rows // BLOCK_SIZE * BLOCK_SIZE, num_rows)
        items = tf.concat([items, tf.broadcast_to(tail, [shape[0], tf.size(tail)])], axis=1)
        scores = self.rows.score_at(queries, items, cosine)
        if blocked is not None:
            scores = tf.where(blocked.contains(items), -np.inf, scores)
        return best(scores, items, k)

    def is_exact(self) -> bool:
        """Always."""
        return True


def _bytes_per_row(blocked: Blocked | None, num_rows: int) -> tf.Tensor:
    """What a query takes that isn't a score, int64 scalar: of the categories of all items, and of those it has seen."""
    if blocked is None:
        return tf.constant(0, tf.int64)
    is_filtered = tf.cast(blocked.asks_for_a_category(), tf.int64)
    return is_filtered * (_ALLOWED * num_rows) + _SEEN * blocked.deepest
