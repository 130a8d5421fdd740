"""The quantizers of a distillation, looked at with a batch: gradients, curvature, and the delta that follows."""

from __future__ import annotations

from typing import Callable, NamedTuple

import tensorflow as tf

from tf_hqgnn.config import QuantizationConfig
from tf_hqgnn.layers.quantizer_probe import QuantizerProbe
from tf_hqgnn.quantization.hessian import hutchinson_diagonal
from tf_hqgnn.quantization.ranking_divergence import ranking_divergence, ranking_divergence_diagonals

Quantize = Callable[[tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]]


class Batch(NamedTuple):
    """A batch of users and items of a distillation.

    Args:
      user_index: int32 [B], which users these are.
      item_index: int32 [S].
      users: float32 [B, d], rows that aren't quantized yet.
      items: float32 [S, d].
      target: what `ranking_divergence` takes besides the rows.
    """

    user_index: tf.Tensor
    item_index: tf.Tensor
    users: tf.Tensor
    items: tf.Tensor
    target: tuple[tf.Tensor, tf.Tensor, tf.Tensor]


def look_at(
    batch: Batch,
    quantize: Quantize,
    probes: tuple[QuantizerProbe | None, QuantizerProbe | None],
    config: QuantizationConfig,
    finds_delta: bool,
    seed: int,
) -> None:
    """Adds a batch to the probes of both quantizers.

    Args:
      batch: with no user and no item twice.
      quantize: (users, items) -> what their codes stand for.
      probes: of users and items; None where rows aren't quantized.
      config: how the curvature is found.
      finds_delta: whether it is.
      seed: of Hutchinson's probes.
    """
    quantized, target = quantize(batch.users, batch.items), batch.target
    with tf.GradientTape() as tape:
        tape.watch(quantized)
        loss = ranking_divergence(*quantized, *target)
    gradients = tape.gradient(loss, quantized)
    curvatures: list[tuple[tf.Tensor | None, tf.Tensor | float]] = [(None, 0.0), (None, 0.0)]
    if finds_delta and config.trace == "exact":
        curvatures = [(diagonal, 0.0) for diagonal in ranking_divergence_diagonals(*quantized, *target)]
    elif finds_delta:
        losses = (
            lambda x: ranking_divergence(x, quantized[1], *target),
            lambda x: ranking_divergence(quantized[0], x, *target),
        )
        for side, (of_rows, rows) in enumerate(zip(losses, quantized)):
            estimate, diagonal = hutchinson_diagonal(
                of_rows, rows, num_probes=config.trace_probes, tolerance=config.trace_tolerance, seed=seed + side
            )
            curvatures[side] = diagonal, estimate.standard_error
    sides = zip(probes, (batch.users, batch.items), gradients, curvatures, (batch.user_index, batch.item_index))
    for probe, rows, gradient, (curvature, error), index in sides:
        if probe is not None:
            probe.add(rows, gradient, curvature, error, index)
