"""The component that builds the approximate index: the SavedModel `hqgnn_scann` from a training run."""

# No `from __future__ import annotations`: TFX reads the annotations of a component as objects.
from tfx.types.standard_artifacts import Model, ModelRun

from tf_hqgnn.config import Config
from tf_hqgnn.export.layout import SCANN_MODEL, ModelSettings
from tf_hqgnn.runs.run_directory import RunDirectory
from tf_hqgnn.tfx.annotations import InputArtifact, OutputArtifact, Parameter, component
from tf_hqgnn.tfx.held_out_model import export_models
from tf_hqgnn.tfx.trainer import run_path


@component
def IndexGen(
    model_run: InputArtifact[ModelRun],
    index: OutputArtifact[Model],
    config: Parameter[str],
) -> None:
    """Indexes the embeddings of a run with ScaNN.

    Args:
      model_run: of Trainer.
      index: the SavedModel, where TFX expects one that is served, and beside it the one that is judged.
      config: YAML of a `Config`; `export` and `retrieval` count.
    """
    settings = Config.from_yaml(config)
    run = RunDirectory.load(run_path(model_run.uri))
    export_models(run, SCANN_MODEL, ModelSettings(settings.export, settings.retrieval), index.uri)
