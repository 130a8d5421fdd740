"""The optimisation of distillation: two tables under quantizers, step by step towards a full-precision ranking."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np
import tensorflow as tf

from tf_hqgnn.config import QuantizationConfig
from tf_hqgnn.evaluation.ranking import rank
from tf_hqgnn.graph.csr import CSR
from tf_hqgnn.layers.quantizer_probe import QuantizerProbe
from tf_hqgnn.models.factory import make_quantizers
from tf_hqgnn.models.optimizers import LazyAdam
from tf_hqgnn.quantization.coded_embeddings import CodedEmbeddings
from tf_hqgnn.quantization.codes import Codes
from tf_hqgnn.quantization.ranking_divergence import MASKED, order_logits, ranking_divergence
from tf_hqgnn.quantization.rotation import coding_rotation, refit_users
from tf_hqgnn.quantization.temperature import user_temperatures
from tf_hqgnn.training.distillation_probe import Batch, look_at
from tf_hqgnn.types import Float32Array, Int32Array, IntArray

# What was tried: 1-bit items, users in 8 bits, NDCG@20 on validation in % of full precision, one seed, each with the
# other settings of its day; differences below 1 are noise.
# * Rounded: MovieLens-100K 74, Beauty 81, Gowalla 85; rotated 82, 83, 83; with fitted users 89, 83, 81: hence `starts`.
# * A fixed temperature, in deviations of a user's scores: Beauty 87, 89, 87 at 0.3, 0.5, 1.0; Gowalla 92 at 0.4, 90 at
#   0.65. The best items are 5, 8 and 3 deviations ahead in Beauty, Gowalla and MovieLens: hence `top_share`.
# * Without masking what users have seen: Beauty 74 at the end.
# * Adam at 0.05 for both tables: Beauty 87. Items at 0.003, or the relative epsilon: 94. And a cosine decay: 95.
# * Sampled items, Gowalla, 6 epochs: half uniform, half popular 88, with the best items of the batch 89. 15 epochs 92,
#   30 epochs 93.

# Above this, rounding errors are too small for a rotation, or users fitted to them, to matter.
_MAX_PREPARED_BITS = 4

# An epoch has at least so many steps (if there are as many users), whatever the batch size: little data trains, too.
_MIN_STEPS = 8

# The places that the softmax is about, as in NDCG@20.
FIRST_PLACES = 20

# So many best items of each user are known where items are sampled.
_TOP_ITEMS = 64

# Added to the root of Adam's second moment of the items, relative to the gradients of the first batch. Nearly all items
# are far from the top of a batch's rankings, and their gradients are small and noise: Adam as it is would step as far
# with them as with those that matter, and wear down the codes of rarely ranked items.
_RELATIVE_EPSILON = 5.0


class Student:
    """The tables that are trained, and what rounds them."""

    def __init__(self, users: Float32Array, items: Float32Array, config: QuantizationConfig) -> None:
        self.users, self.items = tf.Variable(users), tf.Variable(items)
        self.user_quantizer, self.item_quantizer = make_quantizers(config)
        self.quantizers = [layer for layer in (self.item_quantizer, self.user_quantizer) if layer is not None]
        self.item_quantizer.build(items.shape)
        if self.user_quantizer is not None:
            self.user_quantizer.build(users.shape)
        self.assign(users, items)

    def quantize(
        self, users: tf.Tensor, items: tf.Tensor, index: tuple[tf.Tensor, tf.Tensor], step: tf.Tensor | None = None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """What the codes of rows of both tables stand for.

        Args:
          users: float32 [B, d].
          items: float32 [S, d].
          index: int32 [B] and [S], which rows these are.
          step: int [], of the training, for an estimator that rounds at random.
        """
        if self.user_quantizer is not None:
            users = self.user_quantizer(users, index=index[0], step=step)
        return users, self.item_quantizer(items, index=index[1], step=step)

    def encode(self) -> CodedEmbeddings:
        """The codes of both tables as they are."""
        return CodedEmbeddings(self.encode_users(self.users.numpy()), self.item_quantizer.encode(self.items.numpy()))

    def encode_users(self, users: Float32Array) -> Codes | Float32Array:
        """Codes of users [U, d], or the users where they stay in float32."""
        return users if self.user_quantizer is None else self.user_quantizer.encode(users)

    def assign(self, users: Float32Array, items: Float32Array) -> None:
        """Replaces both tables; learned ranges start anew."""
        self.users.assign(users)
        self.items.assign(items)
        for quantizer, rows in ((self.user_quantizer, users), (self.item_quantizer, items)):
            if quantizer is not None and quantizer.mode == "per_tensor":
                quantizer.adapt_range(rows)

    def starts(self, seed: int) -> Iterator[tuple[Float32Array, Float32Array]]:
        """Tables to start from: as they are; rotated for coding; and with users fitted to the coded items."""
        users, items = self.users.numpy(), self.items.numpy()
        yield users, items
        if self.item_quantizer.num_bits <= _MAX_PREPARED_BITS:
            rotation = coding_rotation(items, seed)
            users, items = users @ rotation, items @ rotation
            yield users, items
            yield refit_users(users, items, self.item_quantizer.encode(items).dequantize()), items


class Trainer:
    """Steps of a student towards the ranking of the full-precision rows."""

    def __init__(
        self,
        student: Student,
        teacher: tuple[Float32Array, Float32Array],
        seen: CSR,
        config: QuantizationConfig,
        seed: int,
    ) -> None:
        users, items = teacher
        settings = config.distillation
        self.student = student
        self.config = config
        self.seed = seed
        self.random = np.random.default_rng(seed)
        self.num_users, self.num_items = len(users), len(items)
        self.num_steps = max(-(-len(users) // settings.batch_size), min(_MIN_STEPS, len(users)))
        # Batches of one size, at most the wanted one: XLA compiles for a shape.
        self.batch_size = -(-len(users) // self.num_steps)
        self.num_sampled = min(settings.num_items or len(items), len(items))
        self.top_items = None
        if self.num_sampled < len(items):
            self.top_items = rank(users, items, np.arange(len(users)), seen, _TOP_ITEMS)
        self.teacher_users, self.teacher_items = tf.constant(users), tf.constant(items)
        self.temperature = tf.constant(user_temperatures(users, items, seen, settings.top_share, FIRST_PLACES, seed))
        self.seen = tf.RaggedTensor.from_row_splits(
            tf.constant(seen[1], tf.int32), tf.constant(seen[0], tf.int64), validate=False
        )
        tables = student.users, student.items
        self.num_epochs, *rates = config.distillation_schedule
        # The levels of b bits are 1 / (2^b - 1) of the range apart: the finer, the shorter the steps.
        finest = 2**student.item_quantizer.num_bits - 1
        self.rates = [rate * _root_mean_square(table) / finest for rate, table in zip(reversed(rates), tables)]
        # A user is in one batch an epoch: moments that forget slowly would take its first few gradients for all.
        self.optimizers = [LazyAdam(self.rates[0], beta_1=0.5, beta_2=0.9), LazyAdam(self.rates[1])]
        for optimizer, table in zip(self.optimizers, tables):
            optimizer.build([table])
        self.ranges = [variable for quantizer in student.quantizers for variable in quantizer.trainable_variables]
        self.range_rate = config.range_factor(self.rates[1]) * self.rates[1]
        self.range_optimizer = LazyAdam(self.range_rate)
        if self.ranges:
            self.range_optimizer.build(self.ranges)
        self._gradients = tf.function(self._gradients_of_rows, jit_compile=True, autograph=False)
        signature = [tf.TensorSpec([None], dtype) for dtype in (tf.int32, tf.int32, tf.float32)]
        self._step = tf.function(self._train_step, input_signature=signature, autograph=False)

    def run_epoch(self, epoch: int) -> dict[str, float]:
        """Every user once; the mean loss, the deltas of the estimator, and how far it bends gradients."""
        # The last batch is filled up from the first.
        order = np.resize(self.random.permutation(self.num_users), self.num_steps * self.batch_size)
        order = order.reshape(self.num_steps, -1).astype(np.int32)
        for quantizer in self.student.quantizers:
            quantizer.set_progress((epoch - 1) / self.num_epochs)
        total, logs = 0.0, {"delta_users": 0.0, "delta_items": 0.0}
        for step, user_index in enumerate(order):
            batch = self._draw(user_index)
            if step == 0:
                logs |= self._start_epoch(epoch, [batch, *map(self._draw, order[1 : self.config.delta_batches])])
            self._set_learning_rates((epoch - 1 + step / self.num_steps) / self.num_epochs)
            total += float(self._step(*batch))
        return {"loss": total / self.num_steps, **logs}

    def _draw(self, user_index: Int32Array) -> list[tf.Tensor]:
        """The arguments of a step: users, items, and how many items each one stands for."""
        return [tf.constant(array) for array in (user_index, *self.sample(user_index))]

    def _set_learning_rates(self, progress: float) -> None:
        """Half a period of a cosine, from all of the rates to nothing."""
        # By hand: Keras advances its schedules in apply_gradients only, which would look for repeated rows.
        decay = 0.5 * (1.0 + np.cos(np.pi * progress))
        for optimizer, rate in zip(self.optimizers, self.rates):
            optimizer.learning_rate.assign(decay * rate)
        self.range_optimizer.learning_rate.assign(decay * self.range_rate)

    def sample(self, user_index: IntArray) -> tuple[Int32Array, Float32Array]:
        """Returns the items of a step, int32 [S], and the logarithm of how many items each one stands for, float32 [S].

        All items; or the best items of the batch's users, best first until three quarters of the sample are filled, and
        others at random, which stand for all that are left out.
        """
        if self.top_items is None:
            return np.arange(self.num_items, dtype=np.int32), np.zeros(self.num_items, np.float32)
        by_rank = self.top_items[user_index].T.ravel()
        distinct, first = np.unique(by_rank[by_rank >= 0], return_index=True)
        best = distinct[np.argsort(first)][: 3 * self.num_sampled // 4]
        others = np.ones(self.num_items, bool)
        others[best] = False
        num_others = self.num_sampled - len(best)
        drawn = self.random.choice(np.flatnonzero(others), num_others, replace=False)
        log_weights = np.zeros(self.num_sampled, np.float32)
        log_weights[len(best) :] = np.log((self.num_items - len(best)) / num_others)
        return np.concatenate([best, drawn]).astype(np.int32), log_weights

    def teacher_logits(self, user_index: tf.Tensor, item_index: tf.Tensor, temperature: tf.Tensor) -> tf.Tensor:
        """Returns the teacher's logits, float32 [B, S], `MASKED` at the pairs that were seen."""
        users = tf.gather(self.teacher_users, user_index) / temperature[:, tf.newaxis]
        logits = tf.matmul(users, tf.gather(self.teacher_items, item_index), transpose_b=True)
        places = tf.fill([self.num_items], -1)
        places = tf.tensor_scatter_nd_update(places, item_index[:, tf.newaxis], tf.range(tf.size(item_index)))
        seen = tf.gather(self.seen, user_index)
        columns = tf.gather(places, seen.flat_values)
        pairs = tf.stack([tf.cast(seen.value_rowids(), tf.int32), columns], axis=1)
        pairs = tf.boolean_mask(pairs, columns >= 0)
        return tf.tensor_scatter_nd_update(logits, pairs, tf.fill(tf.shape(pairs)[:1], MASKED))

    def _gradients_of_rows(self, batch: Batch) -> tuple[tf.Tensor, list[tf.Tensor]]:
        users, items = batch.users, batch.items
        with tf.GradientTape() as tape:
            tape.watch([users, items])
            index, step = (batch.user_index, batch.item_index), self.optimizers[0].iterations
            loss = ranking_divergence(*self.student.quantize(users, items, index, step), *batch.target)
        return loss, tape.gradient(loss, [users, items, *self.ranges])

    def _train_step(self, user_index: tf.Tensor, item_index: tf.Tensor, log_weights: tf.Tensor) -> tf.Tensor:
        loss, gradients = self._gradients(self._batch(user_index, item_index, log_weights))
        tables = self.student.users, self.student.items
        for optimizer, table, gradient, index in zip(self.optimizers, tables, gradients, (user_index, item_index)):
            optimizer.update_step(tf.IndexedSlices(gradient, index), table)
            optimizer.iterations.assign_add(1)
        if self.ranges:
            self.range_optimizer.apply_gradients(zip(gradients[2:], self.ranges))
        return loss

    def _batch(self, user_index: tf.Tensor, item_index: tf.Tensor, log_weights: tf.Tensor) -> Batch:
        temperature = tf.gather(self.temperature, user_index)
        teacher_logits = self.teacher_logits(user_index, item_index, temperature)
        if self.config.distillation.target == "order":
            teacher_logits = order_logits(teacher_logits, self.config.distillation.top_items)
        users, items = tf.gather(self.student.users, user_index), tf.gather(self.student.items, item_index)
        return Batch(user_index, item_index, users, items, (teacher_logits, temperature, log_weights))

    def _start_epoch(self, epoch: int, drawn: list[list[tf.Tensor]]) -> dict[str, float]:
        """Looks at the quantizers with a few batches, the first one of which is trained on first."""
        batches = [self._batch(*arguments) for arguments in drawn]
        if epoch == 1:
            # Before the first step is traced, which makes a constant of it.
            _, gradients = self._gradients(batches[0])
            rms = float(tf.sqrt(tf.reduce_mean(tf.square(gradients[1]))))
            self.optimizers[1].epsilon = max(_RELATIVE_EPSILON * rms, 1e-12)
        finds_delta = self.config.finds_delta(epoch - 1)
        quantizers = self.student.user_quantizer, self.student.item_quantizer
        users, items = (None if layer is None else QuantizerProbe(layer, finds_delta) for layer in quantizers)
        for number, batch in enumerate(batches):
            index, seed = (batch.user_index, batch.item_index), self.seed + 2 * (epoch + 1000 * number)
            quantize = partial(self.student.quantize, index=index)
            look_at(batch, quantize, (users, items), self.config, finds_delta, seed)
        logs: dict[str, float] = {}
        for side, probe in (("users", users), ("items", items)):
            logs |= {} if probe is None else probe.finish(side)
        return logs


def _root_mean_square(table: tf.Variable) -> float:
    return float(np.sqrt(np.mean(np.square(table.numpy(), dtype=np.float64)))) or 1.0
