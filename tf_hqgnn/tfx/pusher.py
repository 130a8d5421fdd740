"""The component that makes a blessed candidate visible to the servers, or says why it doesn't."""

# No `from __future__ import annotations`: TFX reads the annotations of a component as objects.
from collections.abc import Iterable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from absl import logging
from tfx.components.evaluator import constants
from tfx.types.artifact import Artifact
from tfx.types.standard_artifacts import InfraBlessing, Model, ModelBlessing, ModelEvaluation, ModelRun, PushedModel
from tfx.utils import path_utils

from tf_hqgnn.export.layout import MODEL_NAMES, model_dirs, version_path
from tf_hqgnn.export.versions import next_version, versions
from tf_hqgnn.files.reading import read_json
from tf_hqgnn.runs.run_directory import RunDirectory
from tf_hqgnn.runs.trained_state import TrainedState
from tf_hqgnn.tfx.annotations import InputArtifact, OutputArtifact, Parameter, component
from tf_hqgnn.tfx.held_out_model import judged_model_dir
from tf_hqgnn.tfx.model_store import push, read_pointer, remove_states, state_path, store_lock, write_pointer
from tf_hqgnn.tfx.old_versions import remove_old_versions
from tf_hqgnn.tfx.push_origin import PushOrigin
from tf_hqgnn.tfx.ranking_evaluator import JUDGED_AGAINST, METRICS_FILE
from tf_hqgnn.tfx.trainer import run_path


@component
def Pusher(
    model: InputArtifact[Model],
    index: InputArtifact[Model],
    model_run: InputArtifact[ModelRun],
    evaluation: InputArtifact[ModelEvaluation],
    blessing: InputArtifact[ModelBlessing],
    infra_blessing: InputArtifact[InfraBlessing],
    pushed_model: OutputArtifact[PushedModel],
    pushed_index: OutputArtifact[PushedModel],
    serving_dir: Parameter[str],
    model_store: Parameter[str],
    store_state: Parameter[str] = "",
    keep: Parameter[int] = 0,
    model_config_file: Parameter[str] = "",
) -> None:
    """Pushes both models under one version number if both blessings are there.

    TFX's own Pusher copies to the final name and skips a version that exists, so that an interrupted copy stays broken
    for good; this one stages and renames. Started again after its push, as Kubeflow does with a step that failed, it
    finds the version that it has pushed and reports that one.

    Two of them on one model store exclude each other by a lock. The second one pushes only if the model that its own
    was judged against is still the last one.

    Args:
      model: the exact model.
      index: the ScaNN model.
      model_run: of Trainer; what the next run starts from and compares with is kept beside the pointer.
      evaluation: what the next run's candidate will be compared with, kept in the pointer.
      blessing: of RankingEvaluator.
      infra_blessing: of InfraCheck.
      pushed_model: TFX's custom properties `pushed`, `pushed_destination`, `pushed_version`; `reason` where nothing
        was pushed, or where an earlier attempt had done it.
      pushed_index: the same for the ScaNN model.
      serving_dir: holds one folder per model; what a server watches.
      model_store: gets `latest_blessed.json`.
      store_state: kept in the pointer, where the next run looks whether it would repeat this one.
      keep: how many of the newest versions stay in `serving_dir`; 0 keeps all.
      model_config_file: of the servers, if they have one: what it loads or labels stays, however old.
    """
    refusals = [
        f"{name}: {artifact.get_string_custom_property(constants.ARTIFACT_PROPERTY_BLESSING_MESSAGE_KEY)}"
        for name, artifact in (("RankingEvaluator", blessing), ("InfraCheck", infra_blessing))
        if artifact.get_int_custom_property(constants.ARTIFACT_PROPERTY_BLESSED_KEY) != constants.BLESSED_VALUE
    ]
    if refusals:
        _mark_not_pushed((pushed_model, pushed_index), "; ".join(refusals))
        return
    candidates, serving, store = dict(zip(MODEL_NAMES, (model, index))), Path(serving_dir), Path(model_store)
    sources = {name: Path(path_utils.serving_model_path(artifact.uri)) for name, artifact in candidates.items()}
    uris = {name: artifact.uri for name, artifact in candidates.items()}
    origin = PushOrigin.of(sources, uris, blessing.uri)
    figures = read_json(Path(evaluation.uri) / METRICS_FILE, cure="run the pipeline again")
    with store_lock(store, serving):
        dirs = model_dirs(serving)
        earlier = origin.earlier_push(dirs)
        refusal = None if earlier is not None else _overtaken(figures, read_pointer(store))
        if refusal is not None:
            _mark_not_pushed((pushed_model, pushed_index), refusal)
            return
        version = next_version(dirs) if earlier is None else earlier
        # Another run may have pushed since an earlier attempt of this one: its model is the last one then.
        is_last = version >= max((number for folder in dirs for number in versions(folder)), default=0)
        state_dir = state_path(store, version)
        if is_last and (earlier is None or not state_dir.is_dir()):
            # Before anything is visible: a model whose state can't be kept isn't pushed either.
            state = TrainedState.from_run(RunDirectory.load(run_path(model_run.uri)))
            state.save(state_dir, judged_model_dir(model.uri))
        push(sources, serving, version, origin)
        paths = {name: str(version_path(serving, name, version)) for name in MODEL_NAMES}
        if is_last:
            write_pointer(
                store,
                {
                    "version": version,
                    "models": paths,
                    "state": str(state_dir),
                    "pushed_at": datetime.now(timezone.utc).isoformat(),
                    "store_state": store_state,
                    "evaluation": figures,
                },
            )
            remove_states(store, keep=state_dir)
            if keep > 0:
                remove_old_versions(serving, keep, [Path(model_config_file)] if model_config_file else [])
    if earlier is not None:
        logging.warning("version %d holds these models already: it was pushed by an earlier attempt", version)
    for name, artifact in zip(MODEL_NAMES, (pushed_model, pushed_index)):
        _mark_pushed(artifact, paths[name], version, earlier is not None)


def _overtaken(figures: dict[str, Any], pointer: dict[str, Any] | None) -> str | None:
    """Why a model can't be pushed whose verdict compares it with a model that isn't the last one any more."""
    if JUDGED_AGAINST not in figures:
        # An evaluation of version 0.1.
        return None
    judged_against, last = figures[JUDGED_AGAINST], pointer and pointer["version"]
    if judged_against == last:
        return None
    before = "no model" if judged_against is None else f"version {judged_against}"
    now = "there is none any more" if last is None else f"version {last} was pushed since"
    return f"the model was judged against {before}, but {now}: run the pipeline again"


def _mark_not_pushed(artifacts: Iterable[Artifact], reason: str) -> None:
    logging.warning("not pushed: %s", reason)
    for artifact in artifacts:
        artifact.set_int_custom_property("pushed", 0)
        artifact.set_string_custom_property("reason", reason)


def _mark_pushed(artifact: Artifact, destination: str, version: int, is_repeated: bool) -> None:
    artifact.set_int_custom_property("pushed", 1)
    artifact.set_string_custom_property("pushed_destination", destination)
    artifact.set_string_custom_property("pushed_version", str(version))
    if is_repeated:
        artifact.set_string_custom_property("reason", f"version {version} was pushed by an earlier attempt")
