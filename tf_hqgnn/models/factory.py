"""The model and the quantizers that the settings describe."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
import tf_keras

from tf_hqgnn.config import Config, QuantizationConfig
from tf_hqgnn.data.datasets import steps_per_epoch
from tf_hqgnn.graph.interaction_graph import InteractionGraph
from tf_hqgnn.layers.low_bit_quantizer import LowBitQuantizer
from tf_hqgnn.models.encoder import make_encoder
from tf_hqgnn.models.hqgnn import HQGNN
from tf_hqgnn.models.initialization import initial_embeddings
from tf_hqgnn.models.optimizer_choice import OPTIMIZERS
from tf_hqgnn.models.optimizers import LazyAdam
from tf_hqgnn.types import InputError


def make_model(
    config: Config,
    graph: InteractionGraph,
    quantizers: tuple[LowBitQuantizer | None, LowBitQuantizer] | None = None,
    initialize: bool = True,
) -> HQGNN:
    """The model, compiled, with the optimizer's variables.

    Args:
      config: all settings.
      graph: of the training interactions.
      quantizers: of users and items; with them, the learning rates are those of `config.quantization`.
      initialize: whether to compute what `config.model.initializer` names; False where the tables are overwritten with
        others, which leaves them random.

    Raises:
      InputError: Several replicas share each batch, which the optimizer can't do.
    """
    training, replicas = config.training, tf.distribute.get_strategy().num_replicas_in_sync
    if replicas > 1 and quantizers is None and not OPTIMIZERS[training.optimizer].shares_batches:
        raise InputError(
            f"training.optimizer={training.optimizer} trains on one device, and {replicas} share each batch: set "
            "training.optimizer=dense or lazy, or training.strategy=none"
        )
    users, items = quantizers or (None, None)
    # Where nothing is trained, the lengths of the rows are a part of what ranks.
    unit = config.training.max_epochs > 0
    model = HQGNN(
        graph.num_users,
        graph.num_items,
        config.model.embedding_dim,
        config.loss.make(),
        make_encoder(config.model, graph, config.seed),
        item_count=graph.item_strength,
        user_count=graph.user_strength,
        user_quantizer=users,
        item_quantizer=items,
        weight_decay=config.loss.weight_decay,
        dislike_weight=config.loss.dislike_weight,
        seed=config.seed,
        jit_compile_loss=config.training.jit_compile,
        start=initial_embeddings(graph, config.model, config.seed, unit) if initialize else None,
    )
    if quantizers is None:
        rate = _scheduled(training.learning_rate, training.schedule, training.max_epochs, config, graph)
        optimizer = training.make_optimizer(rate)
    else:
        settings = config.quantization
        slower = dict.fromkeys(("alpha", "beta", "scale"), settings.range_factor(settings.learning_rate))
        rate = _scheduled(settings.learning_rate, settings.schedule, settings.max_epochs, config, graph)
        optimizer = LazyAdam(rate, factors=slower)
    # Now, not in the first step: variables that appear while it is traced make Keras trace it again.
    optimizer.build(model.trainable_variables)
    model.compile(optimizer=optimizer, steps_per_execution=config.training.steps_per_execution)
    return model


def make_quantizers(config: QuantizationConfig) -> tuple[LowBitQuantizer | None, LowBitQuantizer]:
    """The quantizers of users (None if `user_bits` is None) and of items that the settings name.

    Raises:
      ValueError: `bits` is None.
    """
    rule = config.make_estimator()

    def make(num_bits: int, name: str, seed: int) -> LowBitQuantizer:
        return LowBitQuantizer(
            num_bits,
            config.mode,
            config.symmetric,
            config.estimator,
            min(config.delta, rule.max_delta(num_bits)),
            delta_per=config.delta_per,
            output_scale=config.output_scale,
            seed=seed,
            name=name,
        )

    if config.bits is None:
        raise ValueError("quantization.bits is null: there is nothing to quantize to")
    users = None if config.user_bits is None else make(config.user_bits, "user_quantizer", 0)
    return users, make(config.bits, "item_quantizer", 1)


def _scheduled(rate: float, schedule: str, max_epochs: int, config: Config, graph: InteractionGraph) -> Any:
    """A constant learning rate, or one that falls to 0 over all steps."""
    if schedule == "constant":
        return rate
    steps = steps_per_epoch(graph.num_edges + graph.num_repeated, config.training.batch_size)
    return tf_keras.optimizers.schedules.CosineDecay(rate, max(1, max_epochs) * steps)
