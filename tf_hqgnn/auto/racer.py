"""Short trainings with one setting after the other, all in one compiled program."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras
from pydantic import PrivateAttr

from tf_hqgnn.config import Config, PropagationConfig
from tf_hqgnn.graph.interaction_graph import InteractionGraph
from tf_hqgnn.losses.softmax import Coefficients, Softmax
from tf_hqgnn.models.factory import make_model
from tf_hqgnn.runs.untrained import Untrained
from tf_hqgnn.training.fitting import loss_batches
from tf_hqgnn.training.judge import Judge
from tf_hqgnn.training.propagation import propagate_embeddings
from tf_hqgnn.types import Float32Array, Interactions

# A trained contestant is judged by the best of these: more would find little more, and take longer than the training.
_PROPAGATIONS: tuple[dict[str, Any], ...] = (
    {"solver": "none", "t1": 0.0},
    {"solver": "euler", "t1": 0.25, "num_steps": 1},
    {"solver": "exact", "t1": 0.5},
)


class Racer:
    """A model that starts again for every contestant. Loss and schedule are variables, so nothing is compiled twice.

    Args:
      config: all settings; `model`, `training` and the seed count, and whether positives are masked.
      graph: of the training interactions.
      train: the training interactions.
      judge: of propagated rows, by the monitor.
      start: float32 [U, d] and [I, d], unit rows from which every contestant starts.
    """

    def __init__(
        self,
        config: Config,
        graph: InteractionGraph,
        train: Interactions,
        judge: Judge,
        start: tuple[Float32Array, Float32Array],
    ) -> None:
        self._config, self._graph, self._train, self._judge = config, graph, train, judge
        tf_keras.utils.set_random_seed(config.seed)
        self._model = make_model(config, graph, initialize=False)
        self._start = start
        self._loss = _RacedSoftmax(mask_positives=config.loss.make().needs_positives)
        self._schedule = _RacedCosine()
        optimizer = config.training.make_optimizer(self._schedule)
        optimizer.build(self._model.trainable_variables)
        self._model.compile(optimizer=optimizer, steps_per_execution=config.training.steps_per_execution)
        self._model.set_loss(self._loss)
        self._batch_size = min(config.training.batch_size, len(train))
        self._adjacency = graph.normalized_adjacency()
        self._untrained = Untrained.of(graph)

    @property
    def num_rankings(self) -> int:
        """How often `value` ranks."""
        return len(_PROPAGATIONS)

    @property
    def steps_per_epoch(self) -> int:
        """Training steps of an epoch."""
        return max(1, len(self._train) // self._batch_size)

    def run(self, loss: Softmax, learning_rate: float, steps: int) -> float:
        """Trains from the start, the learning rate falling to 0, and returns the monitor's value.

        Args:
          loss: of this contestant.
          learning_rate: at its highest.
          steps: of training.
        """
        self.train(loss, learning_rate, steps)
        return self.value()

    def train(self, loss: Softmax, learning_rate: float, steps: int) -> None:
        """As `run`, without the judge."""
        model = self._model
        for table, rows in zip((model.user_table, model.item_table), self._start):
            table.assign(rows)
        for variable in model.optimizer.variables:
            variable.assign(tf.zeros_like(variable))
        self._loss.become(loss)
        self._schedule.become(learning_rate, steps)
        model.user_weight.assign(loss.user_weight(self._graph.user_strength).astype(np.float32))
        per_execution = min(self._config.training.steps_per_execution, steps)
        batches = loss_batches(self._loss, self._train, self._graph, self._batch_size, self._config.seed)
        model.fit(batches, epochs=1, steps_per_epoch=max(per_execution, steps), verbose=0)

    def tables(self) -> tuple[Float32Array, Float32Array]:
        """The trained tables, float32 [U, d] and [I, d]."""
        users, items = self._model.embeddings()
        return users, items

    def value(self) -> float:
        """The monitor's value of the tables as they are, by the best of a few propagations."""
        tables = self.tables()
        best = -1.0
        for values in _PROPAGATIONS:
            propagation = self._config.propagation.model_copy(update={**values, "normalize": True})
            best = max(best, self._judge.value(*self._propagated(tables, propagation)))
        return best

    def _propagated(
        self, tables: tuple[Float32Array, Float32Array], propagation: PropagationConfig
    ) -> tuple[Float32Array, Float32Array]:
        users, items = tables
        return self._untrained.replace(*propagate_embeddings(self._graph, users, items, propagation, self._adjacency))


class _RacedSoftmax(Softmax):
    """The softmax loss with variables for coefficients."""

    _variables: tuple[tf.Variable, ...] = PrivateAttr()

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        starts = (1.0, 0.0, 1.0, True)
        self._variables = tuple(tf.Variable(start, trainable=False) for start in starts)

    def become(self, loss: Softmax) -> None:
        """Takes over another one's coefficients."""
        for variable, value in zip(self._variables, loss.coefficients()):
            variable.assign(value)

    def coefficients(self) -> Coefficients:
        """See `Softmax`."""
        return Coefficients(*(tf.convert_to_tensor(variable) for variable in self._variables))


class _RacedCosine(tf_keras.optimizers.schedules.LearningRateSchedule):  # type: ignore[misc]
    """From a highest learning rate down to 0 along a cosine."""

    def __init__(self) -> None:
        self._highest = tf.Variable(0.0, trainable=False)
        self._steps = tf.Variable(1.0, trainable=False)

    def become(self, highest: float, steps: int) -> None:
        self._highest.assign(highest)
        self._steps.assign(float(steps))

    def __call__(self, step: tf.Tensor) -> tf.Tensor:
        share = tf.minimum(tf.cast(step, tf.float32) / self._steps, 1.0)
        return 0.5 * self._highest * (1.0 + tf.cos(np.float32(np.pi) * share))

    def get_config(self) -> dict[str, Any]:
        return {}
