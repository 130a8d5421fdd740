"""The component that builds the approximate index: the SavedModel `hqgnn_scann` from a training run."""

# No `from __future__ import annotations`: TFX reads the annotations of a component as objects.
from pathlib import Path

from tfx.types.standard_artifacts import Model, ModelRun
from tfx.utils import path_utils

from tf_hqgnn.config import Config
from tf_hqgnn.export.bundle import ServingBundle, export_model
from tf_hqgnn.export.layout import SCANN_MODEL, ModelSettings
from tf_hqgnn.runs.run_directory import RunDirectory
from tf_hqgnn.tfx.annotations import InputArtifact, OutputArtifact, Parameter, component
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
      index: the SavedModel, where TFX expects one that is served.
      config: YAML of a `Config`; `export` and `retrieval` count.
    """
    settings = Config.from_yaml(config)
    bundle = ServingBundle.from_run(RunDirectory.load(run_path(model_run.uri)))
    directory = Path(path_utils.serving_model_dir(index.uri))
    export_model(bundle, SCANN_MODEL, ModelSettings(settings.export, settings.retrieval), directory)
