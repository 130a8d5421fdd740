"""What the container of every Kubeflow step runs: TFX's executor, on local folders and with typed inputs.

TFX 1.16's own entry point, `tfx.orchestration.kubeflow.v2.container.kubeflow_v2_run_executor`, doesn't do here:

* Open-source Kubeflow hands over input artifacts without their type, on which TFX stops (its issue 7768). The
  component's specification, which is among the arguments, has the types.
* The URIs are of object stores (`minio://`, `s3://`, `gs://`), which neither TensorFlow (`minio://`) nor `pathlib` can
  open. Kubeflow's launcher and Vertex have the same files under `/minio`, `/s3`, `/gcs`; so does this, and it gives the
  URIs back in what it reports.
* On Vertex `/gcs` is a FUSE mount, where folders can't be renamed. Outputs are written to a scratch folder and copied.
* Ids of artifacts in a blessing would be hashes, rounded; TFX mends that for its own Evaluator only.
* It imports TensorFlow before this package can choose Keras 2.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from argparse import Namespace
from pathlib import Path
from typing import Any

from absl import app

import tf_hqgnn.types

# The stores that Kubeflow's launcher and Vertex mount; the folder under "/" by URI scheme.
MOUNTS = {"gs://": "gcs", "s3://": "s3", "minio://": "minio"}
# Another folder in place of "/", for machines that have no such mounts.
MOUNT_ROOT = "KUBEFLOW_MOUNT_ROOT"
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
            return os.path.join(os.environ.get(MOUNT_ROOT, "/"), folder, uri.removeprefix(scheme))
    if "://" in uri:
        raise tf_hqgnn.types.InputError(
            f"{uri}: no such store is mounted in a step; expected {', '.join(MOUNTS)} or a plain path: set the "
            f"pipeline root to one of these"
        )
    return uri


def localize(executor_input: dict[str, Any], inputs_spec: dict[str, Any], scratch: Path) -> dict[str, str]:
    """Edits an ExecutorInput (as JSON) for TFX: types and local folders.

    Args:
      executor_input: of Kubeflow; edited.
      inputs_spec: ComponentInputsSpec as JSON, with the artifacts' types.
      scratch: gets the outputs that belong into a store.

    Returns:
      Local folder -> URI, of every artifact in a store.
    """
    types, uri_of = inputs_spec.get("artifacts", {}), {}
    for name, artifacts in executor_input.get("inputs", {}).get("artifacts", {}).items():
        for artifact in artifacts["artifacts"]:
            artifact["type"] = artifact.get("type") or types[name]["artifactType"]
            path = local_path(artifact["uri"])
            uri_of[path], artifact["uri"] = artifact["uri"], path
    outputs = executor_input["outputs"]
    outputs["outputFile"] = local_path(outputs["outputFile"])
    for name, artifacts in outputs.get("artifacts", {}).items():
        for artifact in artifacts["artifacts"]:
            uri = artifact["uri"]
            if local_path(uri) != uri:
                artifact["uri"] = str(scratch / name)
                uri_of[artifact["uri"]] = uri
    return uri_of


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
                # A component may leave an output empty: Pusher does.
                if os.path.isdir(folder):
                    shutil.copytree(folder, local_path(artifact["uri"]), dirs_exist_ok=True)


def _names_by_id(names: list[str]) -> dict[float, str]:
    from tfx.orchestration.kubeflow.v2.container import kubeflow_v2_entrypoint_utils as utils

    # As floats, since JSON has no other numbers: hashes of 63 bits come back rounded.
    return {float(utils._get_hashed_id(name, {})): name for name in names}


def run_step(arguments: Namespace, beam_arguments: list[str]) -> None:
    """Runs one component as Kubeflow's arguments say.

    Args:
      arguments: TFX's `executor_class_path`, `json_serialized_invocation_args`, `json_serialized_inputs_spec_args`.
      beam_arguments: the others, which are Beam's.

    Raises:
      InputError: A setting or the input is wrong.
    """
    from tfx.orchestration.kubeflow.v2.container import kubeflow_v2_run_executor

    executor_input = json.loads(arguments.json_serialized_invocation_args)
    inputs_spec = json.loads(arguments.json_serialized_inputs_spec_args)
    inputs = executor_input.get("inputs", {}).get("artifacts", {}).values()
    names = [artifact["name"] for artifacts in inputs for artifact in artifacts["artifacts"] if "name" in artifact]
    with tempfile.TemporaryDirectory(prefix="step-") as scratch:
        uri_of = localize(executor_input, inputs_spec, Path(scratch))
        arguments.json_serialized_invocation_args = json.dumps(executor_input)
        kubeflow_v2_run_executor.main((arguments, beam_arguments))
        output_file = Path(executor_input["outputs"]["outputFile"])
        executor_output = json.loads(output_file.read_text(encoding="utf-8"))
        publish(executor_output, uri_of, names)
        output_file.write_text(json.dumps(executor_output), encoding="utf-8")


def _main(parsed: tuple[Namespace, list[str]]) -> None:
    try:
        run_step(*parsed)
    except tf_hqgnn.types.InputError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)


def _parse(arguments: list[str]) -> tuple[Namespace, list[str]]:
    # TFX's, so that the arguments are those that its compiler writes.
    from tfx.orchestration.kubeflow.v2.container import kubeflow_v2_run_executor

    # Without the program's name: TFX would take it for an argument of Beam, and with any of these it first packages
    # itself for remote workers, which takes seconds.
    return kubeflow_v2_run_executor._parse_flags(arguments[1:])


if __name__ == "__main__":
    app.run(_main, flags_parser=_parse)
