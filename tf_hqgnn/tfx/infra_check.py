"""The component that loads a candidate as a server would, before a server has to."""

# No `from __future__ import annotations`: TFX reads the annotations of a component as objects.
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from absl import logging
from tfx.components.evaluator import constants
from tfx.types.standard_artifacts import InfraBlessing, Model
from tfx.utils import path_utils

from tf_hqgnn.export.layout import SAVED_MODEL_FILE
from tf_hqgnn.tfx.annotations import InputArtifact, OutputArtifact, Parameter, component

_WORKER = "tf_hqgnn.tfx.infra_worker"
_PACKAGE_PARENT = Path(__file__).parents[2]
# The names that TFX's InfraValidator gives them.
BLESSED_FILE_NAME = "INFRA_BLESSED"
NOT_BLESSED_FILE_NAME = "INFRA_NOT_BLESSED"


@component
def InfraCheck(
    model: InputArtifact[Model],
    index: InputArtifact[Model],
    blessing: OutputArtifact[InfraBlessing],
    timeout_seconds: Parameter[int] = 600,
) -> None:
    """Loads both SavedModels in a fresh process, the exact one without ScaNN, and replays their warm-up records.

    Args:
      model: the exact model; it must load without ScaNN.
      index: the ScaNN model.
      blessing: `INFRA_BLESSED` or `INFRA_NOT_BLESSED`, and TFX's custom property `blessed`; the reason is in
        `blessing_message`.
      timeout_seconds: for both together.
    """
    problems = check_models(
        [path_utils.serving_model_path(artifact.uri) for artifact in (model, index)], timeout_seconds
    )
    message = "; ".join(problems) if problems else "both models load and answer their warm-up records"
    Path(blessing.uri).mkdir(parents=True, exist_ok=True)
    name = NOT_BLESSED_FILE_NAME if problems else BLESSED_FILE_NAME
    (Path(blessing.uri) / name).write_text(message, encoding="utf-8")
    value = constants.NOT_BLESSED_VALUE if problems else constants.BLESSED_VALUE
    blessing.set_int_custom_property(constants.ARTIFACT_PROPERTY_BLESSED_KEY, value)
    blessing.set_string_custom_property(constants.ARTIFACT_PROPERTY_BLESSING_MESSAGE_KEY, message)
    if problems:
        logging.warning("the model can't be served: %s", message)


def check_models(model_dirs: Sequence[str], timeout_seconds: float) -> list[str]:
    """What is wrong with the SavedModels, in words; empty when all load and answer.

    Args:
      model_dirs: folders of SavedModels, the exact one first: ScaNN isn't importable before it is needed.
      timeout_seconds: for all of them together.
    """
    missing = [
        f"{path} holds no {SAVED_MODEL_FILE}" for path in model_dirs if not Path(path, SAVED_MODEL_FILE).is_file()
    ]
    if missing:
        return missing
    # A process of its own: what this one has imported and loaded can't help, and a crash can't take the pipeline along.
    search = os.pathsep.join(filter(None, [str(_PACKAGE_PARENT), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONPATH": search, "TF_CPP_MIN_LOG_LEVEL": "2"}
    command = [sys.executable, "-m", _WORKER, *model_dirs]
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=timeout_seconds, check=False
        )
    except subprocess.TimeoutExpired:
        return [f"loading and warm-up took longer than {timeout_seconds:g} s (timeout_seconds)"]
    reports = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"model"')]
    problems = [f"{report['model']}: {report['error']}" for report in reports if "error" in report]
    for path in list(model_dirs)[len(reports) :]:
        last = (done.stderr.strip().splitlines() or [""])[-1]
        problems.append(f"{path}: the process that loaded it ended {_describe(done.returncode)} {last}".rstrip())
    return problems


def _describe(returncode: int) -> str:
    if returncode < 0:
        return f"by signal {signal.Signals(-returncode).name}"
    return f"with exit code {returncode}"
