"""An Adam for embedding tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf
import tf_keras

from tf_hqgnn.graph.unique_rows import unique_rows


@tf_keras.utils.register_keras_serializable(package="tf_hqgnn")
class LazyAdam(tf_keras.optimizers.Optimizer):
    """Adam whose cost is that of the batch's rows, not of the table.

    For a sparse gradient only the rows in the batch are touched: their moments decay and they move. Rows outside the
    batch keep value and moments, where Adam would go on moving them by their momentum. A dense gradient is treated
    as by Adam. The bias correction uses the global step.

    Args:
      learning_rate: float or schedule.
      beta_1: decay of the first moment.
      beta_2: decay of the second moment.
      epsilon: added to the root of the second moment.
      factors: of the learning rate, by the last part of a variable's name; 1 for all others.
      fixed_shapes: sum repeated rows in tensors whose shapes don't depend on how many there are, so that XLA can
        compile a whole training step. The steps are the same; outside of XLA they take a few percent longer.
      name: of the optimizer.

    Reference: Kingma and Ba, ICLR 2015; lazy as in TensorFlow Addons' LazyAdam.

    Example:
      >>> table = tf.Variable(tf.zeros([3, 2]))
      >>> with tf.GradientTape() as tape:
      ...     loss = tf.reduce_sum(tf.gather(table, [1]))
      >>> _ = LazyAdam(0.5).apply_gradients([(tape.gradient(loss, table), table)])
      >>> table.numpy().round(3).tolist()
      [[0.0, 0.0], [-0.5, -0.5], [0.0, 0.0]]
    """

    def __init__(
        self,
        learning_rate: Any = 1e-3,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        factors: Mapping[str, float] | None = None,
        fixed_shapes: bool = False,
        name: str = "LazyAdam",
        **kwargs: Any,
    ) -> None:
        # Row updates go through resource scatters, which XLA would turn into writes of the whole table.
        kwargs["jit_compile"] = False
        # By default Keras decays weights by 0 in every step: unless TensorFlow sees that nothing comes of it, the whole
        # table is read and written.
        kwargs.setdefault("weight_decay", None)
        super().__init__(name=name, **kwargs)
        self._learning_rate = self._build_learning_rate(learning_rate)
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.factors = dict(factors or {})
        self.fixed_shapes = fixed_shapes

    def build(self, var_list: list[tf.Variable]) -> None:
        """Makes both moments of every variable."""
        super().build(var_list)
        if getattr(self, "_moments", None):
            return
        self._moments = [
            (
                self.add_variable_from_reference(variable, "m"),
                self.add_variable_from_reference(variable, "v"),
            )
            for variable in var_list
        ]

    def moments_of(self, variable: tf.Variable) -> tuple[tf.Variable, tf.Variable]:
        """Returns the first and the second moment of a variable that the optimizer was built for."""
        m, v = self._moments[self._index_dict[self._var_key(variable)]]
        return m, v

    def factor_of(self, variable: tf.Variable) -> float:
        """Returns the factor of the learning rate of a variable."""
        return self.factors.get(variable.name.split(":")[0].rsplit("/", 1)[-1], 1.0)

    def correction(self, step: tf.Tensor) -> tf.Tensor:
        """The bias correction of a step, counted from 0, float32 []."""
        number = tf.cast(step + 1, tf.float32)
        return tf.sqrt(1.0 - tf.pow(self.beta_2, number)) / (1.0 - tf.pow(self.beta_1, number))

    def update_step(self, gradient: tf.Tensor | tf.IndexedSlices, variable: tf.Variable) -> None:
        """Applies one step to `variable`; repeated rows of a sparse gradient have been summed."""
        m, v = self.moments_of(variable)
        alpha = (
            tf.cast(self.learning_rate, variable.dtype) * self.factor_of(variable) * self.correction(self.iterations)
        )
        if isinstance(gradient, tf.IndexedSlices):
            rows, values = gradient.indices, gradient.values
            new_m = self.beta_1 * tf.gather(m, rows) + (1.0 - self.beta_1) * values
            new_v = self.beta_2 * tf.gather(v, rows) + (1.0 - self.beta_2) * tf.square(values)
            m.scatter_update(tf.IndexedSlices(new_m, rows))
            v.scatter_update(tf.IndexedSlices(new_v, rows))
            moved_by = alpha * new_m / (tf.sqrt(new_v) + self.epsilon)
            if self.fixed_shapes:
                # Written, not subtracted: a row may stand here twice, with the same values.
                variable.scatter_update(tf.IndexedSlices(tf.gather(variable, rows) - moved_by, rows))
            else:
                variable.scatter_sub(tf.IndexedSlices(moved_by, rows))
        else:
            # One pass over the table instead of a dozen; without powers of beta it applies no correction of its own.
            tf.raw_ops.ResourceApplyAdam(
                var=variable.handle,
                m=m.handle,
                v=v.handle,
                beta1_power=tf.zeros([], variable.dtype),
                beta2_power=tf.zeros([], variable.dtype),
                lr=alpha,
                beta1=tf.cast(self.beta_1, variable.dtype),
                beta2=tf.cast(self.beta_2, variable.dtype),
                epsilon=tf.cast(self.epsilon, variable.dtype),
                grad=gradient,
            )

    def _deduplicate_sparse_grad(self, grads: Sequence[Any]) -> list[Any]:
        """Sums the repeated rows of sparse gradients."""
        if not self.fixed_shapes:
            summed_by_keras: list[Any] = super()._deduplicate_sparse_grad(grads)
            return summed_by_keras

        def summed(gradient: Any) -> Any:
            if not isinstance(gradient, tf.IndexedSlices):
                return gradient
            rows, place, count = unique_rows(gradient.indices)
            size = tf.shape(rows)[0]
            sums = tf.math.unsorted_segment_sum(gradient.values, place, size)
            # Places that are left over repeat the first row, with its sum.
            sums = tf.where((tf.range(size) < count)[:, tf.newaxis], sums, sums[:1])
            return tf.IndexedSlices(sums, rows, gradient.dense_shape)

        return [summed(gradient) for gradient in grads]

    def get_config(self) -> dict[str, Any]:
        """Arguments of the constructor, JSON-ready."""
        config: dict[str, Any] = super().get_config()
        config.pop("jit_compile", None)
        config.update(
            learning_rate=self._serialize_hyperparameter(self._learning_rate),
            beta_1=self.beta_1,
            beta_2=self.beta_2,
            epsilon=self.epsilon,
            factors=self.factors,
            fixed_shapes=self.fixed_shapes,
        )
        return config


@tf_keras.utils.register_keras_serializable(package="tf_hqgnn")
class DenseAdam(LazyAdam):
    """Adam as published: every step decays the moments of all rows and moves them, also those outside of the batch.

    A step takes as long as the tables are large. See `CatchUpAdam` for the same at the cost of a batch.

    Args:
      learning_rate: Float or schedule.
      name: Of the optimizer.
      **kwargs: As of `LazyAdam`.

    Reference: Kingma and Ba, ICLR 2015.
    """

    def __init__(self, learning_rate: Any = 1e-3, name: str = "DenseAdam", **kwargs: Any) -> None:
        super().__init__(learning_rate, name=name, **kwargs)

    def update_step(self, gradient: tf.Tensor | tf.IndexedSlices, variable: tf.Variable) -> None:
        """Applies one step to the whole of `variable`."""
        super().update_step(tf.convert_to_tensor(gradient), variable)

    def _deduplicate_sparse_grad(self, grads: Sequence[Any]) -> list[Any]:
        """Leaves repeated rows: they are summed when the gradient becomes dense."""
        return list(grads)
