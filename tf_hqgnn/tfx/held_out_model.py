"""Where the artifact of a pushed model keeps the model that was judged in its place.

A pushed model never returns what a user took, held-out items included, and with `training.refit: all` it has learnt
them: nothing could judge it. So Trainer and IndexGen write two SavedModels: the one to push, where TFX expects it, and
beside it the one that knows nothing of the held-out interactions. RankingEvaluator judges that one, and later
candidates are compared with it.
"""

from __future__ import annotations

from pathlib import Path

from tfx.utils import path_utils

from tf_hqgnn.export.bundle import ServingBundle, export_model
from tf_hqgnn.export.layout import ModelSettings
from tf_hqgnn.runs.run_directory import RunDirectory

_FOLDER = "HeldOut"
# What the judge asks (`saved_model_ranking`).
JUDGED_BY = ("recommend",)


def export_models(run: RunDirectory, name: str, settings: ModelSettings, artifact_uri: str) -> None:
    """Writes the model that is pushed and, if interactions were held out, the one that is judged.

    Args:
      run: of the training.
      name: of the model, `hqgnn` or `hqgnn_scann`.
      settings: of its answers and its index.
      artifact_uri: of the Model artifact.

    Raises:
      InputError: ScaNN is asked for and isn't installed, or the settings don't fit the catalogue.
    """
    export_model(ServingBundle.from_run(run), name, settings, Path(path_utils.serving_model_dir(artifact_uri)))
    if len(run.dataset.valid) or len(run.dataset.test):
        export_model(ServingBundle.judged(run), name, settings, Path(artifact_uri) / _FOLDER, JUDGED_BY)


def judged_model_dir(artifact_uri: str) -> Path:
    """The SavedModel of an artifact by which it is judged: the one that knows no held-out interaction."""
    held_out = Path(artifact_uri) / _FOLDER
    return held_out if held_out.is_dir() else Path(path_utils.serving_model_path(artifact_uri))
