"""What happens between the epochs of a training: validation, stopping, checkpoints, progress."""

from __future__ import annotations

import logging
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Callable

import numpy as np
import tensorflow as tf
import tf_keras
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from tf_hqgnn.config import TrainingConfig
from tf_hqgnn.files.durable import write_csv
from tf_hqgnn.models.hqgnn import HQGNN
from tf_hqgnn.runs.checkpoints import CheckpointStore
from tf_hqgnn.types import Array

log = logging.getLogger(__name__)


class DivergenceError(ArithmeticError):
    """The loss became NaN or infinite; the message names the step."""


class StopOnDivergence(tf_keras.callbacks.Callback):
    """Raises DivergenceError, naming the step, as soon as a loss was not finite.

    Args:
      learning_rate: of the settings, for the message; a schedule may have lowered it since.
    """

    def __init__(self, learning_rate: float) -> None:
        super().__init__()
        self._learning_rate = learning_rate

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Asks the model; Keras calls this once per `steps_per_execution` steps."""
        del batch
        if np.isfinite((logs or {}).get("loss", 0.0)):
            return
        step = int(self.model.first_bad_step.numpy())
        raise DivergenceError(
            f"the loss became NaN or infinite at step {step}: lower training.learning_rate (now "
            f"{self._learning_rate:g}), or go back to a milder loss"
        )


@dataclass
class TrainingState:
    """All that a resumed run needs besides the weights. JSON-ready."""

    epoch: int = 0
    best_epoch: int = 0
    best_value: float = -1.0
    seconds: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)

    def is_finished(self, config: TrainingConfig) -> bool:
        """Whether the last epoch is reached, or `patience` validations in a row brought nothing better."""
        return (
            self.epoch >= config.max_epochs or self.epoch - self.best_epoch >= config.patience * config.evaluate_every
        )


class Validation(tf_keras.callbacks.Callback):
    """Validates every `evaluate_every` epochs and after the last one, stops early, and checkpoints now and then.

    `best_weights` holds the trainable weights of the best epoch so far.

    Args:
      validate: () -> metrics, of the tables as they are now with the propagation applied; without the monitor among
        them (no validation interactions) every epoch counts as better than the one before.
      state: updated in place.
      store: where checkpoints go, each with the best weights so far; None on a worker that isn't the chief, which
        writes and prints nothing.
      config: when to validate, to checkpoint and to stop.
      best_weights: of the best epoch before this, if there is one.
      history_path: CSV with one row a validated epoch.
      tensorboard: folder of the TensorBoard log.
      monitor: the metric that tells which epoch is best.
    """

    def __init__(
        self,
        validate: Callable[[], dict[str, float]],
        state: TrainingState,
        store: CheckpointStore | None,
        config: TrainingConfig,
        best_weights: list[Array],
        history_path: Path,
        tensorboard: Path,
        monitor: str = "ndcg@20",
    ) -> None:
        super().__init__()
        self._validate = validate
        self._state = state
        self._store = store
        self._config = config
        self.best_weights = best_weights
        self._history_path = history_path
        self._tensorboard = tensorboard
        self._writer = tf.summary.create_file_writer(str(tensorboard)) if store else tf.summary.create_noop_writer()
        self._began = self._saved = time.monotonic()
        self._seconds_before = state.seconds
        self._epoch_began = self._began
        self._monitor = monitor
        self._progress = _Progress(config.max_epochs, state.epoch, monitor, silent=store is None)

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        """Starts the clock and the bar."""
        del logs
        self._began = self._saved = time.monotonic()
        self._progress.start()

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Starts the epoch's clock."""
        del epoch, logs
        self._epoch_began = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Validates and checkpoints when it is time to."""
        state, config = self._state, self._config
        state.epoch = epoch + 1
        loss = float((logs or {}).get("loss", np.nan))
        if state.epoch % config.evaluate_every and state.epoch < config.max_epochs:
            self._progress.update(state, loss)
            return
        trained = time.monotonic()
        metrics = self._validate()
        validated = time.monotonic()
        # Without validation interactions every epoch counts as better than the one before.
        if metrics.get(self._monitor, np.inf) > state.best_value or self._monitor not in metrics:
            state.best_value, state.best_epoch = metrics.get(self._monitor, -1.0), state.epoch
            if self._store is not None:
                self.best_weights = [variable.numpy() for variable in self.model.trainable_weights]
        state.seconds = self._seconds_before + validated - self._began
        row = {"epoch": state.epoch, "loss": loss, "train_seconds": trained - self._epoch_began}
        row |= {name: float(value) for name, value in (logs or {}).items() if name != "loss"}
        row |= {"validation_seconds": validated - trained} | {f"valid_{name}": value for name, value in metrics.items()}
        state.history.append(row)
        with self._writer.as_default(step=state.epoch):
            for name, value in row.items():
                tf.summary.scalar(name, value)
        self._progress.update(state, loss)
        self.model.stop_training = state.is_finished(config)
        if self.model.stop_training or validated - self._saved >= config.checkpoint_seconds:
            self._checkpoint()
            self._saved = time.monotonic()

    def on_train_end(self, logs: dict[str, float] | None = None) -> None:
        """Closes the bar."""
        del logs
        self.close()

    def close(self) -> None:
        """Gives the terminal back; safe to call twice."""
        self._progress.stop()
        self._writer.close()
        if self._store is not None:
            number_event_files(self._tensorboard)

    def _checkpoint(self) -> None:
        if self._store is None:
            return
        self._writer.flush()
        best = {f"best_{n}": value for n, value in enumerate(self.best_weights)}
        self._store.save(self._state.epoch, model_weights(self.model) | best, asdict(self._state))
        write_csv(self._history_path, self._state.history)


def number_event_files(folder: Path) -> None:
    """Names event files by their order alone: a run that is repeated then has the same files.

    TensorFlow names them by time, host and process. Where a training is repeated into a store that keeps what the first
    attempt has written, as Kubeflow's is, TensorBoard would draw both.
    """
    # Those that have a number already come first: times are larger.
    for number, path in enumerate(sorted(folder.glob("*tfevents*"))):
        path.rename(folder / f"events.out.tfevents.{number:010d}.tf_hqgnn")


class _Progress:
    """A bar on a terminal, a logged line a tenth of the way elsewhere; where INFO isn't shown, neither."""

    def __init__(self, max_epochs: int, epoch: int, monitor: str, silent: bool = False) -> None:
        console = Console(stderr=True)
        self._max_epochs = max_epochs
        self._monitor = monitor
        self._silent = silent
        self._bar: Progress | None = None
        # Who doesn't see the lines gets no bar either.
        if console.is_terminal and log.isEnabledFor(logging.INFO) and not silent:
            columns = (TextColumn("training"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"))
            self._bar = Progress(*columns, TimeRemainingColumn(), console=console)
            self._task = self._bar.add_task("", total=max_epochs, completed=epoch)

    def start(self) -> None:
        if self._bar:
            self._bar.start()

    def update(self, state: TrainingState, loss: float) -> None:
        epoch = state.epoch
        if self._silent:
            return
        text = f"loss {loss:.4f}"
        if state.best_value >= 0:
            text += f"  best validation {self._monitor} {state.best_value:.4f} at epoch {state.best_epoch}"
        if self._bar:
            self._bar.update(self._task, completed=epoch, description=text)
        elif epoch % -(-self._max_epochs // 20) == 0 or epoch == self._max_epochs:
            log.info("epoch %d/%d  %s  %.0f s", epoch, self._max_epochs, text, state.seconds)

    def stop(self) -> None:
        if self._bar:
            self._bar.stop()


def model_weights(model: HQGNN) -> dict[str, Array]:
    """The values of `changing_variables`."""
    return {name: variable.numpy() for name, variable in changing_variables(model).items()}


def changing_variables(model: HQGNN) -> dict[str, tf.Variable]:
    """Every variable that training changes: the weights, the quantizers' deltas, then the optimizer's."""
    variables = {f"weight_{n}": variable for n, variable in enumerate(model.trainable_weights)}
    quantizers = [layer for layer in (model.user_quantizer, model.item_quantizer) if layer is not None]
    variables |= {f"delta_{n}": layer.delta for n, layer in enumerate(quantizers)}
    return variables | {f"optimizer_{n}": variable for n, variable in enumerate(model.optimizer.variables)}


def restore_weights(model: HQGNN, weights: dict[str, Array]) -> list[Array]:
    """Puts back what a checkpoint holds and returns the trainable weights of the best epoch before it.

    Raises:
      ValueError: The checkpoint is of a model with other variables.
    """
    model.optimizer.build(model.trainable_variables)
    variables = changing_variables(model)
    best = {f"best_{n}" for n in range(len(model.trainable_weights))}
    if variables.keys() | best != weights.keys():
        raise ValueError(f"the checkpoint has {sorted(weights)}, the model has {sorted(variables)}")
    for name, variable in variables.items():
        variable.assign(weights[name])
    return [weights[f"best_{n}"] for n in range(len(model.trainable_weights))]
