"""Training from a split dataset to a run directory that can be interrupted at any moment."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from contextlib import ExitStack, nullcontext, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import tensorflow as tf

from tf_hqgnn.auto.choice import Choice
from tf_hqgnn.auto.choose import choose_settings, settings_of
from tf_hqgnn.config import Config
from tf_hqgnn.data.splits import SplitDataset
from tf_hqgnn.files.durable import write_file
from tf_hqgnn.graph.interaction_graph import InteractionGraph
from tf_hqgnn.runs.manifest import REFIT
from tf_hqgnn.runs.run_directory import RunDirectory, partial_path
from tf_hqgnn.runs.trained_state import TrainedState
from tf_hqgnn.training.advice import below_popularity
from tf_hqgnn.training.callbacks import DivergenceError
from tf_hqgnn.training.distribution import (
    check_agreement,
    from_chief,
    is_chief,
    is_cluster,
    make_strategy,
    watch_workers,
)
from tf_hqgnn.training.ease_columns import check_ease
from tf_hqgnn.training.fitting import fit
from tf_hqgnn.training.judge import Judge
from tf_hqgnn.training.making import MadeModel, make, save_model, start_model
from tf_hqgnn.training.refit import compare, not_served, refit_interactions
from tf_hqgnn.training.run_folder import finish, marking_full_disk, prepare, run_lock
from tf_hqgnn.training.warm_start import WarmStart, warm_starts
from tf_hqgnn.types import InputError

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
      refit: what became of a refit on the whole log (`Refit` of refit.py, as a dict); None where there was none. The
        metrics above are of the model before it.
      features: what was learnt of features of users and items, and how far they count; None where nothing was.
      chosen: why the settings are as they are, where a race chose them (`auto.race`); None where none did.
      warning: one line that says that the model is worse than popularity, and what to try; None where it isn't.
    """

    run_dir: Path
    epochs: int
    best_epoch: int
    seconds: float
    valid: dict[str, float]
    full_precision: dict[str, float] | None
    popularity: dict[str, float]
    warm_start: dict[str, int] | None = None
    refit: dict[str, Any] | None = None
    features: dict[str, Any] | None = None
    chosen: str | None = None
    warning: str | None = None


