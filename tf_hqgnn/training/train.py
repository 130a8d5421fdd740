"""Training from a split dataset to a run directory that can be interrupted at any moment."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import tensorflow as tf
import tf_keras

from tf_hqgnn.config import Config, PropagationConfig, TrainingConfig
from tf_hqgnn.data.splits import SplitDataset
from tf_hqgnn.files.durable import staged_file, write_file
from tf_hqgnn.graph.interaction_graph import InteractionGraph
from tf_hqgnn.models.factory import make_model
from tf_hqgnn.models.hqgnn import HQGNN
from tf_hqgnn.quantization.coded_embeddings import CodedEmbeddings
from tf_hqgnn.runs.checkpoints import CheckpointStore
from tf_hqgnn.runs.run_directory import RunDirectory, partial_path
from tf_hqgnn.runs.tables import TrainedTables
from tf_hqgnn.runs.trained_state import TrainedState
from tf_hqgnn.runs.untrained import Untrained
from tf_hqgnn.training.callbacks import TrainingState
from tf_hqgnn.training.coding import make_codes
from tf_hqgnn.training.distribution import check_agreement, from_chief, is_chief, make_strategy, watch_workers
from tf_hqgnn.training.fitting import fit
from tf_hqgnn.training.judge import Judge
from tf_hqgnn.training.propagation import propagate_embeddings
from tf_hqgnn.training.propagation_search import search_propagation, write_candidates
from tf_hqgnn.training.run_folder import finish, marking_full_disk, prepare, run_lock
from tf_hqgnn.training.warm_start import WarmStart, start_tables, warm_settings, warm_start
from tf_hqgnn.types import Float32Array, Interactions, concatenate

# Of the validation users, at most: a propagation is judged in half a second on Gowalla instead of three, and two that
# differ by less than such a sample can see are as good.
_SEARCH_USERS = 4096
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainResult:
    """How a training ended.

    Args:
      run_dir: what it left behind.
      epochs: of the full-precision training.
      best_epoch: the one that was kept.
      seconds: all together, learning codes included.
      valid: metrics on the validation split of the rows that are served: coded, if the settings say so.
      full_precision: those of the rows before they were coded; None where they aren't.
      popularity: those of recommending the most popular items.
      warm_start: of how many users and items the rows were kept, and how many were new; None after a cold start.
    """

    run_dir: Path
    epochs: int
    best_epoch: int
    seconds: float
    valid: dict[str, float]
    full_precision: dict[str, float] | None
    popularity: dict[str, float]
    warm_start: dict[str, int] | None = None


def train(
    dataset: SplitDataset,
    config: Config,
    out: Path,
    resume: bool = False,
    hooks: Sequence[Callable[[RunDirectory], None]] = (),
    state: TrainedState | None = None,
    strategy: tf.distribute.Strategy | None = None,
) -> TrainResult:
    """From a dataset to a run directory.

    1. Trains, and keeps the best epoch by validation NDCG@20 with the propagation of the settings applied.
    2. Searches for a better propagation of it (`propagation.search`), on which no training depends.
    3. Makes codes, if the settings ask for them.
    4. With `training.refit`: all is measured now, so the validation interactions become training interactions, and 1
       and 3 are done anew with the epochs and the propagation that were chosen. That is what is served.

    Everything is written to `OUT.partial`, which is renamed to `OUT` at the end. Killed at any moment, the same call
    with `resume` continues from the last checkpoint and ends with the same metrics as an uninterrupted run. Without
    validation interactions the last epoch is the result, and the propagation is that of the settings.

    In a cluster every worker calls this with the same dataset and settings, and gets the same result or error. Only the
    chief writes, and only it does what isn't a step of training (see distribution.py).

    Args:
      dataset: ids and splits.
      config: all settings; `config.data` is only recorded.
      out: the run directory; must not exist. Its config.yaml has the propagation that was found, given.yaml the
        settings as they were given.
      resume: go on from `OUT.partial` if it is there.
      hooks: called with the run once it is saved, and before a refit, such as `report.page.report_hook`; what they
        write belongs into the run's folder.
      state: the model to start from (see warm_start.py); by default that of the run directory that
        `training.warm_start` names, if it does.
      strategy: of make_strategy(), by default the one that `training.strategy` names; a multi_worker one has to be made
        at the start of the process.

    Raises:
      InputError: `out` exists, an unfinished run is in the way, it was made with other settings or data, or the
        training can't start from `state`. In a cluster also: the workers have different settings or data.
      WorkerLostError: Another worker is gone. Called anew on all of them with `resume`, training goes on.
      DivergenceError: The loss is no longer finite.
    """
    out = Path(out)
    if state is None and config.training.warm_start not in (None, "auto"):
        state = TrainedState.load(Path(str(config.training.warm_start)))
    start = None if state is None else warm_start(dataset, state, config.model.embedding_dim)
    dataset = dataset if start is None else start.dataset
    strategy = strategy or make_strategy(config.training.strategy)
    with ExitStack() as held:

        def start_folder() -> str:
            held.enter_context(run_lock(out))
            return str(prepare(dataset, config, out, resume))

        with watch_workers(strategy), marking_full_disk(partial_path(out)):
            check_agreement(strategy, config.to_yaml, "settings")
            check_agreement(strategy, dataset.fingerprint, "data")
            partial = Path(from_chief(strategy, start_folder))
            if not is_chief(strategy):
                _assist(dataset, config, partial, strategy, start)
                return TrainResult(**from_chief(strategy, dict) | {"run_dir": out})
            result = _train(dataset, config, partial, hooks, strategy, start)
            # While the others still wait: should one of them be lost, all start again and go on from here.
            from_chief(strategy, lambda: {**asdict(result), "run_dir": None})
            finish(partial, out)
    return replace(result, run_dir=out)


def _train(
    dataset: SplitDataset,
    config: Config,
    partial: Path,
    hooks: Sequence[Callable[[RunDirectory], None]],
    strategy: tf.distribute.Strategy,
    start: WarmStart | None,
) -> TrainResult:
    """All of a training but its last step: the run directory gets its name from the caller."""
    graph = InteractionGraph.from_interactions(dataset.train, dataset.num_users, dataset.num_items)
    judge = Judge.of(dataset, graph, config.evaluation).sample(config.evaluation.validation_users, config.seed)
    model = _make(dataset.train, graph, config, judge, partial, strategy, start=start)
    valid = judge(model.users, model.items)
    result = TrainResult(
        run_dir=partial,
        epochs=model.state.epoch,
        best_epoch=model.state.best_epoch,
        seconds=model.seconds,
        valid=valid if model.coded is None else judge(*model.coded.dequantize()),
        full_precision=None if model.coded is None else valid,
        popularity=judge.popularity(),
        warm_start=None if start is None else start.summary(),
    )
    _save(model, graph, result, partial)
    for hook in hooks:
        hook(RunDirectory.load(partial))
    if model.config.training.refit and valid:
        everything = concatenate(dataset.train, dataset.valid)
        graph = InteractionGraph.from_interactions(everything, dataset.num_users, dataset.num_items)
        log.info("refit: %d epochs on training and validation interactions", result.best_epoch)
        (partial / "refit").mkdir(exist_ok=True)
        judge = Judge(dataset.valid.take(np.zeros(0, np.int64)), graph, config.evaluation)
        model = _make(everything, graph, model.config, judge, partial / "refit", strategy, result.best_epoch, start)
        result = replace(result, seconds=round(result.seconds + model.seconds, 3))
        _save(model, graph, result, partial)
    return result


def _assist(
    dataset: SplitDataset, config: Config, partial: Path, strategy: tf.distribute.Strategy, start: WarmStart | None
) -> None:
    """What a worker that isn't the chief does: its part of every step of both trainings of `_train`."""
    train, epochs = dataset.train, None
    for number in range(2 if config.training.refit and len(dataset.valid) else 1):
        if number:
            train = concatenate(dataset.train, dataset.valid)
        graph = InteractionGraph.from_interactions(train, dataset.num_users, dataset.num_items)
        model, training = _start_model(graph, config, strategy, partial, epochs, start)
        epochs = fit(model, train, graph, training, config.seed, dict, partial).best_epoch


