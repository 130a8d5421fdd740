"""What the container of every Kubeflow step runs: TFX's executor, on local folders and with typed inputs.

TFX 1.16's own entry point, `tfx.orchestration.kubeflow.v2.container.kubeflow_v2_run_executor`, doesn't do here:

* Open-source Kubeflow hands over input artifacts without their type, or with an empty one, on which TFX stops (its
  issue 7768). The component's specification, which is among the arguments, has the types.
* Open-source Kubeflow adds an output of its own to every step, `executor-logs`, whose type TFX doesn't know.
* Kubeflow's launcher never deletes what an earlier attempt of the same step has uploaded. Every attempt therefore
  uploads to a folder of its own, whose URI it reports.
* The URIs are of object stores (`minio://`, `s3://`, `gs://`), which neither TensorFlow (`minio://`) nor `pathlib` can
  open. Kubeflow's launcher and Vertex have the same files under `/minio`, `/s3`, `/gcs`; so does this, and it gives the
  URIs back in what it reports.
* On Vertex `/gcs` is a FUSE mount, where folders can't be renamed. Outputs are written to a scratch folder and copied.
* Ids of artifacts in a blessing would be hashes, rounded; TFX mends that for its own Evaluator only.
* It imports TensorFlow before this package can choose Keras 2.
"""

from __future__ import annotations

import argparse
import json
import os
import posixpath
import shutil
import sys
import tempfile
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from absl import app

import tf_hqgnn.types
from tf_hqgnn.logs import progress_on_stderr
from tf_hqgnn.startup import collect_seldom, settle_home

# The stores that Kubeflow's launcher and Vertex mount; the folder under "/" by URI scheme.
MOUNTS = {"gs://": "gcs", "s3://": "s3", "minio://": "minio"}
# Another folder in place of "/", for machines that have no such mounts.
MOUNT_ROOT = "KUBEFLOW_MOUNT_ROOT"
# Kubeflow sets it in every pod, and with it each attempt of a step can be told from the others.
POD_UID = "KFP_POD_UID"
# The component's ComponentOutputsSpec as JSON; `pipelines.kubeflow_spec` adds it beside TFX's argument for the inputs.
OUTPUTS_SPEC_FLAG = "--json_serialized_outputs_spec_args"
_ARTIFACT_ID_PROPERTIES = ("current_model_id", "baseline_model_id")


def local_path(uri: str) -> str:
    """Where a store's object lies in a container; a plain path is one already.

    Example:
      >>> local_path("minio://mlpipeline/v2/model"), local_path("/mnt/models")
      ('/minio/mlpipeline/v2/model', '/mnt/models')

    Raises:
      InputError: The store is of a kind that is mounted nowhere.
    """
    for scheme, folder in MOUNTS.items():
        if uri.startswith(scheme):
            return posixpath.join(os.environ.get(MOUNT_ROOT, "/"), folder, uri.removeprefix(scheme))
    if "://" in uri:
        raise tf_hqgnn.types.InputError(
            f"{uri}: no such store is mounted in a step; expected {', '.join(MOUNTS)} or a plain path: set the "
            f"pipeline root to one of these"
        )
    return uri


def localize(
    executor_input: dict[str, Any],
    inputs_spec: Mapping[str, Any],
    scratch: Path,
    outputs_spec: Mapping[str, Any] | None = None,
) -> dict[str, str]:
    """Edits an ExecutorInput (as JSON) for TFX: the component's own artifacts only, with types and local folders.

    Args:
      executor_input: the message of Kubeflow's driver; edited.
      inputs_spec: ComponentInputsSpec as JSON, with the artifacts' types.
      scratch: gets the outputs that belong into a store.
      outputs_spec: ComponentOutputsSpec as JSON; None for a pipeline that was compiled without it, whose outputs are
        those of a type that TFX knows.

    Returns:
      Local folder -> URI, of every artifact in a store.
    """
    uri_of = {}
    for artifact in _keep_declared(executor_input.get("inputs", {}), inputs_spec).values():
        path = local_path(artifact["uri"])
        uri_of[path], artifact["uri"] = artifact["uri"], path
    outputs = executor_input["outputs"]
    outputs["outputFile"] = local_path(outputs["outputFile"])
    attempt = os.environ.get(POD_UID, "")
    for name, artifact in _keep_declared(outputs, outputs_spec).items():
        uri = artifact["uri"]
        if local_path(uri) != uri:
            artifact["uri"] = str(scratch / name)
            uri_of[artifact["uri"]] = f"{uri.rstrip('/')}-{attempt}" if attempt else uri
    return uri_of


def _keep_declared(message: dict[str, Any], spec: Mapping[str, Any] | None) -> dict[str, dict[str, Any]]:
    """Removes the artifacts that the component doesn't declare, and gives the others their types.

    Args:
      message: `inputs` or `outputs` of an ExecutorInput; edited.
      spec: ComponentInputsSpec or ComponentOutputsSpec; None if unknown.

    Returns:
      Name -> artifact.
    """
    declared = None if spec is None else spec.get("artifacts", {})
    kept: dict[str, dict[str, Any]] = {}
    lists = message.get("artifacts", {})
    for name in list(lists):
        # One artifact each: no component of TFX's takes or makes several under one name.
        for artifact in lists[name].get("artifacts", [])[:1]:
            kind = artifact.get("type")
            if not _is_known_to_tfx(kind):
                kind = (declared or {}).get(name, {}).get("artifactType")
            if kind and (declared is None or name in declared):
                kept[name] = artifact
                artifact["type"] = kind
        if name not in kept:
            del lists[name]
    return kept


