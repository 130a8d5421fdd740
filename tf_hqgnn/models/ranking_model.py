"""What a Keras user sees of a model of users and items: compile, fit, metrics of ranking, recommendations, saving."""

from __future__ import annotations

import abc
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras

from tf_hqgnn.graph.interaction_graph import InteractionGraph
from tf_hqgnn.losses.loss import LOSSES, Loss, make_loss
from tf_hqgnn.metrics.top_k import TopKMetric, make_metric
from tf_hqgnn.models.batches import Features, as_features, as_rows
from tf_hqgnn.models.catch_up_adam import CatchUpAdam, CatchUpRows
from tf_hqgnn.retrieval.exact import ExactTopK
from tf_hqgnn.retrieval.filters import SeenItems
from tf_hqgnn.retrieval.queries import Queries
from tf_hqgnn.retrieval.rows import Float32Rows

# What a saved model takes.
PAIRS = {name: tf.TensorSpec([None], tf.int32, name) for name in ("user_index", "item_index")}


class RankingModel(tf_keras.Model, abc.ABC):
    """A model that has a row for every user and every item, and answers with the items of the highest products.

    Args:
      num_users: U.
      num_items: I.
      graph: Of the training interactions, which no user is recommended again; None if they aren't known. It is saved
        with the weights. From a config: its number of edges.
    """

    train_function: Callable[[Any], dict[str, tf.Tensor]] | None

    def __init__(
        self, num_users: int, num_items: int, graph: InteractionGraph | Mapping[str, int] | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        if self.compute_dtype != "float32":
            raise ValueError(
                f"{type(self).__name__} computes in float32, got the policy {self.dtype_policy.name}: set "
                "tf_keras.mixed_precision.set_global_policy('float32') before the model is made"
            )
        self.num_users = num_users
        self.num_items = num_items
        self._keep_metrics([])
        self._num_edges: int | None = None
        self._seen: SeenItems | None = None
        if graph is not None:
            self._remember(graph)

    def _remember(self, graph: InteractionGraph | Mapping[str, int]) -> None:
        """Makes weights that hold what every user has taken."""
        indptr, indices = None, None
        if isinstance(graph, InteractionGraph):
            if (graph.num_users, graph.num_items) != (self.num_users, self.num_items):
                raise ValueError(
                    f"the graph must have {self.num_users} users and {self.num_items} items, got {graph.num_users} and "
                    f"{graph.num_items}"
                )
            indptr, indices = graph.seen()
        self._num_edges = graph["num_edges"] if isinstance(graph, Mapping) else graph.num_edges
        self._seen = SeenItems(
            self.add_constant("seen_indptr", [self.num_users + 1], "int64", indptr),
            self.add_constant("seen_indices", [self._num_edges], "int32", indices),
            self.num_items,
        )

    def add_constant(self, name: str, shape: list[int], dtype: str, value: Any = None) -> tf.Variable:
        """A weight that isn't trained, but saved: what belongs to users and items has no place in a config."""
        initializer = "zeros" if value is None else lambda *_args, **_kwargs: tf.constant(value, dtype)
        return self.add_weight(
            name, shape, dtype, initializer=initializer, trainable=False, experimental_autocast=False
        )

    @abc.abstractmethod
    def rows(self) -> tuple[tf.Tensor, tf.Tensor]:
        """The rows whose products are the scores, float32 [U, d'] and [I, d']."""

    def scores_of_pairs(self, features: Features) -> tf.Tensor:
        """The scores of a batch of pairs, float32 [B]."""
        users, items = self.rows()
        return tf.reduce_sum(
            tf.gather(users, features["user_index"]) * tf.gather(items, features["item_index"]), axis=-1
        )

    def call(self, inputs: Any) -> tf.Tensor:
        """Scores: of the pairs of a batch, float32 [B], or of all items for users int [B], float32 [B, I]."""
        if isinstance(inputs, (dict, tuple, list)):
            return self.scores_of_pairs(as_features(inputs))
        users, items = self.rows()
        return tf.matmul(tf.gather(users, as_rows("user_index", inputs)), items, transpose_b=True)

    def build(self, input_shape: Any) -> None:
        """Nothing to do: all weights are made at once, so that a checkpoint can be restored before the first call."""
        self.built = True
        self._build_input_shape = input_shape

    def recommend(self, user_index: Any, k: int = 10) -> tuple[tf.Tensor, tf.Tensor]:
        """The best items of users, without those of the graph that they have taken.

        Args:
          user_index: int [B], rows of users.
          k: How many items to recommend, at least 1.

        Returns:
          `(scores, item_index)`, float32 and int32 [B, min(k, I)], best first; where a user has no item left, -inf and
          -1.

        Raises:
          ValueError: `user_index` isn't a batch of integers, or `k` is below 1.
        """
        if k < 1:
            raise ValueError(f"k must be at least 1, got {k}")
        scores, item_index = self.best_items(as_rows("user_index", user_index), tf.constant(k))
        return scores, item_index

    @tf.function(input_signature=[tf.TensorSpec([None], tf.int32, "user_index"), tf.TensorSpec([], tf.int32, "k")])
    def best_items(self, user_index: tf.Tensor, k: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """As `recommend`, as a function of tensors that a SavedModel holds."""
        return self._best_items(self.rows(), user_index, k)

    def _best_items(
        self, rows: tuple[tf.Tensor, tf.Tensor], user_index: tf.Tensor, k: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        users, items = rows
        blocked = None if self._seen is None else self._seen.blocked(tf.cast(user_index, tf.int64))
        index = ExactTopK(Float32Rows(tf.ensure_shape(items, [self.num_items, None])))
        scores, item_index = index.call(Queries(tf.gather(users, user_index)), k, blocked)
        return scores, tf.where(scores == -np.inf, -1, item_index)

    def compile(
        self,
        optimizer: Any = "adam",
        loss: Loss | str | None = None,
        metrics: TopKMetric | str | Iterable[TopKMetric | str] | None = None,
        **kwargs: Any,
    ) -> None:
        """Sets the optimizer, the loss, and the metrics of `evaluate` and of a `fit` with `validation_data`.

        Args:
          optimizer: Of Keras, or its name.
          loss: Of tf_hqgnn.losses, or its name, such as "bpr"; None keeps the one that the model was made with.
          metrics: Of tf_hqgnn.metrics, or names such as "ndcg@20". They rank the whole catalogue, without what the
            graph says that users have taken, and are means over users. Training steps don't compute them.
          **kwargs: As of `tf_keras.Model.compile`.

        Raises:
          ValueError: The loss or a metric is of another kind.
        """
        several = [metrics] if isinstance(metrics, (str, TopKMetric)) else list(metrics or [])
        with self.distribute_strategy.scope():
            self._keep_metrics([make_metric(metric) for metric in several])
            for metric in self._ranking_metrics:
                metric.track_users(self.num_users)
            if loss is not None:
                self.set_loss(_as_loss(loss))
        # The loss is a part of the model's config, with which it is saved.
        super().compile(optimizer=optimizer, metrics=self._ranking_metrics or None, **kwargs)

    # What metrics sum up is none of the model's weights.
    @tf.__internal__.tracking.no_automatic_dependency_tracking
    def _keep_metrics(self, metrics: list[TopKMetric]) -> None:
        self._ranking_metrics = metrics

    @abc.abstractmethod
    def set_loss(self, loss: Loss) -> None:
        """Replaces the loss that the model is trained with."""

    def compile_from_config(self, config: dict[str, Any]) -> None:
        """Compiles a model that has been loaded, as it was compiled when it was saved."""
        self.compile(**tf_keras.saving.deserialize_keras_object(config))
        self.optimizer.build(self.trainable_variables)

    def fit(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        epochs: int = 1,
        verbose: str | int = "auto",
        callbacks: Any = None,
        **kwargs: Any,
    ) -> tf_keras.callbacks.History:
        """Trains on batches of pairs: a `tf.data.Dataset` of `(user_index, item_index)`, or two arrays `x` and `y`.

        Arguments as of `tf_keras.Model.fit`. Callbacks that monitor a metric of ranking take higher values for better
        ones, where Keras, which knows the names of its own metrics only, takes lower ones.
        """
        prefer_higher(callbacks, [metric.name for metric in self._ranking_metrics])
        callbacks = self._with_own(callbacks)
        return super().fit(x, y, batch_size, epochs, verbose, callbacks, **kwargs)

    def fit_callbacks(self) -> list[tf_keras.callbacks.Callback]:
        """Callbacks that a training needs, whatever others there are; they come before them."""
        return [CatchUpRows()] if isinstance(self.optimizer, CatchUpAdam) else []

    def _with_own(self, callbacks: Any) -> Any:
        """The callbacks of a fit with those of `fit_callbacks`."""
        own = self.fit_callbacks()
        if isinstance(callbacks, tf_keras.callbacks.CallbackList):
            for callback in own:
                callback.set_model(self)
            callbacks.callbacks[:0] = own
            return callbacks
        several = callbacks if isinstance(callbacks, (list, tuple)) else [callbacks] if callbacks else []
        return [*own, *several]

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
                start = {name: tf.zeros([]) for name in self.train_log_names()}
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

    @abc.abstractmethod
    def train_log_names(self) -> tuple[str, ...]:
        """The names of what `train_step` returns, float32 [] each."""

    def update_ranking_metrics(self, features: Features) -> dict[str, tf.Tensor]:
        """Takes a batch of held-out pairs into the metrics that the model was compiled with, and returns them."""
        if self._ranking_metrics:
            users, items = features["user_index"], features["item_index"]
            most = max(metric.k for metric in self._ranking_metrics)
            # Pairs of one user share their answers.
            distinct, place = tf.unique(users)
            _, answers = self._best_items(self.rows(), distinct, tf.constant(most))
            answers = tf.gather(answers, place)
            for metric in self._ranking_metrics:
                metric.update_pairs(users, items, answers)
        return {metric.name: metric.result() for metric in self._ranking_metrics}

    def export(self, filepath: str | Path) -> None:
        """Writes a SavedModel for inference alone, which loads without this package.

        Its endpoints are `serve`, the scores of pairs, and `best_items`, as of the method.
        """
        archive = tf_keras.export.ExportArchive()
        archive.track(self)
        archive.add_endpoint("serve", self.call, [dict(PAIRS)])
        archive.add_endpoint("best_items", self.best_items)
        archive.write_out(str(filepath))

    def graph_config(self) -> dict[str, int] | None:
        """What a config says of the graph."""
        return None if self._num_edges is None else {"num_edges": self._num_edges}


def prefer_higher(callbacks: Any, metrics: Iterable[str]) -> None:
    """Makes callbacks that monitor one of `metrics` look for its highest value.

    Example:
      >>> stop = tf_keras.callbacks.EarlyStopping(monitor="val_ndcg@20")
      >>> prefer_higher([stop], ["ndcg@20"])
      >>> stop.monitor_op(2, 1)
      True
    """
    names = {f"val_{name}" for name in metrics}
    several = getattr(callbacks, "callbacks", callbacks) or []
    for callback in several if isinstance(several, (list, tuple)) else [several]:
        if getattr(callback, "monitor", None) not in names or callback.monitor_op is np.greater:
            continue
        if isinstance(callback, tf_keras.callbacks.ReduceLROnPlateau):
            callback.mode = "max"
            callback._reset()
            continue
        callback.monitor_op = np.greater
        if hasattr(callback, "min_delta"):
            callback.min_delta = abs(callback.min_delta)
        if getattr(callback, "best", None) == np.inf:
            callback.best = -np.inf


def _as_loss(loss: Loss | str) -> Loss:
    if isinstance(loss, Loss):
        return loss
    if isinstance(loss, str) and loss in LOSSES.names():
        return make_loss(loss)
    raise ValueError(
        f"loss must be of tf_hqgnn.losses, or one of the names {', '.join(LOSSES.names())}, got {loss!r}: a loss of "
        "Keras compares numbers, these compare a user's item with others"
    )