@dataclass(frozen=True)
class _Made:
    """A trained model: its rows, propagated and before; their codes; and how it came about."""

    config: Config
    users: Float32Array
    items: Float32Array
    untrained: Untrained
    tables: TrainedTables
    coded: CodedEmbeddings | None
    state: TrainingState
    seconds: float


def _make(
    train: Interactions,
    graph: InteractionGraph,
    config: Config,
    judge: Judge,
    folder: Path,
    strategy: tf.distribute.Strategy,
    epochs: int | None = None,
    start: WarmStart | None = None,
) -> _Made:
    """Tables, propagation and codes.

    Args:
      train: what is trained on.
      graph: of that.
      config: all settings; what is returned has the propagation that was found.
      judge: of epochs, propagations and codes; without targets, the last epoch and the given propagation stand.
      folder: gets checkpoints and logs.
      strategy: of the full-precision training; all that follows it runs on one device.
      epochs: to train for, where that is decided; the learning rate follows `config` all the same.
      start: the rows to start from, if there are any.
    """
    began = time.monotonic()
    model, training = _start_model(graph, config, strategy, folder, epochs, start)
    propagates = config.propagation.make_solver().propagates
    adjacency = graph.normalized_adjacency() if propagates else None
    untrained = Untrained.of(graph, None if start is None else (start.users, start.items))

    def propagate(propagation: PropagationConfig) -> tuple[Float32Array, Float32Array]:
        """The encoder's rows, with the post-training propagation (if any) applied."""
        return untrained.replace(*propagate_embeddings(graph, *model.embeddings(), propagation, adjacency))

    prepared = time.monotonic() - began
    state = fit(
        model,
        train,
        graph,
        training,
        config.seed,
        lambda: judge(*propagate(config.propagation)),
        folder,
        monitor=config.evaluation.monitor,
    )
    began = time.monotonic()
    # Now, since fine-tuning of codes goes on with the same tables.
    tables = TrainedTables.of(model.user_table.numpy(), model.item_table.numpy(), untrained)
    if config.propagation.search and propagates and len(judge.targets):
        found = _search(config, judge, propagate, folder / "propagation.csv")
        config = config.model_copy(update={"propagation": found})
    users, items = propagate(config.propagation)
    coded = None
    if config.quantization.bits is not None:
        quality = judge if len(judge.targets) else None
        coded = make_codes(model, users, items, train, graph, config, quality, folder / "quantization")
    seconds = round(prepared + state.seconds + time.monotonic() - began, 3)
    return _Made(config, users, items, untrained, tables, coded, state, seconds)


