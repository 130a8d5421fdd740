"""TFX's Trainer, which here also gets the catalogue and the report of the read."""

from __future__ import annotations

from typing import Any

from tfx.components.trainer.executor import GenericExecutor
from tfx.components.trainer.fn_args_utils import FnArgs
from tfx.dsl.components.base import base_component, executor_spec
from tfx.orchestration.data_types import RuntimeParameter
from tfx.proto import trainer_pb2
from tfx.types import BaseChannel, Channel, artifact_utils, standard_component_specs
from tfx.types.component_spec import ChannelParameter, ExecutionParameter
from tfx.types.experimental.simple_artifacts import Dataset, Metrics
from tfx.types.standard_artifacts import Examples, Model, ModelRun, TransformGraph
from tfx.utils import json_utils

# The generated module has no types.
_protos: Any = trainer_pb2
_SIDE_INPUTS = ("catalogue", "report")


class TrainerSpec(standard_component_specs.TrainerSpec):
    """TFX's own, the two side inputs, the epochs, and where the last blessed model is."""

    PARAMETERS: dict[str, ExecutionParameter] = {  # noqa: RUF012  As the base class has it.
        **standard_component_specs.TrainerSpec.PARAMETERS,
        "max_epochs": ExecutionParameter(type=int),
        "model_store": ExecutionParameter(type=str),
    }
    INPUTS: dict[str, ChannelParameter] = {  # noqa: RUF012  As the base class has it.
        **standard_component_specs.TrainerSpec.INPUTS,
        "catalogue": ChannelParameter(type=Dataset),
        "report": ChannelParameter(type=Metrics),
    }


class Executor(GenericExecutor):
    """TFX's own; the paths of the side inputs and the parameters reach `run_fn` in `custom_config`."""

    def _GetFnArgs(self, input_dict: Any, output_dict: Any, exec_properties: Any) -> FnArgs:
        fn_args = super()._GetFnArgs(input_dict, output_dict, exec_properties)
        paths = {f"{name}_path": artifact_utils.get_single_uri(input_dict[name]) for name in _SIDE_INPUTS}
        parameters = {name: exec_properties[name] for name in ("max_epochs", "model_store")}
        fn_args.custom_config = {**(fn_args.custom_config or {}), **paths, **parameters}
        return fn_args


class Trainer(base_component.BaseComponent):
    """TFX's Trainer with two more inputs: what is known of the items has no place in examples of interactions.

    Args:
      examples: transformed, materialised examples with the splits train, valid and test.
      transform_graph: of Transform, for the vocabularies.
      catalogue: of InteractionGen.
      report: of InteractionGen.
      config: YAML of a `Config`.
      max_epochs: in place of the config's `training.max_epochs` and `warm_epochs`, unless 0; may be a RuntimeParameter.
      model_store: folder of the pointer to the last blessed model, from whose rows training starts unless the config
        says otherwise; "" for none. It is read when the component runs, and isn't part of what TFX's cache looks at: a
        training is reused for the same examples and settings, whatever it started from.
      run_fn: import path of the function to run.

    Outputs: `model` (the exact SavedModel) and `model_run` (with the run directory in `run/`).
    """

    SPEC_CLASS = TrainerSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(Executor)

    def __init__(
        self,
        examples: BaseChannel[Examples],
        transform_graph: BaseChannel[TransformGraph],
        catalogue: BaseChannel[Dataset],
        report: BaseChannel[Metrics],
        config: str,
        max_epochs: int | RuntimeParameter = 0,
        model_store: str | RuntimeParameter = "",
        run_fn: str = "tf_hqgnn.tfx.trainer.run_fn",
    ) -> None:
        spec = TrainerSpec(
            examples=examples,
            transform_graph=transform_graph,
            catalogue=catalogue,
            report=report,
            train_args=_protos.TrainArgs(splits=["train"]),
            eval_args=_protos.EvalArgs(splits=["valid", "test"]),
            max_epochs=max_epochs,
            model_store=model_store,
            run_fn=run_fn,
            custom_config=json_utils.dumps({"config": config}),
            model=Channel(type=Model),
            model_run=Channel(type=ModelRun),
        )
        super().__init__(spec=spec)
