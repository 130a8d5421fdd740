"""The deltas of a model's quantizers, from the curvature of its loss at a few batches."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Protocol

import tensorflow as tf

from tf_hqgnn.config import QuantizationConfig
from tf_hqgnn.graph.unique_rows import unique_rows
from tf_hqgnn.layers.low_bit_quantizer import LowBitQuantizer
from tf_hqgnn.layers.quantizer_probe import QuantizerProbe
from tf_hqgnn.models.batches import Features, wanted_items
from tf_hqgnn.quantization.hessian import hutchinson_diagonal

if TYPE_CHECKING:
    from tf_hqgnn.models.hqgnn import HQGNN

# The curvature of the users' rows and of the items', each with the standard error of its sum.
_Curvatures = list[tuple[tf.Tensor, tf.Tensor | float]]


def quantized(
    quantizer: LowBitQuantizer | None, rows: tf.Tensor, index: tf.Tensor | None, step: tf.Tensor | None
) -> tf.Tensor:
    """Rows [..., d], rounded if there is something to round them.

    Args:
      quantizer: None leaves the rows as they are.
      rows: float [..., d].
      index: int [...], which rows of the table these are.
      step: int [], of the training, for an estimator that rounds at random.
    """
    if quantizer is None:
        return rows
    flat = None if index is None else tf.reshape(index, [-1])
    return tf.reshape(quantizer(tf.reshape(rows, [-1, rows.shape[-1]]), index=flat, step=step), tf.shape(rows))


def refresh_deltas(
    model: HQGNN, batches: Iterable[Features], config: QuantizationConfig, finds_delta: bool = True
) -> dict[str, float]:
    """Sets the delta of every quantizer whose delta follows the Hessian, to the mean over batches.

    The Hessian and the gradients are those of the quantized rows that a batch touches, each once.

    Args:
      model: With its quantizers.
      batches: As `fit` gets them.
      config: How the trace is found: `exact` (of a loss with `exact_trace`) or `hutchinson`.
      finds_delta: False only looks at the gradients.

    Returns:
      What was seen, see `QuantizerProbe.finish`.
    """
    sides = {"users": model.user_quantizer, "items": model.item_quantizer}
    probes = {side: QuantizerProbe(layer, finds_delta) for side, layer in sides.items() if layer is not None}
    finds_delta &= any(layer is not None and layer.follows_hessian for layer in sides.values())
    for number, features in enumerate(batches):
        _look_at(model, features, config, probes, finds_delta, number)
    logs: dict[str, float] = {}
    for side, probe in probes.items():
        logs |= probe.finish(side)
    return logs


def assign_deltas(model: HQGNN, features: Features, config: QuantizationConfig) -> None:
    """Sets the deltas of `refresh_deltas` by one batch, by operations alone: a program that is compiled can do it.

    Args:
      model: With its quantizers.
      features: A batch, as `fit` gets it.
      config: How the trace is found.

    Raises:
      ValueError: A delta is one of rows: which rows a batch touches isn't known before it comes.
    """
    sides = {"users": model.user_quantizer, "items": model.item_quantizer}
    assigned = {side: _Assigned(layer) for side, layer in sides.items() if layer is not None and layer.follows_hessian}
    if assigned:
        _look_at(model, features, config, assigned, finds_delta=True, number=0)


class _Looks(Protocol):
    """What is shown a batch, see `QuantizerProbe.add`."""

    def add(
        self,
        rows: tf.Tensor,
        gradients: tf.Tensor,
        curvature: tf.Tensor | None,
        standard_error: tf.Tensor | float,
        index: tf.Tensor,
        /,
    ) -> None: ...


class _Assigned:
    """Assigns the delta that follows from a batch."""

    def __init__(self, quantizer: LowBitQuantizer) -> None:
        self._quantizer = quantizer

    def add(self, rows: tf.Tensor, gradients: tf.Tensor, curvature: tf.Tensor | None, *_: object) -> None:
        quantizer = self._quantizer
        if quantizer.delta_per == "row":
            raise ValueError("delta_per row is set by refresh_deltas, over batches, not by one batch in a graph")
        assert curvature is not None
        quantizer.delta.assign(quantizer.find_delta(rows, gradients, curvature))


def _look_at(
    model: HQGNN,
    features: Features,
    config: QuantizationConfig,
    probes: Mapping[str, _Looks],
    finds_delta: bool,
    number: int,
) -> None:
    # What is disliked is no part of the curvature.
    features = {name: values for name, values in features.items() if name != "disliked_index"}
    context, wanted = model.batch_context(features), wanted_items(features)
    # Rows left over beside the distinct ones are touched by no loss, and count for nothing.
    touched_users, user_place, _ = unique_rows(features["user_index"])
    touched_items, item_place, _ = unique_rows(tf.reshape(wanted, [-1]))
    index = {"users": touched_users, "items": touched_items}
    users, items = model.encode(touched_users, touched_items)
    coded = model.quantize(users, items)

    def batch_rows(users: tf.Tensor, items: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor | None]:
        of_batch = tf.gather(items, tf.reshape(item_place, tf.shape(wanted)))
        negatives = of_batch[:, 1:] if "negative_index" in features else None
        return tf.gather(users, user_place), of_batch[:, 0], negatives

    def loss(users: tf.Tensor, items: tf.Tensor) -> tf.Tensor:
        return model.loss_of_rows(*batch_rows(users, items), context)

    with tf.GradientTape() as tape:
        tape.watch(coded)
        value = loss(*coded)
    gradients = tape.gradient(value, coded)

    def curvatures() -> _Curvatures:
        if config.trace == "exact":
            weight = [features["weight"]] if "weight" in features else []
            return [(trace, 0.0) for trace in model.batch_loss.hessian_traces(*batch_rows(*coded), *weight)]
        step = number + (model.optimizer.iterations if model.optimizer is not None else 0)
        found: _Curvatures = []
        for side, of_rows in enumerate((lambda x: loss(x, coded[1]), lambda x: loss(coded[0], x))):
            estimate, diagonal = hutchinson_diagonal(
                of_rows,
                coded[side],
                num_probes=config.trace_probes,
                tolerance=config.trace_tolerance,
                seed=step,
            )
            found.append((estimate.trace if config.delta_per == "table" else diagonal, estimate.standard_error))
        return found

    found = curvatures() if finds_delta else [(None, 0.0)] * 2
    for (side, rows), gradient, (curvature, error) in zip((("users", users), ("items", items)), gradients, found):
        if side in probes:
            probes[side].add(rows, gradient, curvature, error, index[side])
