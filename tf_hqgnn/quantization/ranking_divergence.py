"""How far a ranking is from another: the loss that codes are distilled with, and the trace of its Hessian."""

from __future__ import annotations

import tensorflow as tf

# What masked pairs score: their softmax is 0 in float32, and no sum turns it into NaN.
MASKED = -1e9


def ranking_divergence(
    users: tf.Tensor,
    items: tf.Tensor,
    teacher_logits: tf.Tensor,
    temperature: tf.Tensor,
    log_weights: tf.Tensor | float = 0.0,
) -> tf.Tensor:
    """The Kullback-Leibler divergence of the students' softmax from the teacher's, over items, mean over users.

        (1/B) sum_b sum_i p_bi log(p_bi / q_bi),
        p_b = softmax_i(teacher_logits_bi + log w_i),  q_b = softmax_i(u_b.v_i / T_b + log w_i)

    A low temperature makes it a loss of the first places, where NDCG is decided.

    Args:
      users: float32 [B, d], the rows that the student scores with (quantized).
      items: float32 [S, d], the embeddings of items.
      teacher_logits: float32 [B, S], the teacher's scores over T_b; `MASKED` where a pair is not to be ranked.
      temperature: float32 [B], T_b > 0.
      log_weights: float32 [S], the logarithm of how many items each one stands for, where items are sampled.

    Returns:
      float32 [], >= 0 up to rounding; 0 if the student scores as the teacher does, up to a constant a user.

    Reference:
      Hinton et al., 2015, with the divergence in place of the cross-entropy.

    >>> users, items = tf.constant([[1.0]]), tf.constant([[1.0], [3.0], [2.0]])
    >>> teacher = tf.constant([[2.0, 4.0, MASKED]])
    >>> float(ranking_divergence(users, items, teacher, tf.constant([1.0])))
    0.0
    """
    student = tf.nn.log_softmax(_student_logits(users, items, teacher_logits, temperature) + log_weights)
    teacher = tf.nn.log_softmax(teacher_logits + log_weights)
    return tf.reduce_mean(tf.reduce_sum(tf.exp(teacher) * (teacher - student), axis=1))


def order_logits(teacher_logits: tf.Tensor, k: int) -> tf.Tensor:
    """Logits that keep only the order of each user's k best items, for a listwise `ranking_divergence`.

    Their softmax is proportional to NDCG's gain at each rank r from 1, `1 / log2(r + 1)`, and 0 for all other items,
    which the student still has to rank lower.

    Args:
      teacher_logits: float32 [B, S]; `MASKED` where a pair is not to be ranked, and stays so.
      k: >= 1.

    Returns:
      float32 [B, S].

    Reference:
      ListNet (Cao et al., ICML 2007), with the gains of NDCG as the target.

    >>> logits = order_logits(tf.constant([[5.0, 9.0, 1.0, MASKED]]), k=2)
    >>> [round(float(share), 3) for share in tf.nn.softmax(logits)[0]]
    [0.387, 0.613, 0.0, 0.0]
    """
    number = tf.minimum(k, tf.shape(teacher_logits)[1])
    values, columns = tf.math.top_k(teacher_logits, number)
    ranks = tf.range(1, number + 1, dtype=teacher_logits.dtype)
    gains = -tf.math.log(tf.math.log(ranks + 1.0) / tf.math.log(tf.constant(2.0, ranks.dtype)))
    # Not yet masked, but without any weight.
    others = tf.fill(tf.shape(teacher_logits), tf.constant(0.25 * MASKED, teacher_logits.dtype))
    rows = tf.broadcast_to(tf.range(tf.shape(columns)[0])[:, tf.newaxis], tf.shape(columns))
    placed = tf.tensor_scatter_nd_update(
        others, tf.stack([rows, columns], axis=2), tf.broadcast_to(gains, tf.shape(values))
    )
    return tf.where(teacher_logits > 0.5 * MASKED, placed, MASKED)


def ranking_divergence_diagonals(
    users: tf.Tensor,
    items: tf.Tensor,
    teacher_logits: tf.Tensor,
    temperature: tf.Tensor,
    log_weights: tf.Tensor | float = 0.0,
) -> tuple[tf.Tensor, tf.Tensor]:
    """The diagonal of the Hessian of `ranking_divergence`, exact: of the user rows, and of the item rows.

    The curvature of a softmax is the covariance of what it weighs, and doesn't depend on the target:

        D_bc = (1/B) (sum_i q_bi v_ic^2 - (sum_i q_bi v_ic)^2) / T_b^2  of users,
        D_ic = (1/B) sum_b u_bc^2 q_bi (1 - q_bi) / T_b^2  of items.

    Args:
      users: As in `ranking_divergence`; no user twice.
      items: Likewise; no item twice.
      teacher_logits: Only which pairs are masked matters.
      temperature: float32 [B].
      log_weights: float32 [S].

    Returns:
      float32 [B, d] and [S, d], >= 0 up to rounding. They add up to the traces.

    Reference:
      Derived for this project; HQ-GNN (arXiv 2309.01032) estimates the trace by probes.

    >>> users, items = tf.constant([[2.0]]), tf.constant([[1.0], [1.0]])
    >>> of_users, of_items = ranking_divergence_diagonals(users, items, tf.zeros([1, 2]), tf.constant([1.0]))
    >>> of_users.numpy().tolist(), of_items.numpy().tolist()
    ([[0.0]], [[1.0], [1.0]])
    """
    student = tf.nn.softmax(_student_logits(users, items, teacher_logits, temperature) + log_weights)
    weight = 1.0 / tf.square(temperature) / tf.cast(tf.shape(users)[0], users.dtype)
    variance = tf.matmul(student, tf.square(items)) - tf.square(tf.matmul(student, items))
    spread = weight[:, tf.newaxis] * student * (1.0 - student)
    return weight[:, tf.newaxis] * variance, tf.matmul(spread, tf.square(users), transpose_a=True)


def ranking_divergence_traces(
    users: tf.Tensor,
    items: tf.Tensor,
    teacher_logits: tf.Tensor,
    temperature: tf.Tensor,
    log_weights: tf.Tensor | float = 0.0,
) -> tuple[tf.Tensor, tf.Tensor]:
    """The trace of the Hessian of `ranking_divergence`, exact: the part of the user rows, and that of the item rows.

    Args:
      users: As in `ranking_divergence_diagonals`, as are all others.
      items: float32 [S, d].
      teacher_logits: float32 [B, S].
      temperature: float32 [B].
      log_weights: float32 [S].

    Returns:
      float32 [] and [], >= 0 up to rounding.

    >>> users, items = tf.constant([[2.0]]), tf.constant([[1.0], [1.0]])
    >>> [float(trace) for trace in ranking_divergence_traces(users, items, tf.zeros([1, 2]), tf.constant([1.0]))]
    [0.0, 2.0]
    """
    of_users, of_items = ranking_divergence_diagonals(users, items, teacher_logits, temperature, log_weights)
    return tf.reduce_sum(of_users), tf.reduce_sum(of_items)


def _student_logits(users: tf.Tensor, items: tf.Tensor, teacher_logits: tf.Tensor, temperature: tf.Tensor) -> tf.Tensor:
    # Users are divided, not the scores: [B, d] instead of [B, S] numbers.
    logits = tf.matmul(users / temperature[:, tf.newaxis], items, transpose_b=True)
    return tf.where(teacher_logits > 0.5 * MASKED, logits, MASKED)
