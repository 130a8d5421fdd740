"""One model, made from training interactions: its tables, its propagation and its codes."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf
import tf_keras

from tf_hqgnn.config import Config, PropagationConfig, TrainingConfig
from tf_hqgnn.data.split_dataset import SplitDataset
from tf_hqgnn.features.model import FEATURES_FILE
from tf_hqgnn.files.durable import staged_file, write_file
from tf_hqgnn.graph.interaction_graph import InteractionGraph
from tf_hqgnn.models.factory import make_model
from tf_hqgnn.models.hqgnn import HQGNN
from tf_hqgnn.quantization.coded_embeddings import CodedEmbeddings
from tf_hqgnn.runs.checkpoints import CheckpointStore
from tf_hqgnn.runs.tables import TrainedTables
from tf_hqgnn.runs.untrained import Untrained
from tf_hqgnn.training.callbacks import TrainingState
from tf_hqgnn.training.coding import make_codes
from tf_hqgnn.training.distribution import is_chief
from tf_hqgnn.training.ease_columns import add_ease
from tf_hqgnn.training.features import LearntFeatures, learn_features
from tf_hqgnn.training.fitting import fit
from tf_hqgnn.training.judge import Judge
from tf_hqgnn.training.propagation import propagate_embeddings
from tf_hqgnn.training.propagation_search import describe_search, search_propagation, write_candidates
from tf_hqgnn.training.warm_start import WarmStart, start_tables, warm_settings
from tf_hqgnn.types import Float32Array, Interactions

# Of the validation users, at most: a propagation is judged in half a second on Gowalla instead of three, and two that
# differ by less than such a sample can see are as good.
_SEARCH_USERS = 4096
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class MadeModel:
    """A trained model: its rows, propagated and before; their codes; and how it came about."""

    config: Config
    users: Float32Array
    items: Float32Array
    untrained: Untrained
    tables: TrainedTables
    coded: CodedEmbeddings | None
    state: TrainingState
    seconds: float
    features: LearntFeatures

    def served(self) -> tuple[Float32Array, Float32Array]:
        """The rows that are served: decoded, where there are codes."""
        return (self.users, self.items) if self.coded is None else self.coded.dequantize()

    @property
    def unknown(self) -> Untrained:
        """Whose rows say nothing: those that neither an interaction nor a feature has taught."""
        told = self.features.told
        if told is None:
            return self.untrained
        return Untrained(self.untrained.users & ~told[0], self.untrained.items & ~told[1])


def make(
    train: Interactions,
    graph: InteractionGraph,
    config: Config,
    judge: Judge,
    folder: Path,
    strategy: tf.distribute.Strategy,
    epochs: int | None = None,
    start: WarmStart | None = None,
    dataset: SplitDataset | None = None,
    feature_worths: tuple[float, float] | None = None,
) -> MadeModel:
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
      dataset: whose features are learnt from; None for none.
      feature_worths: how far features count in trained rows, where that is decided.
    """
    began = time.monotonic()
    model, training = start_model(graph, config, strategy, folder, epochs, start)
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
    if config.ease.columns:
        value = judge.monitor_only().sample(_SEARCH_USERS, config.seed).value if len(judge.targets) else None
        (users, items), ease = add_ease((users, items), graph, config.ease, config.seed, value)
        users, items = untrained.replace(users, items)
        config = config.model_copy(update={"ease": ease})
    features = LearntFeatures(users, items)
    # Fine-tuning codes the rows as its own loss sees them, whatever features say.
    if dataset is not None and (config.quantization.bits is None or config.quantization.method != "fine_tuning"):
        features = learn_features(dataset, users, items, untrained, graph, judge, config.seed, feature_worths)
        users, items = features.users, features.items
    coded = None
    if config.quantization.bits is not None:
        quality = judge if len(judge.targets) else None
        coded = make_codes(model, users, items, train, graph, config, quality, folder / "quantization")
    seconds = round(prepared + state.seconds + time.monotonic() - began, 3)
    return MadeModel(config, users, items, untrained, tables, coded, state, seconds, features)


def start_model(
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
    log.info("%s", describe_search(tried, config.evaluation.monitor))
    return found


def save_model(model: MadeModel, graph: InteractionGraph, folder: Path) -> None:
    """Writes what was made to a folder of a run, over what may be there of a model before it."""
    (folder / "graph").mkdir(exist_ok=True)
    graph.save(folder / "graph" / "graph.npz")
    masks = {"untrained_user": model.untrained.users, "untrained_item": model.untrained.items}
    masks |= {"unknown_user": model.unknown.users, "unknown_item": model.unknown.items}
    with staged_file(folder / "embeddings.npz") as staged:
        np.savez(staged, user=model.users, item=model.items, **masks)
    model.tables.save(folder)
    if model.features.models:
        model.features.models.save(folder / FEATURES_FILE)
    if model.coded is not None:
        (folder / "codes").mkdir(exist_ok=True)
        model.coded.save(folder / "codes")
    write_file(folder / "config.yaml", model.config.to_yaml())
