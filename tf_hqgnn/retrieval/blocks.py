"""Scores of a large table, a block of rows at a time."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import tensorflow as tf

# Rows of a block, a power of two; and from how many rows on a catalogue is searched by blocks.
BLOCK_SIZE = 64
# Rows of a part of a block: where the best parts are known, too, there are an eighth of the candidates.
PART_SIZE = 8
BY_BLOCKS_FROM = 65_536


def over_blocks(
    score: Callable[[tf.Tensor, tf.Tensor], tf.Tensor], batch: tf.Tensor, num_rows: int, block_rows: tf.Tensor
) -> tf.Tensor:
    """`score(0, num_rows)`, part after part, so that what scoring a row takes besides its score stays small.

    Args:
      score: `(start, size)`, int32 scalars, to float32 [B, size].
      batch: B, int32 scalar.
      num_rows: N.
      block_rows: int32 scalar >= 1, the rows of a block.

    Returns:
      float32 [B, N].

    Example:
      >>> over_blocks(lambda start, size: tf.cast(start + tf.range(size), tf.float32)[None], 1, 5, 2).numpy().tolist()
      [[0.0, 1.0, 2.0, 3.0, 4.0]]
    """
    if not num_rows:
        return score(tf.constant(0), tf.constant(0))
    # All of one size; the last overlaps the one before by fewer rows than there are blocks.
    count = -(-num_rows // tf.minimum(block_rows, num_rows))
    size = -(-num_rows // count)
    blocks = tf.TensorArray(tf.float32, size=count, element_shape=[None, None])

    def body(number: tf.Tensor, blocks: tf.TensorArray) -> tuple[tf.Tensor, tf.TensorArray]:
        start = tf.minimum(number * size, num_rows - size)
        return number + 1, blocks.write(number, score(start, size))

    # One after the other: in parallel, blocks would share neither a cache nor a limit on memory.
    _, blocks = tf.while_loop(lambda number, _: number < count, body, (tf.constant(0), blocks), parallel_iterations=1)
    scores = blocks.stack()
    head = tf.reshape(tf.transpose(scores[:-1], [1, 0, 2]), [batch, (count - 1) * size])
    whole = tf.concat([head, scores[-1][:, count * size - num_rows :]], axis=1)
    return tf.ensure_shape(whole, [None, num_rows])


def best_of(scores: tf.Tensor, allowed: tf.Tensor | None) -> tf.Tensor:
    """The highest score of each block of consecutive columns, float32 [B, n / 64].

    Args:
      scores: float32 [B, n], n divisible by 64.
      allowed: bool [B or 1, n], False for columns that don't count; None if all do.
    """
    if allowed is not None:
        scores = tf.where(allowed, scores, -np.inf)
    shape = tf.shape(scores)
    return tf.reduce_max(tf.reshape(scores, [shape[0], shape[1] // BLOCK_SIZE, BLOCK_SIZE]), axis=2)
