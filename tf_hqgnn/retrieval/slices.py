"""Answers a large batch a few queries at a time, so that what one query takes isn't multiplied by all of them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from tf_hqgnn.retrieval.top_k import pad_to

# What the queries of a slice may take together. One query alone may take more.
SLICE_BYTES = 64 << 20

Answer = tuple[tf.Tensor, tf.Tensor]


def candidate_bytes(embedding_dim: int) -> int:
    """About what a candidate takes whose row is scored: its numbers as codes, levels and products, and its key."""
    return 12 * embedding_dim + 48


def in_slices(
    answer: Callable[[tf.Tensor], Answer], rows: tf.Tensor, width: tf.Tensor, bytes_per_row: tf.Tensor | int
) -> Answer:
    """`answer(rows)`, slice after slice.

    Args:
      answer: Takes some of `rows`, in their order, and returns `(scores, item_index)` as of `TopK`.
      rows: int32 [R], rows of a batch.
      width: int32 scalar, the columns that come back; narrower answers are padded.
      bytes_per_row: What `answer` takes for a row besides its answer; int64 if it is a tensor.

    Returns:
      `(scores, item_index)`, float32 and int32 [R, width].

    Example:
      >>> in_slices(lambda rows: (tf.cast(rows, tf.float32)[:, None], rows[:, None]), tf.range(3), 2, 2**25)[0].numpy()
      array([[  0., -inf],
             [  1., -inf],
             [  2., -inf]], dtype=float32)
    """
    total = tf.size(rows)
    most = tf.cast(tf.maximum(SLICE_BYTES // tf.maximum(tf.cast(bytes_per_row, tf.int64), 1), 1), tf.int32)
    # All of about one size: a last slice of a few queries would take as long as a full one.
    count = tf.maximum(-(-total // most), 1)
    size = -(-total // count)

    def step(done: tf.Tensor, scores: tf.Tensor, item_index: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        part = rows[done : done + size]
        more, items = answer(part)
        scores = tf.concat([scores, pad_to(more, width, -np.inf)], axis=0)
        return done + size, scores, tf.concat([item_index, pad_to(items, width, 0)], axis=0)

    first = (tf.constant(0), tf.zeros([0, width]), tf.zeros([0, width], tf.int32))
    shapes = (tf.TensorShape([]), tf.TensorShape([None, None]), tf.TensorShape([None, None]))
    _, scores, item_index = tf.while_loop(
        lambda done, *_: done < total, step, first, shape_invariants=shapes, parallel_iterations=1
    )
    return scores, item_index
