"""Training from a split dataset to a run directory that can be interrupted at any moment."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tf_keras

from tf_hqgnn.callbacks import StopOnDivergence, TrainingState, Validation, restore_weights
from tf_hqgnn.checkpoints import CheckpointStore
from tf_hqgnn.config import Config
from tf_hqgnn.data.datasets import steps_per_epoch, training_batches
from tf_hqgnn.data.splits import SplitDataset
from tf_hqgnn.evaluation import evaluate_embeddings, evaluate_popularity
from tf_hqgnn.graph.interaction_graph import InteractionGraph
from tf_hqgnn.layers.graph_ode import propagate_embeddings
from tf_hqgnn.models.encoder import make_encoder
from tf_hqgnn.models.hqgnn import HQGNN
from tf_hqgnn.optimizers import LazyAdam
from tf_hqgnn.run_directory import partial_path
from tf_hqgnn.types import InputError


@dataclass(frozen=True)
class TrainResult:
    """How a training ended: metrics of the best epoch on `valid`, and those of popularity on the same split."""

    run_dir: Path
    epochs: int
    best_epoch: int
    seconds: float
    valid: dict[str, float]
    popularity: dict[str, float]


def train(dataset: SplitDataset, config: Config, out: Path, resume: bool = False) -> TrainResult:
    """Trains, keeps the best epoch by validation NDCG@20 with the propagation applied, and writes the run directory.

    Everything is written to `OUT.partial`, which is renamed to `OUT` at the end. Killed at any moment, the same call
    with `resume` continues from the last checkpoint and ends with the same metrics as an uninterrupted run. Without
    validation interactions the last epoch is the result.

    Args:
      dataset: ids and splits.
      config: all settings; `config.data` is only recorded.
      out: the run directory; must not exist.
      resume: go on from `OUT.partial` if it is there.

    Raises:
      InputError: `out` exists, an unfinished run is in the way, or it was made with other settings or data.
      DivergenceError: The loss is no longer finite.
    """
    out = Path(out)
    partial = _prepare(dataset, config, out, resume)
    graph = InteractionGraph.from_interactions(dataset.train, dataset.num_users, dataset.num_items)
    (partial / "graph").mkdir(exist_ok=True)
    graph.save(partial / "graph" / "graph.npz")

    tf_keras.utils.set_random_seed(config.seed)
    model = HQGNN(
        dataset.num_users,
        dataset.num_items,
        config.model.embedding_dim,
        config.loss,
        make_encoder(config.model, graph, config.seed),
        item_count=graph.item_degree,
        seed=config.seed,
        jit_compile_loss=config.training.jit_compile,
    )
    model.compile(
        optimizer=LazyAdam(config.training.learning_rate), steps_per_execution=config.training.steps_per_execution
    )
    store = CheckpointStore(partial / "checkpoints")
    state = TrainingState()
    best_weights: list[np.ndarray] = []
    if store.epochs():
        weights, saved = store.load()
        state = TrainingState(**saved)
        best_weights = restore_weights(model, weights)

    best_weights = _fit(model, dataset, config, graph, partial, store, state, best_weights)
    for variable, value in zip(model.trainable_weights, best_weights):
        variable.assign(value)
    users, items = _propagate(model, graph, config)
    np.savez(partial / "embeddings.npz", user=users, item=items)
    valid = _validate(users, items, dataset, config, graph)
    popularity: dict[str, float] = {}
    if len(dataset.valid):
        chunk = config.evaluation.chunk_size
        popularity = evaluate_popularity(
            dataset.valid, graph.seen(), graph.item_degree, _cut_offs(config), chunk_size=chunk
        ).values
    result = TrainResult(out, state.epoch, state.best_epoch, round(state.seconds, 3), valid, popularity)
    report = {name: value for name, value in vars(result).items() if name != "run_dir"}
    (partial / "metrics.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    os.rename(partial, out)
    return result


def check_out(out: Path, resume: bool) -> None:
    """Raises InputError if `out` can't become a run directory, so that a caller learns it before reading data."""
    if out.exists():
        raise InputError(f"{out} exists already; choose another --out, or delete it")
    partial = partial_path(out)
    if partial.exists() and not resume:
        raise InputError(f"{partial} holds an unfinished run; add --resume to go on with it, or delete it")


