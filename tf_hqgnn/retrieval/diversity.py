"""Answers of which each differs from those before it: maximal marginal relevance."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from tf_hqgnn.retrieval.rows import RowTable
from tf_hqgnn.retrieval.slices import Answer, candidate_bytes, in_slices
from tf_hqgnn.retrieval.top_k import best

# So many items are looked at for each that is wanted, and no more than these altogether: each costs a step.
_LOOKED_AT = 4
MAX_SHORTLIST = 1000


def shortlist_size(k: tf.Tensor, diversity: tf.Tensor) -> tf.Tensor:
    """Return how many of the best items `diversify` wants for k answers: k itself where nothing is to be diverse.

    Args:
      k: int32 scalar.
      diversity: float32 [B].

    Example:
      >>> [int(shortlist_size(tf.constant(k), tf.constant([0.0, 0.3]))) for k in (10, 300, 2000)]
      [40, 1000, 2000]
    """
    looked_at = tf.maximum(k, tf.minimum(_LOOKED_AT * tf.minimum(k, MAX_SHORTLIST), MAX_SHORTLIST))
    return tf.where(tf.reduce_any(diversity > 0), looked_at, k)


def diversify(scores: tf.Tensor, item_index: tf.Tensor, diversity: tf.Tensor, rows: RowTable, k: tf.Tensor) -> Answer:
    """Choose k of the best items, one after the other, each by its score and by how much it is like those before it.

    With w the `diversity` of a query, the next item is that of the highest

        (1 - w) (score_i - lowest) / (highest - lowest) - w max over chosen j of cos(e_i, e_j)

    among those that are left; the lower place wins a tie. The first is the one of the highest score. Highest and lowest
    are the scores of the first `MAX_SHORTLIST` items at most; beyond as many answers the order stays as it is.

    Args:
      scores: float32 [B, S], descending, -inf where there is no item.
      item_index: int32 [B, S].
      diversity: float32 [B], from 0 to 1.
      rows: the table of the items.
      k: int32 scalar.

    Returns:
      The scores and rows of items in the new order, [B, at most k], -inf where there are no more.

    Reference: Carbonell and Goldstein, The Use of MMR, Diversity-Based Reranking, SIGIR 1998.

    Example:
      >>> from tf_hqgnn.retrieval.rows import Float32Rows
      >>> items = Float32Rows(np.array([[1.0, 0.0], [0.9, 0.0], [0.0, 0.5]], np.float32))
      >>> scores, item_index = tf.constant([[1.0, 0.9, 0.5]]), tf.constant([[0, 1, 2]])
      >>> diversify(scores, item_index, tf.constant([0.8]), items, tf.constant(2))[1].numpy().tolist()
      [[0, 2]]
    """

    def answer(part: tf.Tensor) -> Answer:
        head = tf.gather(scores[:, :MAX_SHORTLIST], part), tf.gather(item_index[:, :MAX_SHORTLIST], part)
        return _choose(*head, tf.gather(diversity, part), rows, tf.minimum(k, MAX_SHORTLIST))

    batch, width = tf.unstack(tf.shape(scores))
    looked_at = tf.minimum(width, MAX_SHORTLIST)
    bytes_per_row = tf.cast(looked_at, tf.int64) * candidate_bytes(rows.embedding_dim)
    first = in_slices(answer, tf.range(batch), tf.minimum(k, looked_at), bytes_per_row)
    rest = tf.maximum(k, MAX_SHORTLIST)
    others = scores[:, MAX_SHORTLIST:rest], item_index[:, MAX_SHORTLIST:rest]
    return tf.concat([first[0], others[0]], axis=1), tf.concat([first[1], others[1]], axis=1)


def _choose(scores: tf.Tensor, item_index: tf.Tensor, weight: tf.Tensor, rows: RowTable, k: tf.Tensor) -> Answer:
    weight = weight[:, tf.newaxis]
    there = scores > -np.inf
    highest = tf.reduce_max(scores, axis=1, keepdims=True)
    lowest = tf.reduce_min(tf.where(there, scores, np.inf), axis=1, keepdims=True)
    relevance = (1.0 - weight) * tf.math.divide_no_nan(tf.where(there, scores, highest) - lowest, highest - lowest)
    values = rows.gather(item_index)
    units = tf.math.divide_no_nan(values, tf.norm(values, axis=2, keepdims=True))
    batch, width = tf.unstack(tf.shape(scores))

    def step(
        number: tf.Tensor, left: tf.Tensor, likeness: tf.Tensor, order: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
        _, chosen = best(tf.where(left, relevance - weight * likeness, -np.inf), None, tf.constant(1))
        # Equal rows have equal products here, as in a matrix product they may not.
        cosines = tf.reduce_sum(units * tf.gather(units, chosen, batch_dims=1), axis=2)
        likeness = tf.where(tf.equal(number, 0), cosines, tf.maximum(likeness, cosines))
        return number + 1, left & tf.not_equal(tf.range(width), chosen), likeness, tf.concat([order, chosen], axis=1)

    steps = tf.minimum(k, width)
    first = (tf.constant(0), there, tf.zeros_like(scores), tf.zeros([batch, 0], tf.int32))
    shapes = (tf.TensorShape([]), *[tf.TensorShape([None, None])] * 3)
    loop = tf.while_loop(lambda number, *_: number < steps, step, first, shape_invariants=shapes, parallel_iterations=1)
    order = loop[3]
    # Where nothing is left, places are chosen again: those are no answers.
    is_real = tf.range(steps) < tf.reduce_sum(tf.cast(there, tf.int32), axis=1, keepdims=True)
    scores = tf.where(is_real, tf.gather(scores, order, batch_dims=1), -np.inf)
    return scores, tf.gather(item_index, order, batch_dims=1)