def _is_known_to_tfx(kind: Mapping[str, Any] | None) -> bool:
    """Whether an ArtifactTypeSchema names one of TFX's types, and not one of Kubeflow's own, or nothing."""
    title = (kind or {}).get("schemaTitle")
    if not title:
        try:
            title = (yaml.safe_load((kind or {}).get("instanceSchema") or "") or {}).get("title")
        except (yaml.YAMLError, AttributeError):
            return False
    return bool(title) and not str(title).startswith("system.")


def publish(executor_output: dict[str, Any], uri_of: dict[str, str], input_names: list[str]) -> None:
    """Copies outputs to their stores and edits the ExecutorOutput (as JSON) to say so, properties included.

    Args:
      executor_output: of TFX; edited.
      uri_of: of `localize`.
      input_names: Kubeflow's names of the input artifacts, for which TFX's executor has numbers.
    """
    for artifacts in executor_output.get("artifacts", {}).values():
        for artifact in artifacts["artifacts"]:
            folder, metadata = artifact["uri"], artifact.get("metadata", {})
            for key, value in metadata.items():
                if isinstance(value, str):
                    metadata[key] = uri_of.get(value, value)
                elif key in _ARTIFACT_ID_PROPERTIES:
                    metadata[key] = _names_by_id(input_names).get(value, value)
            if folder in uri_of:
                artifact["uri"] = uri_of[folder]
                target = local_path(artifact["uri"])
                # On a mount that stays, as Vertex's, an earlier attempt may have been here.
                shutil.rmtree(target, ignore_errors=True)
                # A component may leave an output empty: Pusher does.
                if Path(folder).is_dir():
                    shutil.copytree(folder, target, dirs_exist_ok=True)


def _names_by_id(names: list[str]) -> dict[float, str]:
    from tfx.orchestration.kubeflow.v2.container import kubeflow_v2_entrypoint_utils as utils

    # As floats, since JSON has no other numbers: hashes of 63 bits come back rounded.
    return {float(utils._get_hashed_id(name, {})): name for name in names}


def run_step(arguments: Namespace, beam_arguments: list[str]) -> None:
    """Runs one component as Kubeflow's arguments say.

    Args:
      arguments: TFX's `executor_class_path`, `json_serialized_invocation_args`, `json_serialized_inputs_spec_args`, and
        `json_serialized_outputs_spec_args`.
      beam_arguments: the others, which are Beam's.

    Raises:
      InputError: A setting or the input is wrong.
    """
    from tfx.orchestration.kubeflow.v2.container import kubeflow_v2_run_executor

    executor_input = json.loads(arguments.json_serialized_invocation_args)
    inputs_spec = json.loads(arguments.json_serialized_inputs_spec_args)
    written = arguments.json_serialized_outputs_spec_args
    outputs_spec = None if written is None else json.loads(written)
    inputs = executor_input.get("inputs", {}).get("artifacts", {}).values()
    names = [artifact["name"] for artifacts in inputs for artifact in artifacts["artifacts"] if "name" in artifact]
    with tempfile.TemporaryDirectory(prefix="step-") as scratch:
        uri_of = localize(executor_input, inputs_spec, Path(scratch), outputs_spec)
        arguments.json_serialized_invocation_args = json.dumps(executor_input)
        kubeflow_v2_run_executor.main((arguments, beam_arguments))
        output_file = Path(executor_input["outputs"]["outputFile"])
        executor_output = json.loads(output_file.read_text(encoding="utf-8"))
        publish(executor_output, uri_of, names)
        output_file.write_text(json.dumps(executor_output), encoding="utf-8")


def _main(parsed: tuple[Namespace, list[str]]) -> None:
    try:
        with progress_on_stderr():
            run_step(*parsed)
    except tf_hqgnn.types.InputError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)


def _parse(arguments: list[str]) -> tuple[Namespace, list[str]]:
    # Before TFX is imported, which wants a home; the container may run as any user.
    settle_home()
    collect_seldom()
    # TFX's, so that the arguments are those that its compiler writes.
    from tfx.orchestration.kubeflow.v2.container import kubeflow_v2_run_executor

    ours = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    ours.add_argument(OUTPUTS_SPEC_FLAG)
    # Without the program's name: TFX would take it for an argument of Beam, and with any of these it first packages
    # itself for remote workers, which takes seconds.
    known, others = ours.parse_known_args(arguments[1:])
    parsed, beam_arguments = kubeflow_v2_run_executor._parse_flags(others)
    return Namespace(**vars(parsed), **vars(known)), beam_arguments


if __name__ == "__main__":
    app.run(_main, flags_parser=_parse)
