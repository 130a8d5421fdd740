"""The settings of a training, chosen before it begins."""

from __future__ import annotations

import logging
import time
from pathlib import Path

from tf_hqgnn.auto.choice import Choice
from tf_hqgnn.auto.contestants import prior
from tf_hqgnn.auto.race import PROGRESS, Race
from tf_hqgnn.auto.starts import Settings
from tf_hqgnn.config import Config
from tf_hqgnn.data.split_dataset import SplitDataset
from tf_hqgnn.graph.ease import MOST_ITEMS
from tf_hqgnn.graph.interaction_graph import InteractionGraph
from tf_hqgnn.runs.trained_state import TrainedState
from tf_hqgnn.training.judge import Judge

FILE = "auto.json"
log = logging.getLogger(__name__)


def choose_settings(dataset: SplitDataset, config: Config, folder: Path | None = None) -> Choice:
    """Races settings on the validation split, and returns those to train with.

    1. What needs no training: popularity, and filters of the graph's singular vectors.
    2. Short trainings with 64 columns, by the settings of the loss that earlier logs speak for, then by Optuna's TPE;
       the best two train longer (successive halving).
    3. The training then has as many columns as `auto.bytes_per_item` allows, and the winner's settings; where none
       came near to what needs no training, that is what is served.

    Without validation interactions the first of the prior is taken as it is. A large log is raced on a sample of its
    users. Equal `auto.steps` (or none) and seeds give equal choices.

    Args:
      dataset: ids and splits.
      config: what differs from the defaults in it is kept.
      folder: where an interrupted race goes on from what it had done; None keeps nothing.
    """
    began = time.monotonic()
    if folder is not None and (folder / FILE).is_file():
        return Choice.load(folder / FILE)
    graph = InteractionGraph.from_interactions(dataset.train, dataset.num_users, dataset.num_items, dataset.disliked)
    race = Race(dataset, config, graph, folder, began)
    judge = Judge.of(dataset, graph, config.evaluation)
    if reason := race.why_not(judge):
        choice = Choice(race.with_settings(race.trained_settings(prior(graph)[0])), reason=reason)
    else:
        choice = race.run(judge)
    for line in (*(choice.table(config.evaluation.monitor) if choice.tried else ()), f"auto: {choice.reason}"):
        log.info("%s", line)
    if folder is not None:
        choice.save(folder / FILE)
        (folder / PROGRESS).unlink(missing_ok=True)
    return choice


def settings_of(
    state: TrainedState, config: Config, judged: bool, num_items: int
) -> tuple[Config, TrainedState | None]:
    """The settings of a training that starts from a model: those by which that one was made, without another race.

    Args:
      state: the model.
      config: the settings that weren't raced.
      judged: whether validation interactions are held out, so that there can be a race.
      num_items: of the log; with too many, EASE is left out, which the model before may have had.

    Returns:
      The settings, and the state; None in its place where that model needed no training. Then all is open again if
      there can be a race, and else this one needs none either.
    """
    before = state.config
    untrained = before is not None and not before.training.max_epochs
    if untrained and judged:
        log.info("auto: the model before this one needed no training, so there is another race")
        return config, None
    settings: Settings = {"model.embedding_dim": state.users.shape[1]}
    if before is not None:
        settings = {
            f"{section}.{name}": value
            for section in ("model", "loss", "propagation", "ease", "quantization")
            for name, value in before.model_dump(mode="json")[section].items()
        }
        settings |= {f"training.{name}": getattr(before.training, name) for name in ("batch_size", "max_epochs")}
    if num_items > MOST_ITEMS:
        settings["ease.columns"] = 0
    log.info("auto: the settings are those of the model that training starts from")
    return config.with_values(settings | {"auto.race": False}, "auto"), None if untrained else state
