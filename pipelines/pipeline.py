"""The pipeline: from an interaction log to two SavedModels that a server picks up. The composition is yours."""

from __future__ import annotations

from typing import Any

# Not tfx.v1, whose extensions take 8 s to import.
from tfx.components import ExampleValidator, SchemaGen, StatisticsGen, Transform
from tfx.components.schema_gen.import_schema_gen.component import ImportSchemaGen
from tfx.orchestration.data_types import RuntimeParameter
from tfx.orchestration.pipeline import Pipeline
from tfx.proto import transform_pb2

from tf_hqgnn.config import Config
from tf_hqgnn.tfx.index_gen import IndexGen
from tf_hqgnn.tfx.infra_check import InfraCheck
from tf_hqgnn.tfx.interaction_gen import InteractionGen
from tf_hqgnn.tfx.pusher import Pusher
from tf_hqgnn.tfx.ranking_evaluator import RankingEvaluator
from tf_hqgnn.tfx.run_check import RunCheck
from tf_hqgnn.tfx.schema_gate import SchemaGate
from tf_hqgnn.tfx.thresholds import Thresholds
from tf_hqgnn.tfx.trainer_component import Trainer

SPLITS = ["train", "valid", "test"]
# The generated module has no types.
_protos: Any = transform_pb2


def create_pipeline(
    pipeline_name: str,
    pipeline_root: str,
    config: Config,
    thresholds: Thresholds | RuntimeParameter,
    serving_dir: str | RuntimeParameter,
    model_store: str | RuntimeParameter,
    input_fingerprint: str = "",
    store_state: str = "",
    data_path: str | RuntimeParameter = "",
    items_path: str | RuntimeParameter = "",
    max_epochs: int | RuntimeParameter = 0,
    schema_path: str = "",
    metadata_connection_config: Any | None = None,
    beam_pipeline_args: list[str] | None = None,
    enable_cache: bool = True,
    check_first: bool = False,
    keep: int = 0,
    model_config_file: str = "",
) -> Pipeline:
    """Composes the components; every path is an argument, runners own them.

    Args:
      pipeline_name: under which metadata and cache are kept.
      pipeline_root: where the artifacts go.
      config: all settings; `config.data` names the log.
      thresholds: what a model must show to be pushed.
      serving_dir: gets `hqgnn/<version>` and `hqgnn_scann/<version>`.
      model_store: gets the pointer to the last blessed model and the state that the next training starts from,
        with the ids of the log: a folder that no server sees.
      input_fingerprint: changes when the files behind `config.data` do.
      store_state: changes when the pointer or the served versions do.
      data_path: in place of `config.data.path`, unless "". This and what else may be a RuntimeParameter is for
        orchestrators whose operators choose such values when they start a run.
      items_path: in place of `config.data.items_path`, unless "".
      max_epochs: in place of `config.training.max_epochs` and `warm_epochs`, unless 0.
      schema_path: of a curated schema, to which every run is held (SchemaGate); "" infers one and holds to nothing.
      metadata_connection_config: ConnectionConfig of ML Metadata; None where the orchestrator has its own.
      beam_pipeline_args: of InteractionGen, StatisticsGen and Transform.
      enable_cache: reuse the outputs of a component that has run with the same inputs.
      check_first: begin with a RunCheck, for orchestrators whose operators choose values when they start a run; a
        runner that checks them itself needs none.
      keep: how many of the newest versions stay in `serving_dir` after a push; 0 keeps all.
      model_config_file: of the servers; what it loads or labels is never removed.
    """
    everything = config.to_yaml()
    limits = thresholds if isinstance(thresholds, RuntimeParameter) else thresholds.model_dump_json()
    # Only what the log's reading depends on, so that another training setting doesn't read it anew.
    data_settings = Config(seed=config.seed, data=config.data).to_yaml()

    interaction_gen = InteractionGen(
        config=data_settings,
        input_fingerprint=input_fingerprint,
        data_path=data_path,
        items_path=items_path,
        model_store=model_store,
    )
    checks = []
    if check_first:
        checks = [
            RunCheck(
                config=everything,
                thresholds=limits,
                serving_dir=serving_dir,
                model_store=model_store,
                data_path=data_path,
                items_path=items_path,
                max_epochs=max_epochs,
            )
        ]
        interaction_gen.add_upstream_node(checks[0])
    examples = interaction_gen.outputs["examples"]
    statistics_gen = StatisticsGen(examples=examples)
    schema_gen: Any
    if schema_path:
        schema_gen = ImportSchemaGen(schema_file=schema_path)
    else:
        schema_gen = SchemaGen(
            statistics=statistics_gen.outputs["statistics"],
            infer_feature_shape=True,
            # The training split says what data looks like; another may be empty, and then it says nothing.
            exclude_splits=["valid", "test"],
        )
    example_validator = ExampleValidator(
        statistics=statistics_gen.outputs["statistics"], schema=schema_gen.outputs["schema"]
    )
    transform = Transform(
        examples=examples,
        schema=schema_gen.outputs["schema"],
        preprocessing_fn="tf_hqgnn.tfx.preprocessing.preprocessing_fn",
        # Every split: a user or an item of the test split only has a row, too.
        splits_config=_protos.SplitsConfig(analyze=SPLITS, transform=SPLITS),
        # StatisticsGen has made them, and the vocabularies change with every log.
        disable_statistics=True,
        disable_analyzer_cache=True,
    )
    gates = [SchemaGate(anomalies=example_validator.outputs["anomalies"])] if schema_path else []
    for gate in gates:
        transform.add_upstream_node(gate)
    trainer = Trainer(
        examples=transform.outputs["transformed_examples"],
        transform_graph=transform.outputs["transform_graph"],
        catalogue=interaction_gen.outputs["catalogue"],
        report=interaction_gen.outputs["report"],
        config=everything,
        max_epochs=max_epochs,
        model_store=model_store,
    )
    index_gen = IndexGen(model_run=trainer.outputs["model_run"], config=everything)
    candidates = {"model": trainer.outputs["model"], "index": index_gen.outputs["index"]}
    evaluator = RankingEvaluator(
        **candidates,
        model_run=trainer.outputs["model_run"],
        config=everything,
        thresholds=limits,
        model_store=model_store,
        store_state=store_state,
    )
    infra_check = InfraCheck(**candidates)
    pusher = Pusher(
        **candidates,
        model_run=trainer.outputs["model_run"],
        evaluation=evaluator.outputs["evaluation"],
        blessing=evaluator.outputs["blessing"],
        infra_blessing=infra_check.outputs["blessing"],
        serving_dir=serving_dir,
        model_store=model_store,
        store_state=store_state,
        keep=keep,
        model_config_file=model_config_file,
    )
    return Pipeline(
        pipeline_name=pipeline_name,
        pipeline_root=pipeline_root,
        components=[
            *checks,
            interaction_gen,
            statistics_gen,
            schema_gen,
            example_validator,
            *gates,
            transform,
            trainer,
            index_gen,
            evaluator,
            infra_check,
            pusher,
        ],
        enable_cache=enable_cache,
        metadata_connection_config=metadata_connection_config,
        beam_pipeline_args=[*(beam_pipeline_args or [])],
    )
