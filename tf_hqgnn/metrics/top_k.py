"""NDCG and recall as Keras metrics: over the best answers of users, in one pass over batches of any size."""

from __future__ import annotations

import abc
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras

from tf_hqgnn.types import Float32Array


class TopKMetric(tf_keras.metrics.Metric, abc.ABC):
    """A mean over users of how good their k best answers are; users without a relevant item don't count.

    Args:
      k: How many answers count, at least 1.
      name: By default the measure and k, such as "ndcg@20".

    Raises:
      ValueError: `k` is below 1.
    """

    measure: str

    def __init__(self, k: int = 20, name: str | None = None, **kwargs: Any) -> None:
        super().__init__(name=name or f"{self.measure}@{k}", **kwargs)
        if k < 1:
            raise ValueError(f"k must be at least 1, got {k}")
        self.k = k
        self._total = self.add_weight("total", (), initializer="zeros")
        self._count = self.add_weight("count", (), initializer="zeros")
        self._gain_of_user: tf.Variable | None = None

    @abc.abstractmethod
    def gains(self) -> Float32Array:
        """What a relevant item at each place adds, [k]."""

    @abc.abstractmethod
    def best_gain(self, num_relevant: tf.Tensor) -> tf.Tensor:
        """The most that so many relevant items, float32 [B] of 1 or more, can add up to, float32 [B]."""

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Takes in the answers of users, one row each.

        Args:
          y_true: The relevant items of each user, [B, n] or [B]: rows of items, filled up with -1, or ids, filled up
            with "". An item named twice counts once.
          y_pred: The answers, [B, K], best first, of the dtype of `y_true` and filled up as it is; or the scores of all
            items, float [B, I], of which the k highest are the answers.
          sample_weight: [B], the weight of each user.
        """
        relevant, answers = _relevant_and_answers(y_true, y_pred, self.k)
        hits = tf.reduce_any(answers[:, :, tf.newaxis] == relevant[:, tf.newaxis, :], axis=2)
        hits &= answers != _padding(answers)
        gain = self._gain(hits)
        # Of several equal items the first counts.
        same = tf.linalg.band_part(tf.cast(relevant[:, :, tf.newaxis] == relevant[:, tf.newaxis, :], tf.int32), -1, 0)
        is_first = (tf.reduce_sum(same, axis=2) == 1) & (relevant != _padding(relevant))
        num_relevant = tf.reduce_sum(tf.cast(is_first, tf.float32), axis=1)
        weight = tf.cast(num_relevant > 0, tf.float32)
        if sample_weight is not None:
            weight *= tf.reshape(tf.cast(sample_weight, tf.float32), [-1])
        self._total.assign_add(tf.reduce_sum(weight * self._value(gain, num_relevant)))
        self._count.assign_add(tf.reduce_sum(weight))

    def track_users(self, num_users: int) -> None:
        """Makes room for the sums of `update_pairs`: two numbers for each of `num_users` users."""
        if self._gain_of_user is None:
            self._gain_of_user = self.add_weight("gain_of_user", [num_users], initializer="zeros")
            self._relevant_of_user = self.add_weight("relevant_of_user", [num_users], initializer="zeros")

    def update_pairs(self, user_index: tf.Tensor, item_index: tf.Tensor, answers: tf.Tensor) -> None:
        """Takes in relevant items one by one: those of a user may come in several batches, each once.

        Args:
          user_index: int [B].
          item_index: int32 [B], an item that is relevant to the user.
          answers: int32 [B, K], those of the user, as of `update_state`.

        Raises:
          ValueError: `track_users` wasn't called before.
        """
        if self._gain_of_user is None:
            raise ValueError(f"{self.name} doesn't know how many users there are: call track_users(num_users) first")
        gain = self._gain(answers[:, : self.k] == item_index[:, tf.newaxis])
        rows = user_index[:, tf.newaxis]
        size = self._gain_of_user.shape
        # Not a scatter into the variable, which a distribution strategy doesn't have.
        self._gain_of_user.assign_add(tf.scatter_nd(rows, gain, size))
        self._relevant_of_user.assign_add(tf.scatter_nd(rows, tf.ones_like(gain), size))

    def result(self) -> tf.Tensor:
        """The mean so far, float32 []; 0 before there is a user."""
        total, count = tf.convert_to_tensor(self._total), tf.convert_to_tensor(self._count)
        if self._gain_of_user is not None:
            num_relevant = tf.convert_to_tensor(self._relevant_of_user)
            total += tf.reduce_sum(self._value(tf.convert_to_tensor(self._gain_of_user), num_relevant))
            count += tf.reduce_sum(tf.cast(num_relevant > 0, tf.float32))
        return tf.math.divide_no_nan(total, count)

    def reset_state(self) -> None:
        """Forgets all users."""
        for variable in self.variables:
            variable.assign(tf.zeros(variable.shape, variable.dtype))

    def _gain(self, hits: tf.Tensor) -> tf.Tensor:
        return tf.linalg.matvec(tf.cast(hits, tf.float32), tf.constant(self.gains())[: tf.shape(hits)[1]])

    def _value(self, gain: tf.Tensor, num_relevant: tf.Tensor) -> tf.Tensor:
        best = self.best_gain(tf.maximum(num_relevant, 1.0))
        return tf.where(num_relevant > 0, gain / best, tf.zeros_like(gain))

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "k": self.k}


@tf_keras.utils.register_keras_serializable(package="tf_hqgnn")
class NDCG(TopKMetric):
    """NDCG@k with binary relevance, as `evaluation.metrics.ranking_metrics` has it.

        sum_j hit_j / log2(j + 1)  divided by its maximum,  sum_(j <= min(|relevant|, k)) 1 / log2(j + 1)

    Args:
      k: How many answers count, at least 1.
      name: "ndcg@k" by default.

    Example:
      >>> ndcg = NDCG(k=2)
      >>> ndcg.update_state([[3, -1]], [[1, 3]])  # the one relevant item stands in the second place
      >>> round(float(ndcg.result()), 4), ndcg.name
      (0.6309, 'ndcg@2')
      >>> float(NDCG(k=2)([["film"]], [["film", "book"]]))  # ids, as a server answers with them
      1.0
    """

    measure = "ndcg"

    def gains(self) -> Float32Array:
        """1 / log2(j + 1)."""
        discounts: Float32Array = (1 / np.log2(np.arange(2, self.k + 2))).astype(np.float32)
        return discounts

    def best_gain(self, num_relevant: tf.Tensor) -> tf.Tensor:
        """The gains of the first places."""
        ideal = tf.constant(np.cumsum(self.gains()), tf.float32)
        return tf.gather(ideal, tf.cast(tf.minimum(num_relevant, float(self.k)), tf.int32) - 1)


@tf_keras.utils.register_keras_serializable(package="tf_hqgnn")
class Recall(TopKMetric):
    """Recall@k: the share of a user's relevant items that are among its k best answers.

    Args:
      k: How many answers count, at least 1.
      name: "recall@k" by default.

    Example:
      >>> recall = Recall(k=2)
      >>> recall.update_state([[0, 2]], [[0.1, 0.7, 0.9]])  # scores of three items: the best are 2 and 1
      >>> float(recall.result())
      0.5
    """

    measure = "recall"

    def gains(self) -> Float32Array:
        """1 for each place."""
        return np.ones(self.k, np.float32)

    def best_gain(self, num_relevant: tf.Tensor) -> tf.Tensor:
        """As many as there are."""
        return num_relevant


_MEASURES = {metric.measure: metric for metric in (NDCG, Recall)}


def make_metric(metric: TopKMetric | str) -> TopKMetric:
    """The metric that a name such as "ndcg@20" stands for; a metric stays what it is.

    Raises:
      ValueError: It is neither.

    Example:
      >>> make_metric("recall@10").k
      10
    """
    if isinstance(metric, TopKMetric):
        return metric
    measure, _, k = str(metric).partition("@")
    if measure not in _MEASURES or not k.isdecimal():
        raise ValueError(
            f"metrics must be of tf_hqgnn.metrics, or names such as 'ndcg@20' or 'recall@20', got {metric!r}"
        )
    return _MEASURES[measure](int(k))


def _relevant_and_answers(y_true: Any, y_pred: Any, k: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Items [B, n] and answers [B, at most k] of one dtype."""
    relevant, answers = tf.convert_to_tensor(y_true), tf.convert_to_tensor(y_pred)
    if relevant.shape.rank == 1:
        relevant = relevant[:, tf.newaxis]
    if answers.dtype.is_floating:
        scores, answers = tf.math.top_k(answers, tf.minimum(k, tf.shape(answers)[1]))
        answers = tf.where(scores == -float("inf"), -1, answers)
    if relevant.dtype != tf.string:
        # Keras turns integers into what it computes with.
        relevant, answers = tf.cast(relevant, tf.int64), tf.cast(answers, tf.int64)
    return relevant, answers[:, :k]


def _padding(items: tf.Tensor) -> tf.Tensor:
    return tf.constant("" if items.dtype == tf.string else -1, items.dtype)
