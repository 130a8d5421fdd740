"""TFX's Trainer, which here also gets the catalogue and the read report, and the function that it runs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tensorflow_transform as tft
from tfx import v1 as tfx
from tfx.components.trainer.executor import GenericExecutor
from tfx.components.trainer.fn_args_utils import FnArgs
from tfx.dsl.components.base import base_component, executor_spec
from tfx.types import BaseChannel, Channel, artifact_utils, standard_component_specs
from tfx.types.component_spec import ChannelParameter
from tfx.types.experimental.simple_artifacts import Dataset, Metrics
from tfx.types.standard_artifacts import Model, ModelRun
from tfx.utils import json_utils

from tf_hqgnn.config import Config
from tf_hqgnn.data.splits import SplitDataset
from tf_hqgnn.export import ServingBundle, export_exact
from tf_hqgnn.run_directory import RunDirectory
from tf_hqgnn.tfx.catalogue import read_catalogue, read_report
from tf_hqgnn.tfx.examples import read_transformed, reindex, sort_vocabulary
from tf_hqgnn.tfx.model_store import move_version
from tf_hqgnn.tfx.preprocessing import ITEM_VOCABULARY, USER_VOCABULARY
from tf_hqgnn.training import train

_SIDE_INPUTS = ("catalogue", "report")


class TrainerSpec(standard_component_specs.TrainerSpec):
    """TFX's own, and the two side inputs."""

    INPUTS: dict[str, ChannelParameter] = {  # noqa: RUF012  As the base class has it.
        **standard_component_specs.TrainerSpec.INPUTS,
        "catalogue": ChannelParameter(type=Dataset),
        "report": ChannelParameter(type=Metrics),
    }


class Executor(GenericExecutor):
    """TFX's own; the paths of the side inputs reach `run_fn` in `custom_config`."""

    def _GetFnArgs(self, input_dict: Any, output_dict: Any, exec_properties: Any) -> FnArgs:
        fn_args = super()._GetFnArgs(input_dict, output_dict, exec_properties)
        paths = {f"{name}_path": artifact_utils.get_single_uri(input_dict[name]) for name in _SIDE_INPUTS}
        fn_args.custom_config = {**(fn_args.custom_config or {}), **paths}
        return fn_args


class Trainer(base_component.BaseComponent):
    """TFX's Trainer with two more inputs: what is known of the items has no place in examples of interactions.

    Args:
      examples: transformed, materialised examples with the splits train, valid and test.
      transform_graph: of Transform, for the vocabularies.
      catalogue: of InteractionGen.
      report: of InteractionGen.
      config: YAML of a `Config`.
      run_fn: import path of the function to run.

    Outputs: `model` (the exact SavedModel) and `model_run` (with the run directory in `run/`).
    """

    SPEC_CLASS = TrainerSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(Executor)

    def __init__(
        self,
        examples: BaseChannel,
        transform_graph: BaseChannel,
        catalogue: BaseChannel,
        report: BaseChannel,
        config: str,
        run_fn: str = "tf_hqgnn.tfx.trainer.run_fn",
    ) -> None:
        spec = TrainerSpec(
            examples=examples,
            transform_graph=transform_graph,
            catalogue=catalogue,
            report=report,
            train_args=tfx.proto.TrainArgs(splits=["train"]),
            eval_args=tfx.proto.EvalArgs(splits=["valid", "test"]),
            run_fn=run_fn,
            custom_config=json_utils.dumps({"config": config}),
            model=Channel(type=Model),
            model_run=Channel(type=ModelRun),
        )
        super().__init__(spec=spec)


def run_fn(fn_args: FnArgs) -> None:
    """Trains on transformed examples; leaves the run directory in `model_run` and the exact SavedModel in `model`.

    Args:
      fn_args: of TFX; `custom_config` holds `config` (YAML), `catalogue_path` and `report_path`.

    Raises:
      InputError: A setting is wrong, or there is too little to train on.
    """
    config = Config.from_yaml(fn_args.custom_config["config"])
    run_dir = run_path(fn_args.model_run_dir)
    train(rebuild_dataset(fn_args), config, run_dir)
    bundle = ServingBundle.from_run(RunDirectory.load(run_dir))
    serving_dir = Path(fn_args.serving_model_dir)
    move_version(export_exact(bundle, serving_dir.parent, config.export, version=1), serving_dir)


def rebuild_dataset(fn_args: FnArgs) -> SplitDataset:
    """The dataset that InteractionGen split, from Transform's examples and vocabularies.

    Args:
      fn_args: `train_files` of one split, `eval_files` of two: valid, test.
    """
    custom: Mapping[str, Any] = fn_args.custom_config
    transform = tft.TFTransformOutput(fn_args.transform_graph_path)
    users, items = transform.vocabulary_by_name(USER_VOCABULARY), transform.vocabulary_by_name(ITEM_VOCABULARY)
    user_ids, user_rank = sort_vocabulary(users)
    item_ids, item_rank = sort_vocabulary(items)
    train_split, valid, test = (
        reindex(read_transformed([pattern], users, items), user_rank, item_rank)
        for pattern in (*fn_args.train_files, *fn_args.eval_files)
    )
    columns = read_catalogue(Path(custom["catalogue_path"]), item_ids)
    return SplitDataset(
        user_ids=user_ids,
        item_ids=item_ids,
        train=train_split,
        valid=valid,
        test=test,
        titles=columns.titles,
        categories=columns.categories,
        available=columns.available,
        report=read_report(Path(custom["report_path"]))["read"],
    )


def run_path(model_run_uri: str) -> Path:
    """The run directory within a ModelRun artifact."""
    return Path(model_run_uri) / "run"
