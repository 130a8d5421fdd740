"""Each user's k-th best score of all items, for a loss that compares pairs with it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import tensorflow as tf
import tf_keras

from tf_hqgnn.retrieval.exact import ExactTopK
from tf_hqgnn.retrieval.queries import Queries
from tf_hqgnn.retrieval.rows import Float32Rows

if TYPE_CHECKING:
    from tf_hqgnn.models.hqgnn import HQGNN


# Of more items, a sample is ranked: as many of them as leave the threshold at this rank.
_MOST_ITEMS, _SAMPLED_RANK = 4096, 4


class ThresholdRefresh(tf_keras.callbacks.Callback):
    """Finds the thresholds anew when an epoch begins, by the rows that the loss sees; see `refresh_thresholds`."""

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Assigns `model.thresholds`."""
        del epoch, logs
        refresh_thresholds(self.model)


def refresh_thresholds(model: HQGNN) -> None:
    """Sets `model.thresholds` to each user's k-th best score of all items, what the user took included.

    Of a large catalogue with a k above 4, it is the fourth best of a random share 4 / k of the items, drawn anew in
    each epoch, which for a k of 20 takes a fifth of the time.

    Args:
      model: with a loss that has a `threshold_rank`; nothing happens where the loss has none.
    """
    rank = min(model.batch_loss.threshold_rank, model.num_items)
    if not rank or model.thresholds is None:
        return
    sampled = model.num_items > _MOST_ITEMS and rank > _SAMPLED_RANK
    step = 0 if model.optimizer is None else model.optimizer.iterations

    @tf.function(autograph=False)
    def kth_best(step: tf.Tensor) -> tf.Tensor:
        users, items = model.quantize(*model.encoder.encode_tables(model.user_table, model.item_table))
        if not model.batch_loss.reads_lengths:
            users, items = tf.math.l2_normalize(users, axis=1), tf.math.l2_normalize(items, axis=1)
        if sampled:
            draws = tf.random.stateless_uniform([model.num_items], tf.stack([tf.cast(model.seed, tf.int64), step]))
            items = tf.gather(items, tf.math.top_k(draws, -(-model.num_items * _SAMPLED_RANK // rank)).indices)
        k = tf.constant(_SAMPLED_RANK if sampled else rank)
        scores, _ = ExactTopK(Float32Rows(items)).call(Queries(users), k)
        return scores[:, -1]

    model.thresholds.assign(kth_best(tf.cast(step, tf.int64)))
