"""Training steps: the model's own `train_step`, its tables and moments inputs and outputs that share memory."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import tensorflow as tf

from benchmarks.cells import ROOT
from benchmarks.gpu.maker.program import Definition, Source, drawn, fixed, indices
from benchmarks.gpu.runner.draws import Draw
from benchmarks.gpu.runner.manifest import Array
from tf_hqgnn.config import Config, LossConfig, QuantizationConfig
from tf_hqgnn.models.factory import make_quantizers
from tf_hqgnn.models.hqgnn import HQGNN
from tf_hqgnn.models.optimizers import LazyAdam

LEARNING_RATE = 0.01
STEP = 10


@dataclass(frozen=True)
class Training:
    """What is trained.

    Args:
      name: in the table.
      loss: settings of the loss.
      dense: whether every row of the tables moves, as by plain Adam, and not only those of the batch.
      quantization: of a fine-tuning step of HQ-GNN: its quantizers, and how the Hessian's trace is found, which is
        found anew in each step here.
    """

    name: str
    loss: LossConfig
    dense: bool = False
    quantization: QuantizationConfig | None = None


def _loss(preset: str) -> LossConfig:
    return Config.load(ROOT / "configs" / f"{preset}.yaml").loss


ALIGNMENT = Training("alignment and uniformity", _loss("lightgode"))
SOFTMAX = Training("softmax", _loss("gowalla"))
HQ_BPR = Training(
    "HQ-GNN, BPR, exact trace",
    LossConfig(name="bpr"),
    quantization=QuantizationConfig(bits=1, method="fine_tuning", trace="exact"),
)
HQ_SOFTMAX = Training(
    "HQ-GNN, softmax, Hutchinson trace",
    _loss("gowalla"),
    quantization=QuantizationConfig(bits=1, method="fine_tuning", trace="hutchinson"),
)


def dense(training: Training) -> Training:
    """The same with the dense optimizer."""
    return replace(training, dense=True)


class DenseAdam(LazyAdam):
    """Adam that moves every row: the gradient of a table is made dense first."""

    def update_step(self, gradient: tf.Tensor | tf.IndexedSlices, variable: tf.Variable) -> None:
        """See `LazyAdam`."""
        super().update_step(tf.convert_to_tensor(gradient), variable)


def training_step(training: Training, num_rows: int, dim: int, batch: int, check: bool = False) -> Definition:
    """One step over tables of `num_rows` users and as many items."""
    inputs = _inputs(training, num_rows, dim, batch)
    optimizer = "dense Adam" if training.dense else "sparse Adam"

    def build(fixed_shapes: bool = True) -> Source:
        model = _model(training, num_rows, dim, fixed_shapes)
        arguments = [name for name in ("user_index", "item_index", "negative_index") if name in inputs]

        def step(*features: tf.Tensor) -> dict[str, tf.Tensor]:
            batch_of = dict(zip(arguments, features))
            if training.quantization is not None:
                model.refresh_deltas(batch_of, training.quantization)
            return model.train_step(batch_of)

        return Source(step, arguments, _captured(model))

    table = 4 * num_rows * dim
    # A row with both its moments is read and written: of the batch, or of the whole table.
    rows = 2 * 6 * (table if training.dense else 4 * min(batch, num_rows) * dim)
    return Definition(
        name=f"train {training.name}, {optimizer}, {num_rows:,} x {dim}, batch {batch:,}",
        kind="training",
        settings={
            "loss": training.loss.model_dump(mode="json"),
            "dense": training.dense,
            "quantization": None if training.quantization is None else training.quantization.model_dump(mode="json"),
            "num_rows": num_rows,
            "dim": dim,
            "batch": batch,
            "learning_rate": LEARNING_RATE,
            "step": STEP,
        },
        inputs=inputs,
        moved_bytes=rows,
        build=build,
        check_with_tensorflow=check,
        on_cpu=lambda: build(fixed_shapes=False),
    )


def _inputs(training: Training, num_rows: int, dim: int, batch: int) -> dict[str, Array]:
    group = f"tables {num_rows} x {dim}"
    shape = (num_rows, dim)
    inputs = [
        indices("user_index", 31, batch, num_rows),
        indices("item_index", 34, batch, num_rows, skewed=True),
        drawn("user_table", Draw("normal", 20, shape, "float32", 0.1), group, 0),
        drawn("item_table", Draw("normal", 21, shape, "float32", 0.1), group, 1),
        drawn("m/user_table", Draw("normal", 22, shape, "float32", 1e-4), group, 2),
        drawn("v/user_table", Draw("positive", 23, shape, "float32", 1e-6), group, 3),
        drawn("m/item_table", Draw("normal", 24, shape, "float32", 1e-4), group, 4),
        drawn("v/item_table", Draw("positive", 25, shape, "float32", 1e-6), group, 5),
        drawn("log_popularity", Draw("normal", 26, (num_rows,), "float32", 1.0), f"popularity {num_rows}"),
        drawn("user_weight", Draw("positive", 27, (num_rows,), "float32", 2.0), f"popularity {num_rows}", 1),
        fixed("learning_rate", LEARNING_RATE, "float32"),
        fixed("iteration", STEP, "int64"),
        fixed("total", 0, "float32"),
        fixed("count", 0, "float32"),
        fixed("first_bad_step", -1, "int64"),
        fixed("user_delta", 0, "float32"),
        fixed("item_delta", 0, "float32"),
    ]
    if training.loss.make().needs_negatives:
        negatives = indices("negative_index", 37, batch, num_rows)
        inputs.append(replace(negatives, shape=(batch, 1)))
    return {array.name: array for array in inputs}


def _model(training: Training, num_rows: int, dim: int, fixed_shapes: bool) -> HQGNN:
    users, items = (None, None) if training.quantization is None else make_quantizers(training.quantization)
    start = np.zeros([num_rows, dim], np.float32)
    model = HQGNN(
        num_rows,
        num_rows,
        dim,
        training.loss.make(),
        weight_decay=training.loss.weight_decay,
        user_quantizer=users,
        item_quantizer=items,
        start=(start, start),
    )
    kind = DenseAdam if training.dense else LazyAdam
    optimizer = kind(LEARNING_RATE, fixed_shapes=fixed_shapes)
    optimizer.build(model.trainable_variables)
    model.compile(optimizer=optimizer)
    return model


def _captured(model: HQGNN) -> dict[str, tf.Variable | tf.Tensor]:
    """What a step reads besides the batch, by the names of `_inputs`."""
    variables: list[tf.Variable] = [*model.optimizer.variables, *model.metrics[0].variables]
    named = {variable.name.split(":")[0]: variable for variable in variables}
    named |= {
        "learning_rate": model.optimizer.learning_rate,
        "user_table": model.user_table,
        "item_table": model.item_table,
        "first_bad_step": model.first_bad_step,
    }
    for name, quantizer in (("user_delta", model.user_quantizer), ("item_delta", model.item_quantizer)):
        if quantizer is not None:
            named[name] = quantizer.delta
    return {**named, "log_popularity": model.log_popularity, "user_weight": model.user_weight}
