"""Training losses over a batch of encoded (user, item) rows. Plain functions of tensors, ready for XLA."""

from __future__ import annotations

from typing import Callable

import tensorflow as tf

from tf_hqgnn.config import LossConfig

# The loss of a batch: (user rows [B, d], item rows [B, d], negative rows [B, n, d] or None, item_index [B],
# log of each item's share of the training interactions [B], and what weight decay applies to) -> float32 []. The last
# is optional: a list (perhaps empty) of tensors whose squares are summed, by default the first three.
Loss = Callable[..., tf.Tensor]


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
    item_index: tf.Tensor,
    temperature: float,
    log_popularity: tf.Tensor | None = None,
) -> tf.Tensor:
    """Cross-entropy of each user's item among the items of the batch, by cosine over `temperature`.

    The same item in another row of the batch is no negative: it is masked. With `log_popularity`, each logit is
    lowered by it (logQ correction), so that popular items, being frequent negatives, aren't pushed down for that alone.

    Args:
      users: float32 [B, d].
      items: float32 [B, d].
      item_index: int32 [B].
      temperature: > 0.
      log_popularity: float32 [B], or None.

    Returns:
      float32 [].

    Reference: Yi et al., RecSys 2019 (the correction); the cosine form as in SimpleX and SGL.
    """
    users, items = tf.math.l2_normalize(users, axis=1), tf.math.l2_normalize(items, axis=1)
    logits = tf.matmul(users, items, transpose_b=True) / temperature
    if log_popularity is not None:
        logits -= log_popularity[tf.newaxis, :]
    same = tf.equal(item_index[:, tf.newaxis], item_index[tf.newaxis, :])
    itself = tf.eye(tf.shape(item_index)[0], dtype=tf.bool)
    logits = tf.where(same & ~itself, -1e9, logits)
    return tf.reduce_mean(tf.reduce_logsumexp(logits, axis=1) - tf.linalg.diag_part(logits))


def make_loss(config: LossConfig) -> Loss:
    """The loss that `config` names, with its settings bound."""

    def loss(
        users: tf.Tensor,
        items: tf.Tensor,
        negatives: tf.Tensor | None,
        item_index: tf.Tensor,
        log_popularity: tf.Tensor,
        decayed: list[tf.Tensor] | None = None,
    ) -> tf.Tensor:
        if config.name == "alignment_uniformity":
            value = alignment_uniformity(users, items, config.gamma)
        elif config.name == "bpr":
            if negatives is None:
                raise ValueError("the bpr loss needs negative rows [B, n, d], got None")
            value = bpr(users, items, negatives)
        else:
            correction = config.popularity_correction * log_popularity if config.popularity_correction else None
            value = in_batch_softmax(users, items, item_index, config.temperature, correction)
        if config.weight_decay and decayed != []:
            if decayed is None:
                decayed = [users, items] if negatives is None else [users, items, negatives]
            # Not rows**2: the gradient of a power costs XLA a call of pow for every number.
            half_squares = tf.add_n([tf.nn.l2_loss(rows) for rows in decayed])
            value += config.weight_decay * half_squares / tf.cast(tf.shape(users)[0], users.dtype)
        return value

    return loss
