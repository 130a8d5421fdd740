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


class ThresholdRefresh(tf_keras.callbacks.Callback):
    """Finds the thresholds anew when an epoch begins, by the rows that the loss sees; see `Loss.threshold_rank`.

    It scores all items for all users, which on Gowalla takes a fifth of an epoch.
    """

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Assigns `model.thresholds`."""
        del epoch, logs
        refresh_thresholds(self.model)


def refresh_thresholds(model: HQGNN) -> None:
    """Sets `model.thresholds` to each user's k-th best score of all items, what the user took included.

    Args:
      model: with a loss that has a `threshold_rank`; nothing happens where the loss has none.
    """
    rank = model.batch_loss.threshold_rank
    if not rank or model.thresholds is None:
        return

    @tf.function(autograph=False)
    def kth_best() -> tf.Tensor:
        users, items = model.quantize(*model.encoder.encode_tables(model.user_table, model.item_table))
        if not model.batch_loss.reads_lengths:
            users, items = tf.math.l2_normalize(users, axis=1), tf.math.l2_normalize(items, axis=1)
        scores, _ = ExactTopK(Float32Rows(items)).call(Queries(users), tf.constant(min(rank, model.num_items)))
        return scores[:, -1]

    model.thresholds.assign(kth_best())
