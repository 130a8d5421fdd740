"""Quantization-aware training as a Keras layer: float rows in, the rows that their codes stand for out."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras

from tf_hqgnn.quantization.codes import Codes
from tf_hqgnn.quantization.estimators import quantize_range, quantize_unit, scaled_gradient, unit_values
from tf_hqgnn.quantization.gradient_estimators.estimator import ESTIMATORS
from tf_hqgnn.quantization.hessian import touched_rows
from tf_hqgnn.quantization.packing import check_num_bits
from tf_hqgnn.quantization.ranges import MIN_WIDTH, row_ranges
from tf_hqgnn.types import FloatArray

MODES = ("per_tensor", "per_row")
DELTA_SHARING = ("table", "column", "row")


@tf_keras.utils.register_keras_serializable(package="tf_hqgnn")
class LowBitQuantizer(tf_keras.layers.Layer):
    """Round rows to 2^b levels, with a gradient that trains what comes before the rounding.

    Under a mixed-precision policy it computes in float32, and returns what the policy computes with.

    Args:
      num_bits: b, 1 to 8.
      mode: "per_row": the range of a row follows from the row (`ranges.row_ranges`), so that its norm, which
        carries popularity, survives; no weights. "per_tensor": one learned range for all, as published; call
        `adapt_range` before training, and give it a lower learning rate than the embeddings.
      symmetric: Whether the range is centred on 0, one learned bound; otherwise a lower and an upper one.
      estimator: A name in `ESTIMATORS`: "ste"; "ewgs" with a fixed `delta`; "gste", whose delta is 0 (STE) until
        `refresh_delta`; "reste", whose delta follows `set_progress`; "lsq"; "stochastic".
      delta: Of "ewgs" only, above 0 and at most `estimators.max_delta(num_bits)`.
      initial_range: The learned range starts at -+ this.
      delta_per: What shares one delta: the "table", each "column", or each "row". For "row", `build` is given the
        number of rows, and a call with gradients their `index`.
      output_scale: Whether what is returned is `scale (2 x_q - 1)` with a learned scale of its own, so that the range
        only decides what is rounded to which level. With mode "per_tensor" only.
      seed: Of the noise of an estimator that rounds at random.

    Call arguments:
      inputs: float [..., d].
      index: int [...], the row of the table that each input row is, for `delta_per` "row"; without it the gradient is
        straight-through.
      step: int [], the number of the training step, from which the noise follows; without it, and in what is served,
        every estimator rounds to the nearest level.

    Returns:
      Like the inputs.

    Raises:
      ValueError: A setting is out of range.

    Reference:
      HQ-GNN, arXiv 2309.01032. The scale per row, and results on the scale of the inputs, are ours.

    Example:
      >>> quantizer = LowBitQuantizer(num_bits=1, estimator="ste")
      >>> quantizer(tf.constant([[0.5, -1.5], [0.0, 0.0]])).numpy().tolist()
      [[1.0, -1.0], [0.0, 0.0]]
    """

    def __init__(
        self,
        num_bits: int = 8,
        mode: str = "per_row",
        symmetric: bool = True,
        estimator: str = "gste",
        delta: float = 0.0,
        initial_range: float = 1.0,
        delta_per: str = "table",
        output_scale: bool = False,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        # Half precision is too coarse for the ranges.
        super().__init__(autocast=False, **kwargs)
        check_num_bits(num_bits)
        for name, value, known in (("mode", mode, MODES), ("delta_per", delta_per, DELTA_SHARING)):
            if value not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}, got {value!r}")
        rule = ESTIMATORS[estimator]()
        largest = rule.max_delta(num_bits)
        if rule.takes_delta and not 0 < delta <= largest:
            raise ValueError(
                f"{estimator} needs delta above 0 (0 is ste) and at most {largest:g} at {num_bits} bits, "
                f"past which it could turn gradients around; got {delta}"
            )
        if not rule.takes_delta and delta != 0:
            names = ", ".join(name for name in ESTIMATORS.names() if ESTIMATORS[name].takes_delta)
            raise ValueError(f"delta is a setting of the estimator {names}, got {delta} for {estimator}")
        if not 0 < initial_range < np.inf:
            raise ValueError(f"initial_range must be positive and finite, got {initial_range}")
        if output_scale and mode != "per_tensor":
            raise ValueError("output_scale needs mode per_tensor: with per_row the scale of a row follows from the row")
        self.num_bits = num_bits
        self.mode = mode
        self.symmetric = symmetric
        self.estimator = estimator
        self.rule = rule
        self.initial_delta = delta
        self.initial_range = initial_range
        self.delta_per = delta_per
        self.output_scale = output_scale
        self.seed = seed

    @property
    def follows_hessian(self) -> bool:
        """Whether delta is found by `refresh_delta`."""
        return self.rule.follows_hessian

    def build(self, input_shape: Any) -> None:
        """Makes delta, the learned range and the learned scale.

        Raises:
          ValueError: `delta_per` needs a number of columns or rows that `input_shape` doesn't have.
        """
        if self.built:
            return
        size = tf.TensorShape(input_shape).as_list()
        shape = {"table": (), "column": (size[-1],), "row": (size[0], 1)}[self.delta_per]
        if None in shape:
            raise ValueError(f"delta_per {self.delta_per} needs the number of {self.delta_per}s, got shape {size}")
        self.delta = self._add("delta", self.rule.delta_at(self.initial_delta, 0.0), shape, trainable=False)
        if self.mode == "per_tensor":
            self.beta = self._add("beta", self.initial_range)
            if not self.symmetric:
                self.alpha = self._add("alpha", -self.initial_range)
        if self.output_scale:
            self.scale = self._add("scale", self.initial_range)
        super().build(input_shape)

    def call(self, inputs: tf.Tensor, index: tf.Tensor | None = None, step: tf.Tensor | None = None) -> tf.Tensor:
        """See the class."""
        rows = tf.cast(inputs, "float64" if self.compute_dtype == "float64" else "float32")
        noise = None
        if self.rule.is_random and step is not None:
            key = tf.stack([tf.constant(self.seed, tf.int64), tf.cast(step, tf.int64)])
            noise = tf.random.stateless_uniform(tf.shape(rows), key, dtype=rows.dtype)
        lower, upper = self.ranges(rows)
        if self.mode == "per_tensor":
            factor = self.rule.range_gradient_factor(tf.size(rows), self.num_bits)
            lower, upper = scaled_gradient(lower, factor), scaled_gradient(upper, factor)
        how = (self.num_bits, self.deltas(index), self.rule, noise)
        if self.output_scale:
            rounded = self._scale(rows.dtype) * (2.0 * quantize_unit(unit_values(rows, lower, upper), *how) - 1.0)
        else:
            rounded = quantize_range(rows, lower, upper, *how)
        return tf.cast(rounded, self.compute_dtype)

    def deltas(self, index: tf.Tensor | None = None) -> tf.Tensor:
        """The delta of rows, in a shape that broadcasts to them: [], [d], or [..., 1] of the rows `index`.

        With `delta_per` "row" and no index it is 0.
        """
        if self.delta_per != "row":
            return tf.convert_to_tensor(self.delta)
        return tf.zeros([], self.delta.dtype) if index is None else tf.gather(self.delta, index)

    def set_progress(self, progress: float) -> None:
        """Sets the delta that an estimator has at a point of the training, where it follows that.

        Args:
          progress: the share of all epochs that is done, 0 to 1.
        """
        if self.rule.follows_progress:
            self.delta.assign(tf.fill(self.delta.shape, self.rule.delta_at(self.initial_delta, progress)))

    def ranges(self, inputs: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """The ends of the ranges that `inputs` are rounded in: float [..., 1], or [] per tensor."""
        if self.mode == "per_row":
            return row_ranges(inputs, self.num_bits, self.symmetric)
        beta = tf.cast(self.beta, inputs.dtype)
        alpha = -beta if self.symmetric else tf.cast(self.alpha, inputs.dtype)
        # Whichever is lower: should a step make them cross, both still have a gradient to come back by.
        return tf.minimum(alpha, beta), tf.maximum(alpha, beta)

    def adapt_range(self, rows: tf.Tensor | FloatArray) -> None:
        """Starts the learned range at the mean -+ 3 standard deviations of `rows` [n, d] (of 0, if symmetric).

        A learned output scale starts where the squared error of what is returned is least.

        Raises:
          ValueError: The range isn't learned (per row), or the rows give none: not finite, or all one value.
        """
        if self.mode != "per_tensor":
            raise ValueError("only mode per_tensor has a learned range; per_row takes it from each row")
        rows = np.asarray(rows, np.float32)
        mean = 0.0 if self.symmetric else float(np.mean(rows, dtype=np.float64))
        reach = 3.0 * float(np.sqrt(np.mean(np.square(rows - mean, dtype=np.float64))))
        if not 0 < reach < np.inf:
            raise ValueError(f"rows of different finite values are needed to choose a range, got a spread of {reach}")
        self._build_for(rows)
        self.beta.assign(mean + reach)
        if not self.symmetric:
            self.alpha.assign(mean - reach)
        if self.output_scale:
            levels = 2.0 * quantize_unit(unit_values(rows, *self.ranges(tf.constant(rows))), self.num_bits) - 1.0
            fit = tf.reduce_sum(levels * rows) / tf.maximum(tf.reduce_sum(tf.square(levels)), MIN_WIDTH)
            self.scale.assign(fit)

    def widths(self, rows: tf.Tensor) -> tf.Tensor:
        """By how much what is returned changes when x_q goes from 0 to 1, for each row: float [n, 1]."""
        if self.output_scale:
            width = 2.0 * self._scale(rows.dtype)
        else:
            lower, upper = self.ranges(rows)
            width = upper - lower
        return tf.broadcast_to(width, tf.stack([tf.shape(rows)[0], 1]))

    def find_delta(self, rows: tf.Tensor, gradients: tf.Tensor, curvature: tf.Tensor | float) -> tf.Tensor:
        """The delta by the curvature at a batch, which stays as it is.

        The curvature and the gradients are converted to the scale 0 .. 1 on which delta acts. Where `curvature` is a
        trace, the mean square of the touched rows' widths stands for that of each.

        Args:
          rows: float [n, d], what the layer was called with: best the touched rows only.
          gradients: float [n, d], of the loss with respect to what the layer returned.
          curvature: The trace of the Hessian with respect to the same, float [], or its diagonal, float [n, d], which
            `delta_per` "column" and "row" need.

        Returns:
          float32 [], [d] or [n, 1], within 0 .. `max_delta` of the estimator; never NaN.

        Raises:
          ValueError: The estimator's delta doesn't follow the Hessian, or there is a trace where a diagonal is needed.
        """
        rows, gradients = tf.convert_to_tensor(rows), tf.convert_to_tensor(gradients)
        self._build_for(rows)
        widths = self.widths(rows)
        g, curvature = gradients * widths, tf.cast(curvature, rows.dtype)
        if curvature.shape.rank:
            curvature *= tf.square(widths)
        elif self.delta_per != "table":
            raise ValueError(f"delta_per {self.delta_per} needs the diagonal of the Hessian, got its trace")
        else:
            touched = tf.cast(touched_rows(gradients), rows.dtype)[:, tf.newaxis]
            curvature *= tf.math.divide_no_nan(tf.reduce_sum(touched * tf.square(widths)), tf.reduce_sum(touched))
        if self.delta_per == "table":
            return self.rule.delta(tf.reduce_sum(curvature), g, self.num_bits)
        by_column = self.delta_per == "column"
        parts = (tf.transpose(curvature), tf.transpose(g)) if by_column else (curvature, g)

        def of_part(part: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
            matrix = part[1][:, tf.newaxis] if by_column else part[1][tf.newaxis, :]
            return self.rule.delta(tf.reduce_sum(part[0]), matrix, self.num_bits)

        found = tf.vectorized_map(of_part, parts)
        return found if by_column else found[:, tf.newaxis]

    def refresh_delta(
        self,
        rows: tf.Tensor,
        gradients: tf.Tensor,
        curvature: tf.Tensor | float,
        index: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """Sets delta to what `find_delta` finds at one batch, and returns that, to be logged.

        Args:
          rows: See `find_delta`.
          gradients: See `find_delta`.
          curvature: See `find_delta`.
          index: int [n], which rows of the table these are, for `delta_per` "row".

        Raises:
          ValueError: As `find_delta`; or there is no index where one is needed.
        """
        delta = self.find_delta(rows, gradients, curvature)
        if self.delta_per != "row":
            self.delta.assign(tf.cast(delta, self.delta.dtype))
        elif index is None:
            raise ValueError("delta_per row needs the index of the rows")
        else:
            # Rows that no gradient has reached keep the delta that they have.
            touched = touched_rows(gradients)
            values = tf.boolean_mask(tf.cast(delta, self.delta.dtype), touched)
            self.delta.scatter_update(tf.IndexedSlices(values, tf.boolean_mask(index, touched)))
        return delta

    def encode(self, rows: tf.Tensor | FloatArray) -> Codes:
        """The codes of `rows` [n, d], to be stored: what the layer returns, up to the float16 of the ranges.

        Raises:
          ValueError: As `Codes.quantize`.
        """
        rows = np.asarray(rows, np.float32)
        if self.mode == "per_row":
            return Codes.quantize(rows, self.num_bits, symmetric=self.symmetric)
        self._build_for(rows)
        lower, upper = (np.reshape(end, [1]) for end in self.ranges(rows))
        codes = Codes.quantize(rows, self.num_bits, symmetric=self.symmetric, ranges=(lower, upper))
        return codes.with_scale(np.reshape(self._scale(tf.float32), [1])) if self.output_scale else codes

    def compute_output_shape(self, input_shape: Any) -> tf.TensorShape:
        """The shape of the inputs."""
        return tf.TensorShape(input_shape)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "num_bits": self.num_bits,
            "mode": self.mode,
            "symmetric": self.symmetric,
            "estimator": self.estimator,
            "delta": self.initial_delta,
            "initial_range": self.initial_range,
            "delta_per": self.delta_per,
            "output_scale": self.output_scale,
            "seed": self.seed,
        }

    def _scale(self, dtype: tf.DType) -> tf.Tensor:
        """The output scale; should a step make it negative, its gradient turns around."""
        return tf.abs(tf.cast(self.scale, dtype))

    def _add(self, name: str, value: float, shape: tuple[Any, ...] = (), trainable: bool = True) -> tf.Variable:
        initializer = tf_keras.initializers.Constant(value)
        return self.add_weight(name, shape, initializer=initializer, trainable=trainable, experimental_autocast=False)

    def _build_for(self, rows: tf.Tensor | FloatArray) -> None:
        if not self.built:
            self.build(rows.shape)
