"""The deltas of a model's quantizers, from the curvature of its loss at a batch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import tensorflow as tf

from tf_hqgnn.config import QuantizationConfig
from tf_hqgnn.graph.unique_rows import unique_rows
from tf_hqgnn.models.batches import Features, wanted_items
from tf_hqgnn.quantization.hessian import hutchinson_trace

if TYPE_CHECKING:
    from tf_hqgnn.models.hqgnn import HQGNN


def refresh_deltas(model: HQGNN, features: Features, config: QuantizationConfig) -> None:
    """Sets the delta of every quantizer whose delta follows the Hessian.

    The Hessian and the gradients are those of the quantized rows that the batch touches, each once.

    Args:
      model: With its quantizers.
      features: A batch as `fit` gets it.
      config: How the trace is found: `exact` (of a loss with `exact_trace`) or `hutchinson`.
    """
    # What is disliked is no part of the curvature.
    features = {name: values for name, values in features.items() if name != "disliked_index"}
    context, wanted = model.batch_context(features), wanted_items(features)
    # Rows left over beside the distinct ones are touched by no loss, and count for nothing.
    touched_users, user_place, _ = unique_rows(features["user_index"])
    touched_items, item_place, _ = unique_rows(tf.reshape(wanted, [-1]))
    users, items = model.encode(touched_users, touched_items)
    coded_users, coded_items = model.quantize(users, items)

    def batch_rows(users: tf.Tensor, items: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor | None]:
        of_batch = tf.gather(items, tf.reshape(item_place, tf.shape(wanted)))
        negatives = of_batch[:, 1:] if "negative_index" in features else None
        return tf.gather(users, user_place), of_batch[:, 0], negatives

    def loss(users: tf.Tensor, items: tf.Tensor) -> tf.Tensor:
        return model.loss_of_rows(*batch_rows(users, items), context)

    with tf.GradientTape() as tape:
        tape.watch([coded_users, coded_items])
        value = loss(coded_users, coded_items)
    gradients = tape.gradient(value, [coded_users, coded_items])
    if config.trace == "exact":
        weight = [features["weight"]] if "weight" in features else []
        traces = model.batch_loss.hessian_traces(*batch_rows(coded_users, coded_items), *weight)
    else:
        step = model.optimizer.iterations if model.optimizer is not None else 0
        losses = (lambda x: loss(x, coded_items), lambda x: loss(coded_users, x))
        traces = tuple(
            hutchinson_trace(
                of_rows, rows, num_probes=config.trace_probes, tolerance=config.trace_tolerance, seed=step
            ).trace
            for of_rows, rows in zip(losses, (coded_users, coded_items))
        )
    sides = (model.user_quantizer, model.item_quantizer)
    for quantizer, rows, gradient, trace in zip(sides, (users, items), gradients, traces):
        if quantizer is not None and quantizer.follows_hessian:
            quantizer.refresh_delta(rows, gradient, trace)
