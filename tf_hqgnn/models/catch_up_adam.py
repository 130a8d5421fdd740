"""Adam for embedding tables with the steps of a dense Adam at the cost of a batch."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
import tf_keras

from tf_hqgnn.models.optimizers import LazyAdam

# Steps after which all rows catch up: no row has missed more, and a pass over a table now and then costs little.
_MOST_MISSED = 1024
# Rows that catch up at once where all do, so that it takes no memory of a table's size.
_CHUNK = 65536


@tf_keras.utils.register_keras_serializable(package="tf_hqgnn")
class CatchUpAdam(LazyAdam):
    """Adam whose rows make up for the steps that they weren't in before they are used again.

    A row that a batch leaves out has a gradient of zero, by which Adam still decays its moments and moves it. After its
    last step s, with moments m and v, the n steps that it missed come to

        x <- x - m / (sqrt(v) + epsilon) sum_{j=1..n} alpha_{s+j} (beta_1 / sqrt(beta_2))^j
        m <- beta_1^n m,   v <- beta_2^n v

    alpha_t being the learning rate of step t with its bias correction. The sums for all s are kept up to date, one
    number for each step that a row may have had last. `catch_up` applies them: before a batch to its rows, and before
    all rows are looked at to all of them. Models of this package do both. Only epsilon differs from dense Adam, which
    adds it to the root of the decayed v.

    Args:
      learning_rate: Float or schedule.
      most_missed: Steps after which all rows catch up.
      **kwargs: As of `LazyAdam`.

    Reference: Kingma and Ba, ICLR 2015.

    Example:
      >>> table, optimizer = tf.Variable(tf.ones([2, 1])), CatchUpAdam(0.1)
      >>> gradient = tf.IndexedSlices(tf.ones([1, 1]), [0], [2, 1])
      >>> _ = optimizer.apply_gradients([(gradient, table)])
      >>> _ = optimizer.apply_gradients([(tf.IndexedSlices(tf.ones([1, 1]), [1], [2, 1]), table)])
      >>> print(*table.numpy().ravel().round(3))
      0.9 0.926
      >>> optimizer.catch_up(table)
      >>> print(*table.numpy().ravel().round(3))
      0.833 0.926
    """

    def __init__(
        self, learning_rate: Any = 1e-3, most_missed: int = _MOST_MISSED, name: str = "CatchUpAdam", **kwargs: Any
    ) -> None:
        if most_missed < 1:
            raise ValueError(f"most_missed must be at least 1, got {most_missed}")
        super().__init__(learning_rate, name=name, **kwargs)
        self.most_missed = most_missed

    def build(self, var_list: list[tf.Variable]) -> None:
        """Makes both moments of every variable, the last step of each of its rows, and the sums of missed steps."""
        super().build(var_list)
        if getattr(self, "_last_steps", None):
            return
        self._last_steps = [
            self.add_variable(variable.shape[:1], tf.int64, name=f"last_step_{place}")
            for place, variable in enumerate(var_list)
        ]
        self._missed = self.add_variable([self.most_missed + 1], tf.float32, name="missed")

    def apply_gradients(self, grads_and_vars: Any, *args: Any, **kwargs: Any) -> Any:
        """Applies a step as Keras does; afterwards, all rows catch up if it is time to."""
        grads_and_vars = list(grads_and_vars)
        result = super().apply_gradients(grads_and_vars, *args, **kwargs)
        now = self.iterations
        # The learning rate that the step was made with is that of its number, counted from 0.
        alpha = self._alpha(now - 1)
        slots = tf.range(self.most_missed + 1, dtype=tf.int64)
        ago = tf.math.floormod(now - slots, self.most_missed + 1)
        decay = tf.pow(self.beta_1 / self.beta_2**0.5, tf.cast(ago, tf.float32))
        self._missed.assign(tf.where(ago > 0, self._missed + alpha * decay, 0.0))
        variables = [variable for _, variable in grads_and_vars]
        tf.cond(
            tf.equal(now % self.most_missed, 0), lambda: self._all_catch_up(variables), lambda: tf.constant(0, tf.int64)
        )
        return result

    def catch_up(self, variable: tf.Variable, rows: tf.Tensor | None = None) -> None:
        """Applies the steps that rows have missed.

        Args:
          variable: A variable that the optimizer was built for.
          rows: int [n], which of its rows, maybe repeated; None for all.
        """
        last = self._last_step_of(variable)
        if not last.shape.rank:
            return
        if rows is not None:
            self._catch_up(variable, rows)
            return
        size = last.shape[0]

        def chunk(start: tf.Tensor) -> tuple[tf.Tensor]:
            stop = tf.minimum(start + _CHUNK, size)
            self._catch_up(variable, tf.range(start, stop))
            return (stop,)

        tf.while_loop(lambda start: start < size, chunk, (tf.constant(0),), parallel_iterations=1)

    def _all_catch_up(self, variables: list[tf.Variable]) -> tf.Tensor:
        for variable in variables:
            self.catch_up(variable)
        return tf.identity(self.iterations)

    def _catch_up(self, variable: tf.Variable, rows: tf.Tensor) -> None:
        moments = self.moments_of(variable)
        new_rows, *decayed = self._caught_up(variable, rows)
        # Written, not subtracted: a row may be repeated, with the same values.
        for table, values in zip((variable, *moments), (new_rows, *decayed)):
            table.scatter_update(tf.IndexedSlices(values, rows))
        self._set_last_step(variable, rows, self.iterations)

    def _caught_up(self, variable: tf.Variable, rows: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Rows and moments after the steps that they have missed."""
        m, v = (tf.gather(moment, rows) for moment in self.moments_of(variable))
        last = tf.gather(self._last_step_of(variable), rows)
        shape = tf.concat([tf.shape(last), tf.ones([variable.shape.rank - 1], tf.int32)], 0)
        count = tf.reshape(tf.cast(self.iterations - last, variable.dtype), shape)
        missed = tf.reshape(tf.gather(self._missed, last % (self.most_missed + 1)), shape) * self.factor_of(variable)
        moved = missed * m / (tf.sqrt(v) + self.epsilon)
        return tf.gather(variable, rows) - moved, m * tf.pow(self.beta_1, count), v * tf.pow(self.beta_2, count)

    def update_step(self, gradient: tf.Tensor | tf.IndexedSlices, variable: tf.Variable) -> None:
        """Applies one step to `variable`, to rows that have missed some after those."""
        last = self._last_step_of(variable)
        if not isinstance(gradient, tf.IndexedSlices):
            if last.shape.rank:
                is_behind = tf.reduce_any(last < self.iterations)
                tf.cond(is_behind, lambda: self._all_catch_up([variable]), lambda: tf.constant(0, tf.int64))
                last.assign(tf.fill(last.shape, self.iterations + 1))
            super().update_step(gradient, variable)
            return
        rows, values = gradient.indices, gradient.values
        m, v = self.moments_of(variable)
        current, old_m, old_v = self._caught_up(variable, rows)
        new_m = self.beta_1 * old_m + (1.0 - self.beta_1) * values
        new_v = self.beta_2 * old_v + (1.0 - self.beta_2) * tf.square(values)
        alpha = self._alpha(self.iterations) * self.factor_of(variable)
        moved_to = current - alpha * new_m / (tf.sqrt(new_v) + self.epsilon)
        for table, new in ((m, new_m), (v, new_v), (variable, moved_to)):
            table.scatter_update(tf.IndexedSlices(new, rows))
        self._set_last_step(variable, rows, self.iterations + 1)

    def _last_step_of(self, variable: tf.Variable) -> tf.Variable:
        return self._last_steps[self._index_dict[self._var_key(variable)]]

    def _set_last_step(self, variable: tf.Variable, rows: tf.Tensor, step: tf.Tensor) -> None:
        self._last_step_of(variable).scatter_update(tf.IndexedSlices(tf.fill(tf.shape(rows), step), rows))

    def _alpha(self, step: tf.Tensor) -> tf.Tensor:
        """The learning rate of a step, counted from 0, with its bias correction."""
        rate = self._learning_rate
        rate = rate(step) if isinstance(rate, tf_keras.optimizers.schedules.LearningRateSchedule) else rate
        return tf.cast(rate, tf.float32) * self.correction(step)

    def get_config(self) -> dict[str, Any]:
        """Arguments of the constructor, JSON-ready."""
        return {**super().get_config(), "most_missed": self.most_missed}


class CatchUpRows(tf_keras.callbacks.Callback):
    """Has all rows catch up before anyone looks at whole tables: before each validation, and after each epoch."""

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Has all rows catch up."""
        del epoch, logs
        for variable in self.model.trainable_variables:
            self.model.optimizer.catch_up(variable)

    def on_test_begin(self, logs: Any = None) -> None:
        """Has all rows catch up."""
        self.on_epoch_end(0, logs)
