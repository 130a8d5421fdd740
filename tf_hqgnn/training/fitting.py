"""One fit of a model: batches, validation, early stopping, and checkpoints to go on from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path

import tensorflow as tf
import tf_keras

from tf_hqgnn.config import TrainingConfig
from tf_hqgnn.data.datasets import steps_per_epoch, training_batches
from tf_hqgnn.graph.interaction_graph import InteractionGraph
from tf_hqgnn.losses.loss import Loss
from tf_hqgnn.models.hqgnn import HQGNN
from tf_hqgnn.runs.checkpoints import CheckpointStore
from tf_hqgnn.training.callbacks import StopOnDivergence, TrainingState, Validation, changing_variables, restore_weights
from tf_hqgnn.training.distribution import divide, from_chief, is_chief, share_variables
from tf_hqgnn.types import Array, Interactions


def loss_batches(
    loss: Loss, train: Interactions, graph: InteractionGraph, batch_size: int, seed: int, first_epoch: int = 0
) -> tf.data.Dataset:
    """The training batches with what the loss needs in them: negatives, which items of a batch are positives, dislikes.

    Args:
      loss: says what it needs.
      train: the training interactions.
      graph: of them.
      batch_size: as of `training_batches`, likewise the rest.
      seed: of the order.
      first_epoch: 0 for a new run.
    """
    return training_batches(
        train,
        graph.num_items,
        batch_size,
        seed,
        first_epoch,
        num_negatives=loss.negatives_per_pair,
        seen=graph.seen() if loss.needs_positives else None,
        disliked=graph.disliked.to_csr(graph.num_users) if graph.disliked is not None and len(graph.disliked) else None,
    )


def fit(
    model: HQGNN,
    train: Interactions,
    graph: InteractionGraph,
    training: TrainingConfig,
    seed: int,
    validate: Callable[[], dict[str, float]],
    folder: Path,
    callbacks: Sequence[tf_keras.callbacks.Callback] = (),
    start_value: float | None = None,
    monitor: str = "ndcg@20",
) -> TrainingState:
    """Trains to the end, and leaves the model with the weights of the best epoch.

    Killed at any moment, the same call goes on from the last checkpoint and ends in the same state. In a cluster all
    workers have to call this; the chief alone validates, reads and writes, and only its model gets the best weights.

    Args:
      model: compiled, with the variables of its strategy.
      train: the training interactions.
      graph: of them.
      training: when to validate, to checkpoint and to stop.
      seed: of the batches.
      validate: () -> metrics of the model as it is now, `monitor` among them unless there is nothing to validate on.
      folder: gets `checkpoints/`, `history.csv` and `tensorboard/`.
      callbacks: more of Keras' callbacks.
      start_value: the monitor's value for the weights that the fit starts with, if they may turn out the best.
      monitor: the metric that tells which epoch is best.

    Returns:
      How it ended.

    Raises:
      DivergenceError: The loss is no longer finite.
      InputError: The batch can't be divided among the strategy's replicas.
    """
    strategy = model.distribute_strategy
    batch_size = min(training.batch_size, len(train))
    store = CheckpointStore(folder / "checkpoints") if is_chief(strategy) else None
    state, best_weights = TrainingState(), list[Array]()
    if store is not None and store.epochs():
        weights, saved = store.load()
        state = TrainingState(**saved)
        best_weights = restore_weights(model, weights)
    elif start_value is not None:
        state.best_value = start_value
        best_weights = [variable.numpy() for variable in model.trainable_weights]
    state = TrainingState(**from_chief(strategy, lambda: asdict(state)))
    share_variables(strategy, changing_variables(model).values())
    if not state.is_finished(training):
        validation = Validation(
            lambda: from_chief(strategy, validate),
            state,
            store,
            training,
            best_weights,
            folder / "history.csv",
            folder / "tensorboard",
            monitor,
        )
        with closing(validation):
            batches = loss_batches(model.batch_loss, train, graph, batch_size, seed, state.epoch)
            model.fit(
                divide(batches, strategy, batch_size),
                epochs=training.max_epochs,
                initial_epoch=state.epoch,
                steps_per_epoch=steps_per_epoch(len(train), training.batch_size),
                callbacks=[StopOnDivergence(training.learning_rate), *callbacks, validation],
                verbose=0,
            )
        best_weights = validation.best_weights
    for variable, value in zip(model.trainable_weights, best_weights):
        variable.assign(value)
    return state
