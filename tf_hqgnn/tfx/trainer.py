"""What the Trainer runs: transformed examples become a training run and the exact SavedModel.

TFX loads this module anew for every run, so it holds functions only: a class would no longer be itself.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from tensorflow_transform.output_wrapper import TFTransformOutput
from tfx.components.trainer.fn_args_utils import FnArgs

from tf_hqgnn.auto.choose import settings_of
from tf_hqgnn.config import Config, RetrievalConfig
from tf_hqgnn.data.splits import SplitDataset
from tf_hqgnn.export.layout import EXACT_MODEL, ModelSettings
from tf_hqgnn.report.page import report_hook
from tf_hqgnn.runs.run_directory import RunDirectory
from tf_hqgnn.runs.trained_state import TrainedState
from tf_hqgnn.tfx.catalogue import add_features, read_catalogue, read_report
from tf_hqgnn.tfx.examples import read_transformed, reindex, sort_vocabulary
from tf_hqgnn.tfx.held_out_model import export_models
from tf_hqgnn.tfx.known_pairs import add_known_pairs
from tf_hqgnn.tfx.model_store import read_pointer
from tf_hqgnn.tfx.preprocessing import ITEM_VOCABULARY, USER_VOCABULARY
from tf_hqgnn.tfx.settings import read_settings
from tf_hqgnn.training.distribution import is_chief, make_strategy
from tf_hqgnn.training.train import starts_of, train
from tf_hqgnn.types import InputError

log = logging.getLogger(__name__)


def run_fn(fn_args: FnArgs) -> None:
    """Trains on transformed examples; leaves the run directory in `model_run` and the exact SavedModel in `model`.

    With `training.strategy` multi_worker every worker runs this, with a TF_CONFIG of its own; only the chief leaves
    anything behind.

    Args:
      fn_args: of TFX; `custom_config` holds `config` (YAML), `catalogue_path`, `report_path`, and `max_epochs`, which
        is in place of the config's, unless 0.

    Raises:
      InputError: A setting is wrong, or there is too little to train on.
    """
    custom = fn_args.custom_config
    config = read_settings(custom["config"], custom["max_epochs"])
    # Before anything below makes TensorFlow work.
    strategy = make_strategy(config.training.strategy)
    run_dir = run_path(fn_args.model_run_dir)
    dataset = rebuild_dataset(fn_args)
    state = last_state(dataset, config, custom["model_store"])
    train(dataset, config, run_dir, hooks=(report_hook,), state=state, strategy=strategy)
    if not is_chief(strategy):
        return
    settings = ModelSettings(config.export, RetrievalConfig())
    export_models(RunDirectory.load(run_dir), EXACT_MODEL, settings, str(Path(fn_args.serving_model_dir).parent))


def last_state(dataset: SplitDataset, config: Config, model_store: str) -> TrainedState | None:
    """Returns the state of the model that was blessed last; None if this training can't start from it."""
    if config.training.warm_start != "auto" or not model_store:
        return None
    pointer = read_pointer(Path(model_store))
    if not pointer or "state" not in pointer:
        log.info("cold start: no model was blessed before")
        return None
    try:
        state = TrainedState.load(Path(pointer["state"]))
        if config.auto.race:
            # As the training will do: the settings of that model, or another race, for which its ids alone count.
            config, raced_anew = settings_of(state, config, bool(len(dataset.valid)), dataset.num_items)
            if raced_anew is None:
                return state
        start = starts_of(dataset, state, config)[0]
    except InputError as error:
        # The model store is nothing that a user has asked for by name: it helps where it can.
        log.info("cold start: %s", error)
        return None
    kept = start.summary()
    log.info(
        f"warm start from version {pointer['version']}: {kept['kept_users']:,} users and {kept['kept_items']:,} items "
        f"keep their rows, {kept['new_users']:,} and {kept['new_items']:,} are new"
    )
    return state


def rebuild_dataset(fn_args: FnArgs) -> SplitDataset:
    """The dataset that InteractionGen split, from Transform's examples and vocabularies.

    Args:
      fn_args: `train_files` of one split, `eval_files` of two: valid, test.
    """
    custom: Mapping[str, Any] = fn_args.custom_config
    transform = TFTransformOutput(fn_args.transform_graph_path)
    users, items = transform.vocabulary_by_name(USER_VOCABULARY), transform.vocabulary_by_name(ITEM_VOCABULARY)
    user_ids, user_rank = sort_vocabulary(users)
    item_ids, item_rank = sort_vocabulary(items)
    train_split, valid, test = (
        reindex(read_transformed([pattern], users, items), user_rank, item_rank)
        for pattern in (*fn_args.train_files, *fn_args.eval_files)
    )
    catalogue = Path(custom["catalogue_path"])
    dataset = SplitDataset(
        user_ids=user_ids,
        item_ids=item_ids,
        train=train_split,
        valid=valid,
        test=test,
        report=read_report(Path(custom["report_path"]))["read"],
    )
    dataset = add_features(add_known_pairs(dataset, catalogue), catalogue)
    columns = read_catalogue(catalogue, dataset.item_ids)
    return replace(dataset, titles=columns.titles, categories=columns.categories, available=columns.available)


def run_path(model_run_uri: str) -> Path:
    """The run directory within a ModelRun artifact."""
    return Path(model_run_uri) / "run"
