"""The trainable model: two tables, an encoder, perhaps quantizers, a loss."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras

from tf_hqgnn.config import QuantizationConfig
from tf_hqgnn.graph.interaction_graph import InteractionGraph
from tf_hqgnn.layers.graph_ode import GraphODE
from tf_hqgnn.layers.low_bit_quantizer import LowBitQuantizer
from tf_hqgnn.losses.loss import BatchContext, Loss, WeightedBatchContext, make_loss
from tf_hqgnn.losses.softmax import Softmax
from tf_hqgnn.models.batch_loss import context_of, counts_of, decayed_loss
from tf_hqgnn.models.batches import Features, as_features, wanted_items, with_wishes
from tf_hqgnn.models.catch_up_adam import CatchUpAdam
from tf_hqgnn.models.delta_refresh import assign_deltas, quantized
from tf_hqgnn.models.dislikes import Dislikes, split_dislikes
from tf_hqgnn.models.encoder import Encoder, GraphEncoder, LookupEncoder
from tf_hqgnn.models.ranking_model import PAIRS, RankingModel
from tf_hqgnn.models.thresholds import ThresholdRefresh
from tf_hqgnn.types import Array, Float32Array


@tf_keras.utils.register_keras_serializable(package="tf_hqgnn")
class HQGNN(RankingModel):
    """Embeddings of users and items, trained by `compile()` and `fit()` on batches of pairs (user, item).

    Batches are `(user_index, item_index)`, or dicts with these keys as of `training_batches()`, which bring along what
    the loss needs. Where they don't, the model draws the negatives, and takes the positives from the graph.

    Args:
      num_users: U.
      num_items: I.
      embedding_dim: d.
      loss: of a batch; None is `Softmax()`.
      encoder: what stands between the tables and the loss; None is LookupEncoder (no graph convolution). A
        `GraphEncoder` without a graph gets `graph`.
      item_count: int [I], training interactions per item, for the popularity correction; None: as of the graph, or each
        counts once.
      user_count: int [U], interactions of each user, for `loss.user_weight`.
      user_quantizer: rounds the encoded users before the loss sees them; None leaves them in full precision.
      item_quantizer: rounds the items.
      weight_decay: times half the mean squared norm of the tables' rows of the batch, which is added to the loss: of
        the tables' rows, not of what encoder and quantizers make of them.
      dislike_weight: times the part of the loss that pushes what a user disliked below what it took, in batches that
        have a `disliked_index`.
      seed: of the initial tables.
      jit_compile_loss: whether XLA compiles loss and gradient.
      start: float32 [U, d] and [I, d], what the tables hold at first; None draws them (Glorot).
      graph: of the training interactions. What a user has taken is never recommended again, and no negative of the
        user's pairs. Saving the model saves it.
      propagation: what the encoded rows go through before the model answers, and not while it trains, as in LightGODE;
        one without a graph gets `graph`.

    Call arguments:
      inputs: A batch of pairs, `(user_index, item_index)` or a dict with these keys, int [B]; or `user_index`, int [B].

    Returns:
      The dot products of the encoded rows: float32 [B] of the pairs; or float32 [B, I] of the users with all items.

    Attributes:
      log_popularity: float32 [I], the log of each item's share of the training interactions.
      batch_loss: the loss.
      user_weight: float32 [U], the weight of each user's pairs, see `Loss.user_weight`.
      thresholds: float32 [U], see `Loss.threshold_rank`; None where the loss doesn't ask for them.

    Reference: LightGODE (arXiv 2407.18910), section 4, with encoder None and loss `alignment_uniformity`; LightGCN
    (arXiv 2002.02126) and NGCF (arXiv 1905.08108) with a GraphEncoder and loss `bpr`; HQ-GNN (arXiv 2309.01032) with
    quantizers as well.

    Example:
      >>> from tf_hqgnn.types import Interactions
      >>> users, items = np.array([0, 0, 1, 2]), np.array([0, 1, 1, 2])
      >>> graph = InteractionGraph.from_interactions(Interactions(users, items), num_users=3, num_items=3)
      >>> model = HQGNN(3, 3, embedding_dim=4, graph=graph)
      >>> model.compile("adam", loss="bpr", metrics=["ndcg@2"])
      >>> pairs = tf.data.Dataset.from_tensor_slices((users, items)).batch(2)
      >>> history = model.fit(pairs, epochs=2, verbose=0)
      >>> scores, item_index = model.recommend([0], k=2)  # items 0 and 1 have been taken already
      >>> item_index.numpy().tolist()
      [[2, -1]]
    """

    def __init__(
        self,
        num_users: int,
        num_items: int,
        embedding_dim: int,
        loss: Loss | None = None,
        encoder: Encoder | None = None,
        item_count: Array | None = None,
        user_count: Array | None = None,
        user_quantizer: LowBitQuantizer | None = None,
        item_quantizer: LowBitQuantizer | None = None,
        weight_decay: float = 0.0,
        dislike_weight: float = 0.1,
        seed: int = 0,
        jit_compile_loss: bool = True,
        start: tuple[Float32Array, Float32Array] | None = None,
        graph: InteractionGraph | Mapping[str, int] | None = None,
        propagation: GraphODE | None = None,
        **kwargs: Any,
    ) -> None:
        if min(num_users, num_items, embedding_dim) < 1:
            raise ValueError(
                "num_users, num_items and embedding_dim must be at least 1, got "
                f"{num_users}, {num_items} and {embedding_dim}"
            )
        super().__init__(num_users, num_items, graph, **kwargs)
        self.embedding_dim = embedding_dim
        self.batch_loss = loss or Softmax()
        self.weight_decay = weight_decay
        self.dislike_weight = dislike_weight
        self.seed = seed
        self.jit_compile_loss = jit_compile_loss
        self.encoder = encoder or LookupEncoder()
        self.propagation = propagation
        if isinstance(graph, InteractionGraph):
            if isinstance(self.encoder, GraphEncoder) and not self.encoder.convolution.has_graph:
                self.encoder.bind(graph)
            if propagation is not None and not propagation.has_graph:
                propagation.bind(graph)
            item_count = graph.item_strength if item_count is None else item_count
            user_count = graph.user_strength if user_count is None else user_count
        if start is None:
            initializers = [tf_keras.initializers.GlorotNormal(seed=seed + offset) for offset in (0, 1)]
        else:
            initializers = [tf.constant_initializer(rows) for rows in start]
        self.user_table = self.add_weight("user_table", [num_users, embedding_dim], initializer=initializers[0])
        self.item_table = self.add_weight("item_table", [num_items, embedding_dim], initializer=initializers[1])
        # Now, not at the first call: a checkpoint is restored before it.
        self.encoder.build([(num_users, embedding_dim), (num_items, embedding_dim), (None,), (None,)])
        self.user_quantizer = user_quantizer
        self.item_quantizer = item_quantizer
        dim = self.encoder.output_dim(embedding_dim)
        for layer, size in ((user_quantizer, num_users), (item_quantizer, num_items), (propagation, None)):
            if layer is not None and not layer.built:
                layer.build([size, dim])
        items, users = counts_of("item_count", item_count, num_items), counts_of("user_count", user_count, num_users)
        log_popularity = np.log(np.maximum(items, 0.5) / max(items.sum(), 1.0))
        self.log_popularity = self.add_constant("log_popularity", [num_items], "float32", log_popularity)
        self._user_count = self.add_constant("user_count", [num_users], "float64", users)
        weight = self.batch_loss.user_weight(users)
        self.user_weight = self.add_constant("user_weight", [num_users], "float32", weight)
        self.thresholds: tf.Variable | None = None
        self._keep_thresholds()
        self._mean_loss = tf_keras.metrics.Mean(name="loss")
        # The step at which the loss first stopped being finite, or -1.
        self.first_bad_step = tf.Variable(
            -1,
            dtype=tf.int64,
            trainable=False,
            name="first_bad_step",
            aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
        )
        self._compile_loss()
        self.build(None)
        self._set_save_spec(dict(PAIRS))

    def _compile_loss(self) -> None:
        function = tf.function(self._decayed_loss, jit_compile=self.jit_compile_loss, autograph=False)
        # As a function it would be saved with the model, which is never trained where this package is missing.
        self._compiled_loss_of_rows: Callable[..., tf.Tensor] = lambda *parts: function(*parts)

    def set_loss(self, loss: Loss) -> None:
        """See `RankingModel`."""
        self.batch_loss = loss
        self.user_weight.assign(loss.user_weight(self._user_count.numpy()).astype(np.float32))
        self._keep_thresholds()
        self._compile_loss()

    def _keep_thresholds(self) -> None:
        if self.thresholds is None and self.batch_loss.threshold_rank:
            # Below every score, until an epoch begins.
            lowest = np.full(self.num_users, -1.0)
            self.thresholds = self.add_constant("thresholds", [self.num_users], "float32", lowest)

    def fit_callbacks(self) -> list[tf_keras.callbacks.Callback]:
        """See `RankingModel`."""
        return [*super().fit_callbacks(), *([ThresholdRefresh()] if self.batch_loss.threshold_rank else [])]

    @property
    def metrics(self) -> list[tf_keras.metrics.Metric]:
        """The running mean of the loss, and the metrics of ranking; Keras resets them every epoch."""
        return [self._mean_loss, *self._ranking_metrics]

    def scores_of_pairs(self, features: Features) -> tf.Tensor:
        """See `RankingModel`."""
        if self.propagation is not None:
            return super().scores_of_pairs(features)
        users, items = self.encode(features["user_index"], features["item_index"])
        users, items = self.quantize(users, items)
        return tf.reduce_sum(users * items, axis=-1)

    def rows(self) -> tuple[tf.Tensor, tf.Tensor]:
        """See `RankingModel`."""
        return self.quantize(*self._propagated())

    def _propagated(self) -> tuple[tf.Tensor, tf.Tensor]:
        users, items = self.encoder.encode_tables(self.user_table, self.item_table)
        if self.propagation is not None:
            users, items = tf.split(self.propagation(tf.concat([users, items], 0)), [self.num_users, self.num_items])
        return tf.convert_to_tensor(users), tf.convert_to_tensor(items)

    def embeddings(self) -> tuple[Float32Array, Float32Array]:
        """The rows that the model answers with, before any quantizer, float32 [U, d'] and [I, d']."""
        users, items = self._propagated()
        return users.numpy(), items.numpy()

    def encode(
        self, user_index: tf.Tensor, item_index: tf.Tensor, training: bool = False
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """The encoded rows of users and items that the loss sees, before any quantizer."""
        inputs = (self.user_table, self.item_table, user_index, item_index)
        users, items = self.encoder(inputs, training=training, step=self._step(training))
        return users, items

    def quantize(
        self,
        users: tf.Tensor,
        items: tf.Tensor,
        index: tuple[tf.Tensor | None, tf.Tensor | None] = (None, None),
        training: bool = False,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Encoded rows [..., d], rounded where there is something to round them; `index` says which rows they are."""
        quantizers, step = (self.user_quantizer, self.item_quantizer), self._step(training)
        coded_users, coded_items = map(quantized, quantizers, (users, items), index, (step, step))
        return coded_users, coded_items

    def _step(self, training: bool) -> tf.Tensor | None:
        # The step is part of every checkpoint, so a resumed run draws the same random numbers.
        return self.optimizer.iterations if training and self.optimizer is not None else None

    def compute_loss(self, features: Features, training: bool = False) -> tf.Tensor:
        """The loss of one batch, as of `training_batches()`.

        While training on several replicas, the share that this one's part has in the mean over all parts: gradients
        are summed. Without `is_positive` only an item's own repetitions in the batch are masked.
        """
        wanted = wanted_items(features)
        users, items = self.encode(features["user_index"], wanted, training)
        users, items = self.quantize(users, items, (features["user_index"], wanted), training)
        items, dislikes = split_dislikes(features, items)
        negatives = items[:, 1:] if "negative_index" in features else None
        decayed = None
        other_rows = self.encoder.convolves or self.user_quantizer is not None or self.item_quantizer is not None
        if other_rows and self.weight_decay:
            decayed = [tf.gather(self.user_table, features["user_index"]), tf.gather(self.item_table, wanted)]
        context = self.batch_context(features)
        loss = self._compiled_loss_of_rows(users, items[:, 0], negatives, context, decayed, dislikes)
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        return loss / replicas if training and replicas > 1 else loss

    def loss_of_rows(self, users: tf.Tensor, items: tf.Tensor, negatives: tf.Tensor | None, context: Any) -> tf.Tensor:
        """The loss of the quantized rows of a batch, without weight decay, which acts on the tables."""
        # In a graph that XLA compiles as a whole, a function within it would hide from its second derivative which of
        # its values are constants.
        loss = self._decayed_loss if tf.inside_function() else self._compiled_loss_of_rows
        return loss(users, items, negatives, context, [])

    def _decayed_loss(
        self,
        users: tf.Tensor,
        items: tf.Tensor,
        negatives: tf.Tensor | None,
        context: BatchContext | WeightedBatchContext | None,
        decayed: list[tf.Tensor] | None,
        dislikes: Dislikes | None = None,
    ) -> tf.Tensor:
        """See `decayed_loss`."""
        settings = (self.weight_decay, self.dislike_weight)
        return decayed_loss(self.batch_loss, (users, items, negatives), context, decayed, dislikes, *settings)

    def batch_context(self, features: Features) -> BatchContext | WeightedBatchContext | None:
        """Returns what the loss is told of a batch besides its rows; None if it needs nothing and no pair has a weight.

        Args:
          features: of the batch, as `call` gets them; `is_positive` is taken as it is where it is there.
        """
        return context_of(features, self.batch_loss, self.user_weight, self.log_popularity, self.thresholds)

    # Nothing here is Python control flow over tensors; converting it would take longer than an epoch of a small log.
    @tf.autograph.experimental.do_not_convert
    def train_step(self, data: Any) -> dict[str, tf.Tensor]:
        """One optimizer step on a batch of pairs; remembers the first step whose loss was not finite."""
        features = self._with_wishes(as_features(data), self.optimizer.iterations)
        if isinstance(self.optimizer, CatchUpAdam):
            self.optimizer.catch_up(self.user_table, features["user_index"])
            self.optimizer.catch_up(self.item_table, tf.reshape(wanted_items(features), [-1]))
        with tf.GradientTape() as tape, self.encoder.unsaved():
            loss = self.compute_loss(features, training=True)
        self.optimizer.minimize(loss, self.trainable_variables, tape=tape)
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        self._mean_loss.update_state(loss * replicas if replicas > 1 else loss)
        mean = self._mean_loss.result()
        # The mean is that of all replicas, of which any may be the first to lose its footing.
        watched = mean if replicas > 1 else loss
        is_first_bad = tf.logical_not(tf.math.is_finite(watched)) & (self.first_bad_step < 0)
        self.first_bad_step.assign(tf.where(is_first_bad, self.optimizer.iterations, self.first_bad_step))
        return {"loss": mean, **self._deltas()}

    @tf.autograph.experimental.do_not_convert
    def test_step(self, data: Any) -> dict[str, tf.Tensor]:
        """The loss of a batch of held-out pairs, and the metrics of ranking that the model was compiled with."""
        features = as_features(data)
        self._mean_loss.update_state(self.compute_loss(self._with_wishes(features, 0)))
        return {"loss": self._mean_loss.result(), **self.update_ranking_metrics(features)}

    def _with_wishes(self, features: Features, step: tf.Tensor | int) -> Features:
        return with_wishes(features, self.batch_loss, self._seen, self.num_items, self.seed, step)

    def refresh_deltas(self, features: Features, config: QuantizationConfig) -> dict[str, tf.Tensor]:
        """Sets deltas by the curvature at a batch, see `delta_refresh.assign_deltas`; returns them by name."""
        assign_deltas(self, features, config)
        return self._deltas()

    def train_log_names(self) -> tuple[str, ...]:
        """See `RankingModel`."""
        return ("loss", *self._deltas())

    def _deltas(self) -> dict[str, tf.Tensor]:
        quantizers = {"delta_users": self.user_quantizer, "delta_items": self.item_quantizer}
        return {name: tf.reduce_mean(layer.delta) for name, layer in quantizers.items() if layer is not None}

    def get_config(self) -> dict[str, Any]:
        """Arguments of the constructor, JSON-ready; what belongs to users and items is in the weights."""
        return {
            "name": self.name,
            "num_users": self.num_users,
            "num_items": self.num_items,
            "embedding_dim": self.embedding_dim,
            "loss": self.batch_loss.get_config(),
            "encoder": tf_keras.utils.serialize_keras_object(self.encoder),
            "user_quantizer": _serialized(self.user_quantizer),
            "item_quantizer": _serialized(self.item_quantizer),
            "weight_decay": self.weight_decay,
            "dislike_weight": self.dislike_weight,
            "seed": self.seed,
            "jit_compile_loss": self.jit_compile_loss,
            "graph": self.graph_config(),
            "propagation": _serialized(self.propagation),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> HQGNN:
        """The model that get_config() describes, with tables initialised anew."""
        config = dict(config)
        config["loss"] = make_loss(**config["loss"])
        for name in ("encoder", "user_quantizer", "item_quantizer", "propagation"):
            if config.get(name) is not None:
                config[name] = tf_keras.utils.deserialize_keras_object(config[name], custom_objects)
        return cls(**config)


def _serialized(layer: tf_keras.layers.Layer | None) -> dict[str, Any] | None:
    return None if layer is None else tf_keras.utils.serialize_keras_object(layer)
