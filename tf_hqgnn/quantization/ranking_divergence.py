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
      items: float32 [S, d], likewise.
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


def ranking_divergence_traces(
    users: tf.Tensor,
    items: tf.Tensor,
    teacher_logits: tf.Tensor,
    temperature: tf.Tensor,
    log_weights: tf.Tensor | float = 0.0,
) -> tuple[tf.Tensor, tf.Tensor]:
    """The trace of the Hessian of `ranking_divergence`, exact: the part of the user rows, and that of the item rows.

    The curvature of a softmax is the covariance of what it weighs, and doesn't depend on the target:

        Tr_users = (1/B) sum_b (sum_i q_bi |v_i|^2 - |sum_i q_bi v_i|^2) / T_b^2,
        Tr_items = (1/B) sum_b |u_b|^2 (1 - sum_i q_bi^2) / T_b^2.

    Args:
      users: As in `ranking_divergence`; no user twice.
      items: Likewise; no item twice.
      teacher_logits: Only which pairs are masked matters.
      temperature: float32 [B].
      log_weights: float32 [S].

    Returns:
      float32 [] and [], >= 0 up to rounding.

    Reference:
      Derived for this project; HQ-GNN (arXiv 2309.01032) estimates the trace by probes.

    >>> users, items = tf.constant([[2.0]]), tf.constant([[1.0], [1.0]])
    >>> [float(trace) for trace in ranking_divergence_traces(users, items, tf.zeros([1, 2]), tf.constant([1.0]))]
    [0.0, 2.0]
    """
    student = tf.nn.softmax(_student_logits(users, items, teacher_logits, temperature) + log_weights)
    mean = tf.matmul(student, items)
    mean_square = tf.linalg.matvec(student, tf.reduce_sum(tf.square(items), axis=1))
    of_users = mean_square - tf.reduce_sum(tf.square(mean), axis=1)
    of_items = tf.reduce_sum(tf.square(users), axis=1) * (1.0 - tf.reduce_sum(tf.square(student), axis=1))
    weight = 1.0 / tf.square(temperature)
    return tf.reduce_mean(weight * of_users), tf.reduce_mean(weight * of_items)


def _student_logits(users: tf.Tensor, items: tf.Tensor, teacher_logits: tf.Tensor, temperature: tf.Tensor) -> tf.Tensor:
    # Users are divided, not the scores: [B, d] instead of [B, S] numbers.
    logits = tf.matmul(users / temperature[:, tf.newaxis], items, transpose_b=True)
    return tf.where(teacher_logits > 0.5 * MASKED, logits, MASKED)
