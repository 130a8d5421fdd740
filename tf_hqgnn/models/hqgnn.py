"""The trainable model: two tables, an encoder, perhaps quantizers, a loss."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras

from tf_hqgnn.config import QuantizationConfig
from tf_hqgnn.graph.unique_rows import unique_rows
from tf_hqgnn.layers.low_bit_quantizer import LowBitQuantizer
from tf_hqgnn.losses.loss import BatchContext, Loss, make_loss
from tf_hqgnn.losses.softmax import Softmax
from tf_hqgnn.models.encoder import Encoder, LookupEncoder
from tf_hqgnn.quantization.hessian import hutchinson_trace
from tf_hqgnn.types import Array, Float32Array, Float64Array


@tf_keras.utils.register_keras_serializable(package="tf_hqgnn")
class HQGNN(tf_keras.Model):
    """Embeddings of users and items, trained by `fit()` on batches of training_batches().

    Args:
      num_users: U.
      num_items: I.
      embedding_dim: d.
      loss: of a batch; None is `Softmax()`.
      encoder: what stands between the tables and the loss; None is LookupEncoder (no graph convolution).
      item_count: int [I], training interactions per item, for the popularity correction; None counts each once.
      user_count: int [U], likewise per user, for `loss.user_weight`.
      user_quantizer: rounds the encoded users before the loss sees them; None leaves them in full precision.
      item_quantizer: likewise the items.
      weight_decay: times half the mean squared norm of the tables' rows of the batch, which is added to the loss: of
        the tables' rows, not of what encoder and quantizers make of them.
      seed: of the initial tables.
      jit_compile_loss: whether XLA compiles loss and gradient (the sparse updates around them are never compiled).
      start: float32 [U, d] and [I, d], what the tables hold at first; None draws them (Glorot).

    Call arguments:
      features: {"user_index": int32 [B], "item_index": int32 [B]}.

    Returns:
      float32 [B], the dot products of the encoded rows.

    Attributes:
      log_popularity: float32 [I], the log of each item's share of the training interactions.
      batch_loss: the loss.
      user_weight: float32 [U], the weight of each user's pairs, see `Loss.user_weight`.

    Reference: LightGODE (arXiv 2407.18910), section 4, with encoder None and loss `alignment_uniformity`; LightGCN
    (arXiv 2002.02126) and NGCF (arXiv 1905.08108) with a GraphEncoder and loss `bpr`; HQ-GNN (arXiv 2309.01032) with
    quantizers as well.
    """

    train_function: Callable[[Any], dict[str, tf.Tensor]] | None

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
        seed: int = 0,
        jit_compile_loss: bool = True,
        start: tuple[Float32Array, Float32Array] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if min(num_users, num_items, embedding_dim) < 1:
            raise ValueError(
                "num_users, num_items and embedding_dim must be at least 1, got "
                f"{num_users}, {num_items} and {embedding_dim}"
            )
        self.num_users = num_users
        self.num_items = num_items
        self.embedding_dim = embedding_dim
        self.batch_loss = loss or Softmax()
        self.weight_decay = weight_decay
        self.seed = seed
        self.jit_compile_loss = jit_compile_loss
        self.encoder = encoder or LookupEncoder()
        self._item_count = _counts("item_count", item_count, num_items)
        self._user_count = _counts("user_count", user_count, num_users)
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
        for quantizer in (user_quantizer, item_quantizer):
            if quantizer is not None and not quantizer.built:
                quantizer.build([None, None])
        total = max(self._item_count.sum(), 1.0)
        self.log_popularity = tf.constant(np.log(np.maximum(self._item_count, 0.5) / total), tf.float32)
        self.user_weight = tf.constant(self.batch_loss.user_weight(self._user_count), tf.float32)
        self._loss_of_rows = tf.function(self._decayed_loss, jit_compile=jit_compile_loss, autograph=False)
        self._mean_loss = tf_keras.metrics.Mean(name="loss")
        # The step at which the loss first stopped being finite, or -1.
        self.first_bad_step = tf.Variable(
            -1,
            dtype=tf.int64,
            trainable=False,
            name="first_bad_step",
            aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
        )

    @property
    def metrics(self) -> list[tf_keras.metrics.Metric]:
        """The running mean of the loss; Keras resets it every epoch."""
        return [self._mean_loss]

    def call(self, features: dict[str, tf.Tensor]) -> tf.Tensor:
        """Scores of the pairs."""
        users, items = self._encode(features["user_index"], features["item_index"])
        users, items = self._quantize(users, items)
        return tf.reduce_sum(users * items, axis=-1)

    def embeddings(self) -> tuple[Float32Array, Float32Array]:
        """The encoded tables before any quantizer, float32 [U, d'] and [I, d']."""
        users, items = self.encoder.encode_tables(self.user_table, self.item_table)
        return users.numpy(), items.numpy()

    def _encode(
        self, user_index: tf.Tensor, item_index: tf.Tensor, training: bool = False
    ) -> tuple[tf.Tensor, tf.Tensor]:
        # The step is part of every checkpoint, so a resumed run draws the same random numbers.
        step = self.optimizer.iterations if training and self.optimizer is not None else None
        inputs = (self.user_table, self.item_table, user_index, item_index)
        users, items = self.encoder(inputs, training=training, step=step)
        return users, items

    def _quantize(self, users: tf.Tensor, items: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return _quantized(self.user_quantizer, users), _quantized(self.item_quantizer, items)

    def compute_loss(self, features: dict[str, tf.Tensor], training: bool = False) -> tf.Tensor:
        """The loss of one batch of training_batches().

        While training on several replicas, the share that this one's part has in the mean over all parts: gradients
        are summed. Without `is_positive` only an item's own repetitions in the batch are masked.
        """
        wanted = _wanted_items(features)
        users, items = self._encode(features["user_index"], wanted, training)
        users, items = self._quantize(users, items)
        negatives = items[:, 1:] if "negative_index" in features else None
        decayed = None
        other_rows = self.encoder.convolves or self.user_quantizer is not None or self.item_quantizer is not None
        if other_rows and self.weight_decay:
            decayed = [tf.gather(self.user_table, features["user_index"]), tf.gather(self.item_table, wanted)]
        loss = self._loss_of_rows(users, items[:, 0], negatives, self.batch_context(features), decayed)
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        return loss / replicas if training and replicas > 1 else loss

    def _decayed_loss(
        self,
        users: tf.Tensor,
        items: tf.Tensor,
        negatives: tf.Tensor | None,
        context: BatchContext | None,
        decayed: list[tf.Tensor] | None,
    ) -> tf.Tensor:
        """The loss with weight decay on `decayed`: None stands for the rows themselves, an empty list for none."""
        value = self.batch_loss(users, items, negatives, context)
        if self.weight_decay and decayed != []:
            if decayed is None:
                decayed = [users, items] if negatives is None else [users, items, negatives]
            # Not rows**2: the gradient of a power costs XLA a call of pow for every number.
            half_squares = tf.add_n([tf.nn.l2_loss(rows) for rows in decayed])
            value += self.weight_decay * half_squares / tf.cast(tf.shape(users)[0], users.dtype)
        return value

    def batch_context(self, features: dict[str, tf.Tensor]) -> BatchContext | None:
        """Returns what the loss is told of a batch besides its rows; None if it needs nothing.

        Args:
          features: of the batch, as `call` gets them; `is_positive` is taken as it is where it is there.
        """
        if not self.batch_loss.needs_context:
            return None
        item_index = features["item_index"]
        is_positive = features.get("is_positive")
        if is_positive is None:
            is_positive = tf.equal(item_index[:, tf.newaxis], item_index[tf.newaxis, :])
        weight = tf.gather(self.user_weight, features["user_index"])
        return BatchContext(is_positive, tf.gather(self.log_popularity, item_index), weight)

    # Nothing here is Python control flow over tensors; converting it would take longer than an epoch of a small log.
    @tf.autograph.experimental.do_not_convert
    def train_step(self, features: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """One optimizer step; remembers the first step whose loss was not finite."""
        with tf.GradientTape() as tape:
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

    def test_step(self, features: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """The loss of one batch, for `evaluate()`; metrics of ranking come from `tf_hqgnn.evaluation.metrics`."""
        self._mean_loss.update_state(self.compute_loss(features))
        return {"loss": self._mean_loss.result()}

    def make_train_function(self, force: bool = False) -> Callable[[Any], dict[str, tf.Tensor]]:
        """Keras' function of `steps_per_execution` steps, which returns what the last one logs.

        Without Python control flow over tensors, as Keras' own has it: converting that takes half a second.
        """
        if self.train_function is None or force:
            strategy = self.distribute_strategy

            def step(number: tf.Tensor, _: dict[str, tf.Tensor], iterator: Any) -> tuple[Any, dict[str, tf.Tensor]]:
                logs = strategy.run(self.train_step, args=(iterator.get_next(),))
                self._train_counter.assign_add(1)
                # What is logged is the same on all replicas.
                return number + 1, {name: strategy.experimental_local_results(logs[name])[0] for name in logs}

            @tf.function(autograph=False, reduce_retracing=True)
            def steps(iterator: Any) -> dict[str, tf.Tensor]:
                start = {name: tf.zeros([]) for name in ("loss", *self._deltas())}
                logs: dict[str, tf.Tensor]
                _, logs = tf.while_loop(
                    lambda number, _: number < self._steps_per_execution,
                    lambda number, logs: step(number, logs, iterator),
                    (tf.zeros_like(self._steps_per_execution), start),
                    parallel_iterations=1,
                )
                return logs

            self.train_function = self.train_tf_function = steps
        return self.train_function

    def refresh_deltas(self, features: dict[str, tf.Tensor], config: QuantizationConfig) -> dict[str, tf.Tensor]:
        """Sets the delta of every quantizer whose delta follows the Hessian, by the curvature at a batch.

        The Hessian and the gradients are those of the quantized rows that the batch touches, each once.

        Args:
          features: a batch as `fit` gets it.
          config: how the trace is found: `exact` (of a loss with `exact_trace`) or `hutchinson`.

        Returns:
          The new deltas by name, to be logged.
        """
        context, wanted = self.batch_context(features), _wanted_items(features)
        # Rows left over beside the distinct ones are touched by no loss, and count for nothing.
        touched_users, user_place, _ = unique_rows(features["user_index"])
        touched_items, item_place, _ = unique_rows(tf.reshape(wanted, [-1]))
        users, items = self._encode(touched_users, touched_items)
        coded_users, coded_items = self._quantize(users, items)

        def batch_rows(users: tf.Tensor, items: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor | None]:
            of_batch = tf.gather(items, tf.reshape(item_place, tf.shape(wanted)))
            negatives = of_batch[:, 1:] if "negative_index" in features else None
            return tf.gather(users, user_place), of_batch[:, 0], negatives

        # In a graph that XLA compiles as a whole, a function within it would hide from its second derivative which of
        # its values are constants.
        loss_of_rows = self._decayed_loss if tf.inside_function() else self._loss_of_rows

        def loss(users: tf.Tensor, items: tf.Tensor) -> tf.Tensor:
            # Weight decay acts on the tables, not on these rows.
            return loss_of_rows(*batch_rows(users, items), context, [])

        with tf.GradientTape() as tape:
            tape.watch([coded_users, coded_items])
            value = loss(coded_users, coded_items)
        gradients = tape.gradient(value, [coded_users, coded_items])
        if config.trace == "exact":
            traces = self.batch_loss.hessian_traces(*batch_rows(coded_users, coded_items))
        else:
            step = self.optimizer.iterations if self.optimizer is not None else 0
            losses = (lambda x: loss(x, coded_items), lambda x: loss(coded_users, x))
            traces = tuple(
                hutchinson_trace(
                    of_rows, rows, num_probes=config.trace_probes, tolerance=config.trace_tolerance, seed=step
                ).trace
                for of_rows, rows in zip(losses, (coded_users, coded_items))
            )
        sides = (self.user_quantizer, self.item_quantizer)
        for quantizer, rows, gradient, trace in zip(sides, (users, items), gradients, traces):
            if quantizer is not None and quantizer.follows_hessian:
                quantizer.refresh_delta(rows, gradient, trace)
        return self._deltas()

    def _deltas(self) -> dict[str, tf.Tensor]:
        quantizers = {"delta_users": self.user_quantizer, "delta_items": self.item_quantizer}
        return {name: tf.identity(layer.delta) for name, layer in quantizers.items() if layer is not None}

    def get_config(self) -> dict[str, Any]:
        """Arguments of the constructor, JSON-ready."""
        return {
            "name": self.name,
            "num_users": self.num_users,
            "num_items": self.num_items,
            "embedding_dim": self.embedding_dim,
            "loss": self.batch_loss.get_config(),
            "encoder": tf_keras.utils.serialize_keras_object(self.encoder),
            "item_count": self._item_count.tolist(),
            "user_count": self._user_count.tolist(),
            "user_quantizer": _serialized(self.user_quantizer),
            "item_quantizer": _serialized(self.item_quantizer),
            "weight_decay": self.weight_decay,
            "seed": self.seed,
            "jit_compile_loss": self.jit_compile_loss,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> HQGNN:
        """The model that get_config() describes, with tables initialised anew."""
        config = dict(config)
        config["loss"] = make_loss(**config["loss"])
        for name in ("encoder", "user_quantizer", "item_quantizer"):
            if config[name] is not None:
                config[name] = tf_keras.utils.deserialize_keras_object(config[name], custom_objects)
        return cls(**config)


def _counts(name: str, counts: Array | None, size: int) -> Float64Array:
    """float64 [size], ones where there are none."""
    values = np.ones(size) if counts is None else np.asarray(counts, np.float64)
    if values.shape != (size,):
        raise ValueError(f"{name} must have {size} entries, got shape {values.shape}")
    return values


def _wanted_items(features: dict[str, tf.Tensor]) -> tf.Tensor:
    """int32 [B, 1 + n], the item of each pair and its negatives, if there are any."""
    parts = [features["item_index"][:, tf.newaxis]]
    if "negative_index" in features:
        parts.append(features["negative_index"])
    return tf.concat(parts, axis=1)


def _quantized(quantizer: LowBitQuantizer | None, rows: tf.Tensor) -> tf.Tensor:
    """Rows [..., d], rounded if there is something to round them."""
    if quantizer is None:
        return rows
    return tf.reshape(quantizer(tf.reshape(rows, [-1, rows.shape[-1]])), tf.shape(rows))


def _serialized(layer: tf_keras.layers.Layer | None) -> dict[str, Any] | None:
    return None if layer is None else tf_keras.utils.serialize_keras_object(layer)
