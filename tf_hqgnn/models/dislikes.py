"""The part of a training loss that pushes what users disliked below what they took."""

from __future__ import annotations

import tensorflow as tf

from tf_hqgnn.losses.loss import BatchContext, Loss, WeightedBatchContext
from tf_hqgnn.models.batches import Features

# The rows of a disliked item of each pair's user, and 1 where there is one, else 0.
Dislikes = tuple[tf.Tensor, tf.Tensor]


def split_dislikes(features: Features, items: tf.Tensor) -> tuple[tf.Tensor, Dislikes | None]:
    """Takes the disliked items, which are the last, from the rows of `wanted_items`, [B, n, d]."""
    if "disliked_index" not in features:
        return items, None
    return items[:, :-1], (items[:, -1], tf.cast(features["disliked_index"] >= 0, items.dtype))


def dislike_loss(
    loss: Loss,
    users: tf.Tensor,
    items: tf.Tensor,
    dislikes: Dislikes,
    context: BatchContext | WeightedBatchContext | None,
) -> tf.Tensor:
    """`mean_b w_b log(1 + exp(s(u_b, disliked_b) - s(u_b, i_b)))` over the pairs whose user disliked something, else 0.

    Args:
      loss: whose scores s are compared.
      users: float32 [B, d].
      items: float32 [B, d], what the users took.
      dislikes: float32 [B, d] and [B].
      context: has the weights w of the pairs; None where they are 1.

    Example:
      >>> from tf_hqgnn.losses import Softmax
      >>> u, i, disliked = tf.constant([[1.0, 0.0]]), tf.constant([[1.0, 0.0]]), tf.constant([[0.0, 1.0]])
      >>> value = dislike_loss(Softmax(temperature=1.0), u, i, (disliked, tf.ones([1])), None)
      >>> round(float(value), 4)  # log(1 + e^-1)
      0.3133
    """
    disliked, has_one = dislikes
    margin = loss.scores(users, disliked) - loss.scores(users, items)
    weight = has_one if context is None else has_one * context.weight
    return tf.reduce_mean(weight * tf.math.softplus(margin))