def _prepare(dataset: SplitDataset, config: Config, out: Path, resume: bool) -> Path:
    """Makes or checks `OUT.partial` and returns it."""
    check_out(out, resume)
    if len(dataset.train) < 2:
        raise InputError(f"training needs at least 2 interactions, the train split has {len(dataset.train)}")
    partial = partial_path(out)
    fingerprint = _fingerprint(dataset)
    if (partial / "data.sha256").is_file():
        if Config.load(partial / "config.yaml") != config:
            raise InputError(
                f"{partial} was started with other settings (its config.yaml); resume with those, or delete it"
            )
        if (partial / "data.sha256").read_text(encoding="utf-8") != fingerprint:
            raise InputError(f"{partial} was started on other data; resume with the same log, or delete it")
        return partial
    # Nothing, or a start that was killed before it was complete.
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    (partial / "config.yaml").write_text(config.to_yaml(), encoding="utf-8")
    dataset.save(partial / "data")
    (partial / "data.sha256").write_text(fingerprint, encoding="utf-8")
    return partial


def _fingerprint(dataset: SplitDataset) -> str:
    digest = hashlib.sha256()
    for ids in (dataset.user_ids, dataset.item_ids):
        digest.update("\x00".join(ids).encode())
    for part in (dataset.train, dataset.valid, dataset.test):
        digest.update(part.user_index.tobytes())
        digest.update(part.item_index.tobytes())
    return digest.hexdigest()


def _fit(
    model: HQGNN,
    dataset: SplitDataset,
    config: Config,
    graph: InteractionGraph,
    partial: Path,
    store: CheckpointStore,
    state: TrainingState,
    best_weights: list[np.ndarray],
) -> list[np.ndarray]:
    """Trains to the end and returns the weights of the best epoch."""
    training = config.training
    if state.is_finished(training):
        return best_weights
    validation = Validation(
        lambda: _validate(*_propagate(model, graph, config), dataset, config, graph),
        state,
        store,
        training,
        best_weights,
        partial / "history.csv",
        partial / "tensorboard",
    )
    num_negatives = config.loss.num_negatives if config.loss.name == "bpr" else 0
    batches = training_batches(
        dataset.train, dataset.num_items, training.batch_size, config.seed, state.epoch, num_negatives
    )
    with closing(validation):
        model.fit(
            batches,
            epochs=training.max_epochs,
            initial_epoch=state.epoch,
            steps_per_epoch=steps_per_epoch(len(dataset.train), training.batch_size),
            callbacks=[StopOnDivergence(), validation],
            verbose=0,
        )
    return validation.best_weights


def _propagate(model: HQGNN, graph: InteractionGraph, config: Config) -> tuple[np.ndarray, np.ndarray]:
    """What is evaluated and exported: the encoder's rows, with the post-training propagation (if any) applied."""
    return propagate_embeddings(graph, *model.embeddings(), config.propagation)


def _validate(
    users: np.ndarray, items: np.ndarray, dataset: SplitDataset, config: Config, graph: InteractionGraph
) -> dict[str, float]:
    """Metrics on the validation split, training items masked; none where the split is empty."""
    if not len(dataset.valid):
        return {}
    chunk = config.evaluation.chunk_size
    return evaluate_embeddings(
        users, items, dataset.valid, graph.seen(), graph.item_degree, _cut_offs(config), chunk_size=chunk
    ).values


def _cut_offs(config: Config) -> tuple[int, ...]:
    """Those of the settings and 20, which early stopping watches."""
    return tuple(sorted({*config.evaluation.k, 20}))