def train(
    dataset: SplitDataset,
    config: Config,
    out: Path,
    resume: bool = False,
    hooks: Sequence[Callable[[RunDirectory], None]] = (),
    state: TrainedState | None = None,
    strategy: tf.distribute.Strategy | None = None,
) -> TrainResult:
    """Train a model on a dataset and write it to a run directory.

    0. With `auto.race`, chooses settings on the validation split (tf_hqgnn.auto), or takes those of the model that
       training starts from; and if what is trained then ends below what needs no training, serves the latter.
    1. Trains, and keeps the best epoch by validation NDCG@20 with the propagation of the settings applied.
    2. Searches for a better propagation of it (`propagation.search`), on which no training depends, and adds columns of
       EASE (`ease.columns`), whose weight is chosen likewise.
    3. Makes codes, if the settings ask for them.
    4. With `training.refit`: all is measured now, so the validation interactions become training interactions, and 1
       and 3 are done anew with the epochs and the propagation that were chosen. That is what is served. With
       `training.refit: all` those of the test split do, too; the run keeps both models, and the second one is served
       if it ranks as the first one does (see refit.py).

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
    starts: tuple[WarmStart | None, WarmStart | None] = None, None
    given = config
    if config.auto.race and state is not None:
        config, kept = settings_of(state, config, bool(len(dataset.valid)), dataset.num_items)
        if kept is None:
            # Nothing of its rows is gone on with, but its ids stay known, and what was taken stays taken.
            columns = {"model.embedding_dim": state.users.shape[1]}
            dataset = starts_of(dataset, state, config.with_values(columns))[0].dataset
        state = kept
    if state is not None:
        starts = starts_of(dataset, state, config)
        dataset = starts[0].dataset
    strategy = strategy or make_strategy(config.training.strategy)
    if config.auto.race and is_cluster(strategy):
        raise InputError(
            "auto.race: a race runs on one machine; train on one with training.strategy=none, then its run's "
            "config.yaml on the cluster, or set auto.race=false"
        )
    with ExitStack() as held:

        def start_folder() -> str:
            held.enter_context(run_lock(out))
            return str(prepare(dataset, given, out, resume))

        with watch_workers(strategy), marking_full_disk(partial_path(out)):
            check_agreement(strategy, config.to_yaml, "settings")
            check_agreement(strategy, dataset.fingerprint, "data")
            partial = Path(from_chief(strategy, start_folder))
            if not is_chief(strategy):
                _assist(dataset, config, partial, strategy, starts)
                return TrainResult(**from_chief(strategy, dict) | {"run_dir": out})
            choice = choose_settings(dataset, config, partial) if config.auto.race else Choice(config)
            result = _train(dataset, choice, partial, hooks, strategy, starts)
            # While the others still wait: should one of them be lost, all start again and go on from here.
            from_chief(strategy, lambda: {**asdict(result), "run_dir": None})
            finish(partial, out)
    return replace(result, run_dir=out)


def starts_of(dataset: SplitDataset, state: TrainedState, config: Config) -> tuple[WarmStart, WarmStart]:
    """What the training that is judged starts from, and what a refit after it does; see `warm_starts`.

    Raises:
      InputError: Training can't start from `state`.
    """
    is_refitted = config.training.refit == "all" and refit_interactions(dataset, config) is not None
    return warm_starts(dataset, state, config.model.embedding_dim, is_refitted)


def _train(
    dataset: SplitDataset,
    choice: Choice,
    partial: Path,
    hooks: Sequence[Callable[[RunDirectory], None]],
    strategy: tf.distribute.Strategy,
    starts: tuple[WarmStart | None, WarmStart | None],
) -> TrainResult:
    """All of a training but its last step: the run directory gets its name from the caller."""
    config = choice.config
    check_ease(config.ease, dataset.num_items)
    graph = InteractionGraph.from_interactions(dataset.train, dataset.num_users, dataset.num_items, dataset.disliked)
    judge = Judge.of(dataset, graph, config.evaluation).sample(config.evaluation.validation_users, config.seed)
    start, refit_start = starts
    model = make(dataset.train, graph, config, judge, partial, strategy, start=start, dataset=dataset)
    judge = replace(judge, unknown=model.unknown)
    valid, chosen = judge(*model.served()), choice.reason or None
    for number, fallback in enumerate(choice.fallbacks if choice.falls_back(valid) else ()):
        if fallback in (config, *choice.fallbacks[:number]):
            continue
        with TemporaryDirectory(prefix="untrained-", dir=partial) as scratch:
            other = make(dataset.train, graph, fallback, judge, Path(scratch), strategy, dataset=dataset)
        reached = judge(*other.served())
        before, after = (metrics[config.evaluation.monitor] for metrics in (valid, reached))
        if after > before:
            kind = "popularity" if fallback.model.initializer == "popularity" else "the start"
            chosen = f"{chosen}; that ended at {before:.4f}, below {kind}, which needs no training: {after:.4f}"
            log.warning("auto: %s", chosen)
            model, valid = other, reached
    result = TrainResult(
        run_dir=partial,
        epochs=model.state.epoch,
        best_epoch=model.state.best_epoch,
        seconds=model.seconds,
        valid=valid,
        full_precision=None if model.coded is None else judge(model.users, model.items),
        popularity=judge.popularity(),
        warm_start=None if start is None else start.summary(),
        features=model.features.report or None,
        chosen=chosen,
    )
    warning = below_popularity(result.valid, result.popularity, config.evaluation.monitor, "validation")
    result = replace(result, warning=warning)
    save_model(model, graph, partial)
    write_metrics(result, partial)
    for hook in hooks:
        hook(RunDirectory.load(partial))
    everything = refit_interactions(dataset, config)
    if everything is None:
        return result
    graph = InteractionGraph.from_interactions(everything, dataset.num_users, dataset.num_items, dataset.disliked)
    log.info("refit: %d epochs on %d interactions", result.best_epoch, len(everything))
    folder = partial / REFIT
    folder.mkdir(exist_ok=True)
    nobody = Judge(dataset.valid.take(np.zeros(0, np.int64)), graph, config.evaluation)

    def refit() -> MadeModel:
        epochs, worths = result.best_epoch, model.features.worths
        return make(everything, graph, model.config, nobody, folder, strategy, epochs, refit_start, dataset, worths)

    if config.training.refit != "all":
        refitted = refit()
        result = replace(result, seconds=round(result.seconds + refitted.seconds, 3))
        save_model(refitted, graph, partial)
        write_metrics(result, partial)
        return result
    try:
        refitted = refit()
        found = compare(model, refitted, dataset, graph, model.config)
        result = replace(result, seconds=round(result.seconds + refitted.seconds, 3))
    except DivergenceError as error:
        found = not_served(len(everything), str(error))
    if found.served:
        save_model(refitted, graph, folder)
    log.log(logging.INFO if found.served else logging.WARNING, "%s", found.note)
    result = replace(result, refit=asdict(found))
    write_metrics(result, partial)
    return result


def _assist(
    dataset: SplitDataset,
    config: Config,
    partial: Path,
    strategy: tf.distribute.Strategy,
    starts: tuple[WarmStart | None, WarmStart | None],
) -> None:
    """What a worker that isn't the chief does: its part of every step of both trainings of `_train`."""
    epochs = None
    for train, start in zip((dataset.train, refit_interactions(dataset, config)), starts):
        if train is None:
            return
        graph = InteractionGraph.from_interactions(train, dataset.num_users, dataset.num_items, dataset.disliked)
        model, training = start_model(graph, config, strategy, partial, epochs, start)
        with suppress(DivergenceError) if epochs is not None and config.training.refit == "all" else nullcontext():
            epochs = fit(model, train, graph, training, config.seed, dict, partial).best_epoch


def write_metrics(result: TrainResult, partial: Path) -> None:
    """Writes `metrics.json` of a run."""
    report = {name: value for name, value in vars(result).items() if name != "run_dir"}
    write_file(partial / "metrics.json", json.dumps(report, indent=2) + "\n")
