"""Training losses over a batch of encoded (user, item) rows. Plain functions of tensors, ready for XLA."""

from __future__ import annotations

from typing import Callable, NamedTuple

import tensorflow as tf

from tf_hqgnn.config import LossConfig

# The loss of a batch: (user rows [B, d], item rows [B, d], negative rows [B, n, d] or None, a BatchContext or None, and
# what weight decay applies to) -> float32 []. The last is optional: a list (perhaps empty) of tensors whose squares are
# summed, by default the first three.
Loss = Callable[..., tf.Tensor]


class BatchContext(NamedTuple):
    """What the softmax knows of a batch of B pairs besides its rows.

    Args:
      is_positive: bool [B, B], whether the user of a row took the item of a column; True on the diagonal.
      log_popularity: float32 [B], log of each item's share of the training interactions.
      weight: float32 [B], of each pair.
    """

    is_positive: tf.Tensor
    log_popularity: tf.Tensor
    weight: tf.Tensor


def uniformity(x: tf.Tensor) -> tf.Tensor:
    """`log mean_{a<b} exp(-2 |x_a - x_b|^2)` over the rows of a batch: low when they spread over the sphere.

    Args:
      x: float32 [B, d] with rows of unit length, B >= 2.

    Returns:
      float32 [].

    Reference: Wang and Isola, ICML 2020, as used by LightGODE (arXiv 2407.18910), eq. 5.
    """
    similarity = tf.matmul(x, x, transpose_b=True)
    # |a - b|^2 = 2 - 2 a.b on the sphere; a pair with itself is not a pair.
    kernel = tf.linalg.set_diag(tf.exp(4.0 * similarity - 4.0), tf.zeros_like(similarity[:, 0]))
    size = tf.cast(tf.shape(x)[0], x.dtype)
    return tf.math.log(tf.reduce_sum(kernel) / (size * (size - 1.0)))


def alignment_uniformity(users: tf.Tensor, items: tf.Tensor, gamma: float) -> tf.Tensor:
    """`mean |u - i|^2 + gamma (U(u) + U(i)) / 2` of rows scaled to unit length.

    Args:
      users: float32 [B, d].
      items: float32 [B, d], the item that each user took.
      gamma: weight of uniformity; its best value depends on the batch size.

    Returns:
      float32 [].

    Reference: DirectAU, KDD 2022, and LightGODE (arXiv 2407.18910), eq. 4-6.

    >>> u = tf.constant([[1.0, 0.0], [0.0, 1.0]])
    >>> round(float(alignment_uniformity(u, u, gamma=1.0)), 4)  # aligned: 0, at a distance of sqrt 2: log e^-4
    -4.0
    """
    users, items = tf.math.l2_normalize(users, axis=1), tf.math.l2_normalize(items, axis=1)
    alignment = tf.reduce_mean(tf.reduce_sum(tf.math.squared_difference(users, items), axis=1))
    return alignment + gamma * (uniformity(users) + uniformity(items)) / 2.0


def bpr(users: tf.Tensor, items: tf.Tensor, negatives: tf.Tensor) -> tf.Tensor:
    """`-mean log sigmoid(u.i - u.j)` over every negative j of every pair.

    Args:
      users: float32 [B, d].
      items: float32 [B, d].
      negatives: float32 [B, n, d].

    Returns:
      float32 [].

    Reference: Rendle et al., UAI 2009.

    >>> zero = tf.zeros([3, 2])
    >>> round(float(bpr(zero, zero, tf.zeros([3, 1, 2]))), 4)  # log 2
    0.6931
    """
    positive = tf.reduce_sum(users * items, axis=1, keepdims=True)
    negative = tf.einsum("bd,bnd->bn", users, negatives)
    return tf.reduce_mean(tf.math.softplus(negative - positive))


def in_batch_softmax(
    users: tf.Tensor,
    items: tf.Tensor,
    context: BatchContext,
    temperature: float,
    popularity_correction: float = 0.0,
) -> tf.Tensor:
    """Cross-entropy of each user's item among the items of the batch, by cosine over `temperature`.

    An item of the batch that the user took as well is no negative: it is masked. Each logit is lowered by
    `popularity_correction` times the item's log popularity (logQ correction), so that popular items, being frequent
    negatives, aren't pushed down for that alone.

    Args:
      users: float32 [B, d].
      items: float32 [B, d].
      context: of the batch.
      temperature: > 0.
      popularity_correction: 1 makes up for the sampling in full, 0 not at all.

    Returns:
      float32 [].

    Reference: Yi et al., RecSys 2019 (the correction); the cosine form as in SimpleX and SGL.
    """
    users, items = tf.math.l2_normalize(users, axis=1), tf.math.l2_normalize(items, axis=1)
    logits = tf.matmul(users, items, transpose_b=True) / temperature
    if popularity_correction:
        logits -= popularity_correction * context.log_popularity[tf.newaxis, :]
    itself = tf.eye(tf.shape(users)[0], dtype=tf.bool)
    logits = tf.where(context.is_positive & ~itself, -1e9, logits)
    cross_entropy = tf.reduce_logsumexp(logits, axis=1) - tf.linalg.diag_part(logits)
    return tf.reduce_mean(context.weight * cross_entropy)


def make_loss(config: LossConfig) -> Loss:
    """The loss that `config` names, with its settings bound."""

    def loss(
        users: tf.Tensor,
        items: tf.Tensor,
        negatives: tf.Tensor | None,
        context: BatchContext | None,
        decayed: list[tf.Tensor] | None = None,
    ) -> tf.Tensor:
        if config.name == "alignment_uniformity":
            value = alignment_uniformity(users, items, config.gamma)
        elif config.name == "bpr":
            if negatives is None:
                raise ValueError("the bpr loss needs negative rows [B, n, d], got None")
            value = bpr(users, items, negatives)
        else:
            if context is None:
                raise ValueError("the softmax loss needs the BatchContext of the batch, got None")
            value = in_batch_softmax(users, items, context, config.temperature, config.popularity_correction)
        if config.weight_decay and decayed != []:
            if decayed is None:
                decayed = [users, items] if negatives is None else [users, items, negatives]
            # Not rows**2: the gradient of a power costs XLA a call of pow for every number.
            half_squares = tf.add_n([tf.nn.l2_loss(rows) for rows in decayed])
            value += config.weight_decay * half_squares / tf.cast(tf.shape(users)[0], users.dtype)
        return value

    return loss
