"""The trainable model: two tables, an encoder, a loss."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_recommenders as tfrs
import tf_keras

from tf_hqgnn.config import LossConfig
from tf_hqgnn.losses import make_loss
from tf_hqgnn.models.encoder import Encoder, LookupEncoder


@tf_keras.utils.register_keras_serializable(package="tf_hqgnn")
class HQGNN(tfrs.Model):
    """Embeddings of users and items, trained by `fit()` on batches of training_batches().

    Args:
      num_users: U.
      num_items: I.
      embedding_dim: d.
      loss: settings of the loss.
      encoder: what stands between the tables and the loss; None is LookupEncoder (no graph convolution). Weight decay
        applies to the tables' rows of the batch, not to what the encoder makes of them.
      item_count: int [I], training interactions per item, for the popularity correction; None counts each once.
      seed: of the initial tables.
      jit_compile_loss: whether XLA compiles loss and gradient (the sparse updates around them are never compiled).

    Call arguments:
      features: {"user_index": int32 [B], "item_index": int32 [B]}.

    Returns:
      float32 [B], the dot products of the encoded rows.

    Reference: LightGODE (arXiv 2407.18910), section 4, with encoder None and loss `alignment_uniformity`; LightGCN
    (arXiv 2002.02126) and NGCF (arXiv 1905.08108) with a GraphEncoder and loss `bpr`.
    """

    def __init__(
        self,
        num_users: int,
        num_items: int,
        embedding_dim: int,
        loss: LossConfig | None = None,
        encoder: Encoder | None = None,
        item_count: np.ndarray | None = None,
        seed: int = 0,
        jit_compile_loss: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if min(num_users, num_items, embedding_dim) < 1:
            raise ValueError(
                "num_users, num_items and embedding_dim must be at least 1, got "
                f"{num_users}, {num_items} and {embedding_dim}"
            )
        counts = np.ones(num_items) if item_count is None else np.asarray(item_count, np.float64)
        if counts.shape != (num_items,):
            raise ValueError(f"item_count must have one entry an item, [{num_items}], got shape {counts.shape}")
        self.num_users = num_users
        self.num_items = num_items
        self.embedding_dim = embedding_dim
        self.loss_config = loss or LossConfig()
        self.seed = seed
        self.jit_compile_loss = jit_compile_loss
        self.encoder = encoder or LookupEncoder()
        self._item_count = counts
        initializers = [tf_keras.initializers.GlorotNormal(seed=seed + offset) for offset in (0, 1)]
        self.user_table = self.add_weight("user_table", [num_users, embedding_dim], initializer=initializers[0])
        self.item_table = self.add_weight("item_table", [num_items, embedding_dim], initializer=initializers[1])
        # Now, not at the first call: a checkpoint is restored before it.
        self.encoder.build([(num_users, embedding_dim), (num_items, embedding_dim), (None,), (None,)])
        self._log_popularity = tf.constant(np.log(np.maximum(counts, 0.5) / max(counts.sum(), 1.0)), tf.float32)
        self._loss_of_rows = tf.function(make_loss(self.loss_config), jit_compile=jit_compile_loss)
        self._mean_loss = tf_keras.metrics.Mean(name="loss")
        # The step at which the loss first stopped being finite, or -1.
        self.first_bad_step = tf.Variable(-1, dtype=tf.int64, trainable=False, name="first_bad_step")

    @property
    def metrics(self) -> list[tf_keras.metrics.Metric]:
        """The running mean of the loss; Keras resets it every epoch."""
        return [self._mean_loss]

    def call(self, features: dict[str, tf.Tensor]) -> tf.Tensor:
        """Scores of the pairs."""
        users, items = self._encode(features["user_index"], features["item_index"])
        return tf.reduce_sum(users * items, axis=-1)

    def embeddings(self) -> tuple[np.ndarray, np.ndarray]:
        """The encoded tables, float32 [U, d'] and [I, d']: those that are evaluated and exported."""
        users, items = self.encoder.encode_tables(self.user_table, self.item_table)
        return users.numpy(), items.numpy()

    def _encode(
        self, user_index: tf.Tensor, item_index: tf.Tensor, training: bool = False
    ) -> tuple[tf.Tensor, tf.Tensor]:
        # The step is part of every checkpoint, so a resumed run draws the same random numbers.
        step = self.optimizer.iterations if training and self.optimizer is not None else None
        inputs = (self.user_table, self.item_table, user_index, item_index)
        return self.encoder(inputs, training=training, step=step)

    def compute_loss(self, features: dict[str, tf.Tensor], training: bool = False) -> tf.Tensor:
        """The loss of one batch; with `negative_index` [B, n] where the loss wants negatives."""
        item_index = features["item_index"]
        negative_index = features.get("negative_index")
        wanted = item_index[:, tf.newaxis]
        if negative_index is not None:
            wanted = tf.concat([wanted, negative_index], axis=1)
        users, items = self._encode(features["user_index"], wanted, training)
        negatives = None if negative_index is None else items[:, 1:]
        log_popularity = tf.gather(self._log_popularity, item_index)
        decayed = None
        if self.encoder.convolves and self.loss_config.weight_decay:
            decayed = [tf.gather(self.user_table, features["user_index"]), tf.gather(self.item_table, wanted)]
        return self._loss_of_rows(users, items[:, 0], negatives, item_index, log_popularity, decayed)

    def train_step(self, features: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """One optimizer step; remembers the first step whose loss was not finite."""
        logs = super().train_step(features)
        loss = logs["total_loss"]
        is_first_bad = tf.logical_not(tf.math.is_finite(loss)) & (self.first_bad_step < 0)
        self.first_bad_step.assign(tf.where(is_first_bad, self.optimizer.iterations, self.first_bad_step))
        self._mean_loss.update_state(loss)
        return {"loss": self._mean_loss.result()}

    def get_config(self) -> dict[str, Any]:
        """Arguments of the constructor, JSON-ready."""
        return {
            "name": self.name,
            "num_users": self.num_users,
            "num_items": self.num_items,
            "embedding_dim": self.embedding_dim,
            "loss": self.loss_config.model_dump(mode="json"),
            "encoder": tf_keras.utils.serialize_keras_object(self.encoder),
            "item_count": self._item_count.tolist(),
            "seed": self.seed,
            "jit_compile_loss": self.jit_compile_loss,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> HQGNN:
        """The model that get_config() describes, with tables initialised anew."""
        config = dict(config)
        config["loss"] = LossConfig.model_validate(config["loss"])
        config["encoder"] = tf_keras.utils.deserialize_keras_object(config["encoder"], custom_objects)
        return cls(**config)