def _start_model(
    graph: InteractionGraph,
    config: Config,
    strategy: tf.distribute.Strategy,
    folder: Path,
    epochs: int | None,
    start: WarmStart | None,
) -> tuple[HQGNN, TrainingConfig]:
    """The model as training begins, its variables those of the strategy, and the settings of that training.

    With a checkpoint in `folder`, and on workers that get the chief's values, the tables are still to be filled.
    """
    tf_keras.utils.set_random_seed(config.seed)
    settings = config if start is None else warm_settings(config)
    initialize = start is None and is_chief(strategy) and not CheckpointStore(folder / "checkpoints").epochs()
    with strategy.scope():
        model = make_model(settings, graph, initialize=initialize)
    if start is not None:
        tables = model.user_table, model.item_table
        unit = not config.loss.make().reads_lengths
        started = start_tables(start, graph, (tables[0].numpy(), tables[1].numpy()), unit)
        for table, rows in zip(tables, started):
            table.assign(rows)
    training = settings.training
    return model, training if epochs is None else training.model_copy(update={"max_epochs": epochs})


def _search(
    config: Config,
    judge: Judge,
    propagate: Callable[[PropagationConfig], tuple[Float32Array, Float32Array]],
    path: Path,
) -> PropagationConfig:
    """The propagation to serve: of the settings, unless another one is better on (a sample of) the validation users."""
    sample = judge.monitor_only().sample(_SEARCH_USERS, config.seed)
    found, tried = search_propagation(config.propagation, lambda one: sample.value(*propagate(one)))
    write_candidates(path, tried, config.evaluation.monitor)
    text = found.make_solver().describe(found.t1, found.num_steps)
    log.info("propagation: %s, the best of %d on the validation split", text, len(tried))
    return found


def _save(model: _Made, graph: InteractionGraph, result: TrainResult, partial: Path) -> None:
    """Writes what was made to the run directory, over what may be there of a model before it."""
    (partial / "graph").mkdir(exist_ok=True)
    graph.save(partial / "graph" / "graph.npz")
    untrained = {"untrained_user": model.untrained.users, "untrained_item": model.untrained.items}
    with staged_file(partial / "embeddings.npz") as staged:
        np.savez(staged, user=model.users, item=model.items, **untrained)
    model.tables.save(partial)
    if model.coded is not None:
        (partial / "codes").mkdir(exist_ok=True)
        model.coded.save(partial / "codes")
    write_file(partial / "config.yaml", model.config.to_yaml())
    report = {name: value for name, value in vars(result).items() if name != "run_dir"}
    write_file(partial / "metrics.json", json.dumps(report, indent=2) + "\n")
