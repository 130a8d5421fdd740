"""The loss of a batch's rows: what it is told of the batch, and what is added to it for dislikes and weight decay."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from tf_hqgnn.losses.loss import BatchContext, Loss, WeightedBatchContext
from tf_hqgnn.models.batches import Features
from tf_hqgnn.models.dislikes import Dislikes, dislike_loss
from tf_hqgnn.types import Array, Float64Array


def counts_of(name: str, counts: Array | None, size: int) -> Float64Array:
    """The counts as float64 [size], ones where there are none.

    Raises:
      ValueError: There are more or fewer.
    """
    values = np.ones(size) if counts is None else np.asarray(counts, np.float64)
    if values.shape != (size,):
        raise ValueError(f"{name} must have {size} entries, got shape {values.shape}")
    return values


def context_of(
    features: Features,
    loss: Loss,
    user_weight: tf.Tensor,
    log_popularity: tf.Tensor,
    thresholds: tf.Tensor | None = None,
) -> BatchContext | WeightedBatchContext | None:
    """What the loss is told of a batch besides its rows; None if it needs nothing and no pair has a weight.

    Args:
      features: of the batch; `is_positive` is taken as it is where it is there.
      loss: says what it needs.
      user_weight: float32 [U].
      log_popularity: float32 [I].
      thresholds: float32 [U], see `Loss.threshold_rank`; None where the loss doesn't ask for them.
    """
    pair_weight = features.get("weight")
    if not loss.needs_context and pair_weight is None:
        return None
    item_index = features["item_index"]
    is_positive = features.get("is_positive")
    if is_positive is None:
        is_positive = tf.equal(item_index[:, tf.newaxis], item_index[tf.newaxis, :])
    weight = tf.gather(user_weight, features["user_index"])
    popularity = tf.gather(log_popularity, item_index)
    threshold = None if thresholds is None else tf.gather(thresholds, features["user_index"])
    if pair_weight is None:
        return BatchContext(is_positive, popularity, weight, threshold)
    return WeightedBatchContext(is_positive, popularity, weight * pair_weight, pair_weight, threshold)


def decayed_loss(
    loss: Loss,
    rows: tuple[tf.Tensor, tf.Tensor, tf.Tensor | None],
    context: BatchContext | WeightedBatchContext | None,
    decayed: list[tf.Tensor] | None,
    dislikes: Dislikes | None,
    weight_decay: float,
    dislike_weight: float,
) -> tf.Tensor:
    """The loss of a batch, with weight decay on `decayed`.

    Args:
      loss: of the rows.
      rows: users [B, d], items [B, d] and negatives [B, n, d] or None.
      context: what else the loss needs.
      decayed: the rows that weight decay acts on: None stands for the rows of the batch, an empty list for none.
      dislikes: what users of the batch dislike.
      weight_decay: times half the squared norm of `decayed`, per user of the batch.
      dislike_weight: times the loss of the dislikes.
    """
    users, items, negatives = rows
    value = loss(users, items, negatives, context)
    if dislikes is not None and dislike_weight:
        value += dislike_weight * dislike_loss(loss, users, items, dislikes, context)
    if weight_decay and decayed != []:
        if decayed is None:
            decayed = [users, items] if negatives is None else [users, items, negatives]
        # Not rows**2: the gradient of a power costs XLA a call of pow for every number.
        half_squares = tf.add_n([tf.nn.l2_loss(rows) for rows in decayed])
        value += weight_decay * half_squares / tf.cast(tf.shape(users)[0], users.dtype)
    return value
