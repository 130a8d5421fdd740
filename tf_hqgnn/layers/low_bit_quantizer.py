"""Quantization-aware training as a Keras layer: float rows in, the rows that their codes stand for out."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras

from tf_hqgnn.quantization.codes import Codes
from tf_hqgnn.quantization.estimators import max_delta, quantize_range
from tf_hqgnn.quantization.gradient_estimators.estimator import ESTIMATORS
from tf_hqgnn.quantization.hessian import touched_rows
from tf_hqgnn.quantization.packing import check_num_bits
from tf_hqgnn.quantization.ranges import row_ranges
from tf_hqgnn.types import FloatArray

MODES = ("per_tensor", "per_row")


@tf_keras.utils.register_keras_serializable(package="tf_hqgnn")
class LowBitQuantizer(tf_keras.layers.Layer):
    """Rows rounded to 2^b levels, with a gradient that trains what is before the rounding.

    Under a mixed-precision policy it computes in float32, and returns what the policy computes with.

    Args:
      num_bits: b, 1 to 8.
      mode: "per_row": the range of a row follows from the row (`ranges.row_ranges`), so that its norm, which
        carries popularity, survives; no weights. "per_tensor": one learned range for all, as published; call
        `adapt_range` before training, and give it a lower learning rate than the embeddings.
      symmetric: Whether the range is centred on 0, one learned bound; otherwise a lower and an upper one.
      estimator: A name in `ESTIMATORS`: "ste"; "ewgs" with a fixed `delta`; or "gste", whose delta is 0 (STE) until
        `refresh_delta`.
      delta: Of "ewgs" only, above 0 and at most `estimators.max_delta(num_bits)`.
      initial_range: The learned range starts at -+ this.

    Call arguments:
      inputs: float [..., d].

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
        **kwargs: Any,
    ) -> None:
        # Half precision is too coarse for the ranges.
        super().__init__(autocast=False, **kwargs)
        check_num_bits(num_bits)
        if mode not in MODES:
            raise ValueError(f"mode must be one of {', '.join(MODES)}, got {mode!r}")
        rule = ESTIMATORS[estimator]()
        if rule.takes_delta and not 0 < delta <= max_delta(num_bits):
            raise ValueError(
                f"{estimator} needs delta above 0 (0 is ste) and at most {max_delta(num_bits):g} at {num_bits} bits, "
                f"past which it could turn gradients around; got {delta}"
            )
        if not rule.takes_delta and delta != 0:
            names = ", ".join(name for name in ESTIMATORS.names() if ESTIMATORS[name].takes_delta)
            raise ValueError(f"delta is a setting of the estimator {names}, got {delta} for {estimator}")
        if not 0 < initial_range < np.inf:
            raise ValueError(f"initial_range must be positive and finite, got {initial_range}")
        self.num_bits = num_bits
        self.mode = mode
        self.symmetric = symmetric
        self.estimator = estimator
        self._rule = rule
        self.initial_delta = delta
        self.initial_range = initial_range

    @property
    def follows_hessian(self) -> bool:
        """Whether delta is found by `refresh_delta`."""
        return self._rule.follows_hessian

    def build(self, input_shape: Any) -> None:
        """Makes delta, and the learned range."""
        if self.built:
            return
        self.delta = self._add_scalar("delta", self.initial_delta, trainable=False)
        if self.mode == "per_tensor":
            self.beta = self._add_scalar("beta", self.initial_range)
            if not self.symmetric:
                self.alpha = self._add_scalar("alpha", -self.initial_range)
        super().build(input_shape)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """See the class."""
        rows = tf.cast(inputs, "float64" if self.compute_dtype == "float64" else "float32")
        lower, upper = self.ranges(rows)
        rounded = quantize_range(rows, lower, upper, self.num_bits, tf.convert_to_tensor(self.delta))
        return tf.cast(rounded, self.compute_dtype)

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

    def refresh_delta(self, rows: tf.Tensor, gradients: tf.Tensor, hessian_trace: tf.Tensor | float) -> tf.Tensor:
        """Sets delta by the curvature at a batch, and returns it, to be logged.

        The trace and the gradients are converted to the scale 0 .. 1 on which delta acts: per tensor exactly, per row
        with the mean square of the ranges' widths for the trace.

        Args:
          rows: float [n, d], what the layer was called with: best the touched rows only.
          gradients: float [n, d], of the loss with respect to what the layer returned.
          hessian_trace: float [], with respect to the same, see `hessian.hutchinson_trace`, `Loss.hessian_traces`.

        Returns:
          float32 [], within 0 .. `estimators.max_delta`; never NaN.

        Raises:
          ValueError: The estimator's delta doesn't follow the Hessian.
        """
        rows, gradients = tf.convert_to_tensor(rows), tf.convert_to_tensor(gradients)
        self._build_for(rows)
        lower, upper = self.ranges(rows)
        widths = tf.broadcast_to(upper - lower, tf.stack([tf.shape(rows)[0], 1]))
        touched = tf.cast(touched_rows(gradients), rows.dtype)[:, tf.newaxis]
        mean_square = tf.math.divide_no_nan(tf.reduce_sum(touched * tf.square(widths)), tf.reduce_sum(touched))
        delta = self._rule.delta(tf.cast(hessian_trace, rows.dtype) * mean_square, gradients * widths, self.num_bits)
        self.delta.assign(tf.cast(delta, self.delta.dtype))
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
        return Codes.quantize(rows, self.num_bits, symmetric=self.symmetric, ranges=(lower, upper))

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
        }

    def _add_scalar(self, name: str, value: float, trainable: bool = True) -> tf.Variable:
        initializer = tf_keras.initializers.Constant(value)
        return self.add_weight(name, (), initializer=initializer, trainable=trainable, experimental_autocast=False)

    def _build_for(self, rows: tf.Tensor | FloatArray) -> None:
        if not self.built:
            self.build(rows.shape)
