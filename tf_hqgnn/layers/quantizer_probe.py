"""What a quantizer does to the gradients of a few batches, and the delta that follows from them."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from tf_hqgnn.layers.low_bit_quantizer import LowBitQuantizer
from tf_hqgnn.quantization.estimators import quantize_unit, unit_values
from tf_hqgnn.quantization.hessian import touched_rows
from tf_hqgnn.types import FloatArray


class QuantizerProbe:
    """Averages over batches: how far the estimator bends gradients, the trace of the Hessian, and delta.

    Args:
      quantizer: whose delta is set by `finish`.
      finds_delta: whether delta is found anew; else only the gradients are looked at.

    Example:
      >>> quantizer = LowBitQuantizer(1, estimator="ewgs", delta=0.5)
      >>> probe = QuantizerProbe(quantizer, finds_delta=False)
      >>> probe.add(tf.constant([[2.0, -1.0]]), tf.constant([[1.0, 1.0]]))  # a range of -1.5 to 1.5
      >>> {name: round(value, 3) for name, value in probe.finish("items").items()}  # errors of 0, 1/6
      {'delta_items': 0.5, 'gradient_change_items': 0.042}
    """

    def __init__(self, quantizer: LowBitQuantizer, finds_delta: bool) -> None:
        self._quantizer = quantizer
        self._finds_delta = finds_delta and quantizer.follows_hessian
        self._batches: list[tuple[tf.Tensor, tf.Tensor, tf.Tensor | None]] = []
        self._traces: list[float] = []
        self._errors: list[float] = []
        self._deltas: list[FloatArray] = []
        self._sum: FloatArray = np.zeros(())
        self._count: FloatArray = np.zeros(())

    def add(
        self,
        rows: tf.Tensor,
        gradients: tf.Tensor,
        curvature: tf.Tensor | None = None,
        standard_error: tf.Tensor | float = 0.0,
        index: tf.Tensor | None = None,
    ) -> None:
        """Looks at one batch.

        Args:
          rows: float [n, d], what the quantizer is called with.
          gradients: float [n, d], of the loss with respect to what it returns.
          curvature: the trace of the Hessian with respect to the same, [], or its diagonal, [n, d]; delta needs it.
          standard_error: float [], of the trace.
          index: int [n], which rows of the table these are; needed for a delta of each row.

        Raises:
          ValueError: Delta is to be found, and there is no curvature, or as of `LowBitQuantizer.find_delta`.
        """
        quantizer = self._quantizer
        if not quantizer.built:
            quantizer.build(rows.shape)
        self._batches.append((rows, gradients, index))
        if not self._finds_delta:
            return
        if curvature is None:
            raise ValueError(f"the estimator {quantizer.estimator} needs the curvature of the loss to find delta")
        self._traces.append(float(tf.reduce_sum(curvature)))
        self._errors.append(float(standard_error))
        found = quantizer.find_delta(rows, gradients, curvature).numpy()
        if quantizer.delta_per != "row":
            self._deltas.append(found)
            self._sum, self._count = self._sum + found, self._count + 1.0
            return
        if index is None:
            raise ValueError("delta_per row needs the index of the rows")
        if not self._count.shape:
            self._sum, self._count = np.zeros(quantizer.delta.shape), np.zeros(quantizer.delta.shape)
        touched = touched_rows(gradients).numpy()
        np.add.at(self._sum, np.asarray(index)[touched], found[touched])
        np.add.at(self._count, np.asarray(index)[touched], 1.0)

    def finish(self, side: str) -> dict[str, float]:
        """Sets delta to the mean over the batches, where it is found, and says what was seen.

        A row that no batch has touched keeps its delta.

        Args:
          side: whose quantizer it is, "users" or "items": a part of the names.

        Returns:
          `delta_SIDE`, the mean of what is in use now; `gradient_change_SIDE`, see `gradient_change`, with that delta,
          the mean over batches; and where delta was found: `delta_SIDE_low`, `_median` and `_high`, the quantiles at
          .05, .5 and .95 over rows or columns (over batches for one delta a table); `trace_SIDE` and
          `trace_SIDE_error`, the mean over batches and the standard error of that: from their spread, or of the probes
          where there is one batch.
        """
        quantizer, logs = self._quantizer, dict[str, float]()
        if self._deltas or self._count.shape:
            before = quantizer.delta.numpy()
            mean = np.where(self._count > 0, self._sum / np.maximum(self._count, 1.0), before)
            quantizer.delta.assign(mean.astype(np.float32))
            spread = mean[self._count > 0] if self._count.shape else mean if mean.shape else np.stack(self._deltas)
            quantiles = np.quantile(spread, (0.05, 0.5, 0.95)) if spread.size else np.zeros(3)
            logs |= {f"delta_{side}_{name}": float(q) for name, q in zip(("low", "median", "high"), quantiles)}
            number = len(self._traces)
            error = np.std(self._traces, ddof=1) / np.sqrt(number) if number > 1 else self._errors[0]
            logs |= {f"trace_{side}": float(np.mean(self._traces)), f"trace_{side}_error": float(error)}
        changes = [float(gradient_change(quantizer, *batch)) for batch in self._batches]
        change = float(np.mean(changes)) if changes else 0.0
        return {f"delta_{side}": float(np.mean(quantizer.delta.numpy())), f"gradient_change_{side}": change, **logs}


def gradient_change(
    quantizer: LowBitQuantizer, rows: tf.Tensor, gradients: tf.Tensor, index: tf.Tensor | None = None
) -> tf.Tensor:
    """How far the estimator bends gradients: the mean of |dL/dx_n - g|, relative to the mean of |g|.

    With GSTE and EWGS it is the mean of `|delta (x_n - x_q)|`, weighted by the size of the gradients; 0 with STE.

    Args:
      quantizer: With its delta.
      rows: float [n, d], what it is called with.
      gradients: float [n, d], g, of the loss with respect to what it returns.
      index: int [n], which rows of the table these are, for a delta of each row.

    Returns:
      float [], >= 0; 0 without any gradient.
    """
    rule, num_bits = quantizer.rule, quantizer.num_bits
    g = gradients * quantizer.widths(rows)
    x_n = unit_values(rows, *quantizer.ranges(rows))
    delta = tf.clip_by_value(quantizer.deltas(index), 0.0, rule.max_delta(num_bits))
    slope = rule.slope(g, x_n, quantize_unit(x_n, num_bits), delta, num_bits)
    bent = tf.abs(g) * tf.abs(slope - 1.0)
    return tf.math.divide_no_nan(tf.reduce_mean(bent), tf.reduce_mean(tf.abs(g)))
