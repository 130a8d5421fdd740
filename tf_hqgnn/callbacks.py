"""What happens between the epochs of a training: validation, stopping, checkpoints, progress."""

from __future__ import annotations

import csv
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Callable

import numpy as np
import tensorflow as tf
import tf_keras
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from tf_hqgnn.checkpoints import CheckpointStore
from tf_hqgnn.models.hqgnn import HQGNN

# What early stopping watches.
MONITOR = "ndcg@20"


class DivergenceError(ArithmeticError):
    """The loss became NaN or infinite; the message names the step."""


class StopOnDivergence(tf_keras.callbacks.Callback):
    """Raises DivergenceError, naming the step, as soon as a loss was not finite."""

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Asks the model; Keras calls this once per `steps_per_execution` steps."""
        if np.isfinite((logs or {}).get("loss", 0.0)):
            return
        step = int(self.model.first_bad_step.numpy())
        raise DivergenceError(
            f"the loss became NaN or infinite at step {step}: lower training.learning_rate (now "
            f"{float(self.model.optimizer.learning_rate.numpy()):g}), or go back to a milder loss"
        )


@dataclass
class TrainingState:
    """All that a resumed run needs besides the weights. JSON-ready."""

    epoch: int = 0
    best_epoch: int = 0
    best_value: float = -1.0
    seconds: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)

    def is_finished(self, max_epochs: int, patience: int, evaluate_every: int) -> bool:
        """Whether the last epoch is reached, or `patience` validations in a row brought nothing better."""
        return self.epoch >= max_epochs or self.epoch - self.best_epoch >= patience * evaluate_every


class Validation(tf_keras.callbacks.Callback):
    """Validates, stops early and checkpoints after every `evaluate_every` epochs and after the last one.

    Args:
      validate: () -> metrics, of the tables as they are now with the propagation applied; without `ndcg@20` among
        them (no validation interactions) every epoch counts as better than the one before.
      state: updated in place.
      store: where checkpoints go; those of the best and the latest epoch are kept.
      max_epochs: the last epoch.
      evaluate_every: epochs between validations.
      patience: validations without improvement after which training stops.
      history_path: CSV with one row a validated epoch.
      tensorboard: folder of the TensorBoard log.
    """

    def __init__(
        self,
        validate: Callable[[], dict[str, float]],
        state: TrainingState,
        store: CheckpointStore,
        max_epochs: int,
        evaluate_every: int,
        patience: int,
        history_path: Path,
        tensorboard: Path,
    ) -> None:
        super().__init__()
        self._validate = validate
        self._state = state
        self._store = store
        self._max_epochs = max_epochs
        self._evaluate_every = evaluate_every
        self._patience = patience
        self._history_path = history_path
        self._writer = tf.summary.create_file_writer(str(tensorboard))
        self._started = time.monotonic()
        self._progress = _Progress(max_epochs, state.epoch)

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        """Starts the clock and the bar."""
        self._started = time.monotonic()
        self._progress.start()

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Validates when it is time to."""
        state = self._state
        state.epoch = epoch + 1
        loss = float((logs or {}).get("loss", np.nan))
        trained = time.monotonic()
        if state.epoch % self._evaluate_every and state.epoch < self._max_epochs:
            self._progress.update(state.epoch, loss, state)
            return
        metrics = self._validate()
        validated = time.monotonic()
        if MONITOR not in metrics:
            state.best_epoch = state.epoch
        elif metrics[MONITOR] > state.best_value:
            state.best_value, state.best_epoch = metrics[MONITOR], state.epoch
        state.seconds += validated - self._started
        row = {"epoch": state.epoch, "loss": loss, "train_seconds": trained - self._started}
        row |= {"validation_seconds": validated - trained} | {f"valid_{name}": value for name, value in metrics.items()}
        state.history.append(row)
        self._started = validated
        with self._writer.as_default(step=state.epoch):
            for name, value in row.items():
                tf.summary.scalar(name, value)
        self._writer.flush()
        self._store.save(state.epoch, model_weights(self.model), asdict(state), keep={state.best_epoch})
        self._write_history()
        self._progress.update(state.epoch, loss, state)
        self.model.stop_training = state.is_finished(self._max_epochs, self._patience, self._evaluate_every)

    def on_train_end(self, logs: dict[str, float] | None = None) -> None:
        """Closes the bar."""
        self.close()

    def close(self) -> None:
        """Gives the terminal back; safe to call twice."""
        self._progress.stop()
        self._writer.close()

    def _write_history(self) -> None:
        with open(self._history_path, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, fieldnames=list(self._state.history[0]))
            writer.writeheader()
            writer.writerows(self._state.history)


class _Progress:
    """A bar on a terminal, a line a tenth of the way elsewhere; both on standard error."""

    def __init__(self, max_epochs: int, epoch: int) -> None:
        console = Console(stderr=True)
        self._max_epochs = max_epochs
        self._bar: Progress | None = None
        if console.is_terminal:
            columns = (TextColumn("training"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"))
            self._bar = Progress(*columns, TimeRemainingColumn(), console=console)
            self._task = self._bar.add_task("", total=max_epochs, completed=epoch)

    def start(self) -> None:
        if self._bar:
            self._bar.start()

    def update(self, epoch: int, loss: float, state: TrainingState) -> None:
        text = f"loss {loss:.4f}"
        if state.best_value >= 0:
            text += f"  best valid {MONITOR} {state.best_value:.4f} at epoch {state.best_epoch}"
        if self._bar:
            self._bar.update(self._task, completed=epoch, description=text)
        elif epoch % max(1, self._max_epochs // 20) == 0 or epoch == self._max_epochs:
            print(f"epoch {epoch}/{self._max_epochs}  {text}  {state.seconds:.0f} s", file=sys.stderr, flush=True)

    def stop(self) -> None:
        if self._bar:
            self._bar.stop()


def model_weights(model: HQGNN) -> dict[str, np.ndarray]:
    """Every number that training changes: the weights, then the optimizer's variables."""
    weights = {f"weight_{n}": variable.numpy() for n, variable in enumerate(model.trainable_weights)}
    return weights | {f"optimizer_{n}": variable.numpy() for n, variable in enumerate(model.optimizer.variables)}


def restore_weights(model: HQGNN, weights: dict[str, Any]) -> None:
    """Puts back what model_weights() took.

    Raises:
      ValueError: The checkpoint is of a model with other variables.
    """
    model.optimizer.build(model.trainable_variables)
    variables = {f"weight_{n}": variable for n, variable in enumerate(model.trainable_weights)}
    variables |= {f"optimizer_{n}": variable for n, variable in enumerate(model.optimizer.variables)}
    if set(variables) != set(weights):
        raise ValueError(f"the checkpoint has {sorted(weights)}, the model has {sorted(variables)}")
    for name, variable in variables.items():
        variable.assign(weights[name])
