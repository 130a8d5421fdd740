"""The entry point of a step: what it makes of what Kubeflow and Vertex hand over, and what it hands back."""

from __future__ import annotations

import copy
import json

import pytest

from tf_hqgnn.tfx.kubeflow_step import localize, publish
from tf_hqgnn.types import InputError

EXAMPLES = {"instanceSchema": "title: tfx.Examples\ntype: object\n"}
SPEC = {"artifacts": {"examples": {"artifactType": EXAMPLES}}}


def executor_input(
    source: str, target: str, output_file: str = "/tmp/kfp_outputs/output_metadata.json", **kind
) -> dict:
    return {
        "inputs": {"artifacts": {"examples": {"artifacts": [{"name": "7", "uri": source, **kind}]}}},
        "outputs": {
            "artifacts": {"model": {"artifacts": [{"uri": target, "type": {"schemaTitle": "tfx.Model"}}]}},
            "outputFile": output_file,
        },
    }


@pytest.mark.parametrize("scheme", ["gs", "s3", "minio"])
def test_stores_become_folders_and_types_are_added(scheme, tmp_path):
    message = executor_input(f"{scheme}://bucket/in", f"{scheme}://bucket/out")
    uri_of = localize(message, SPEC, tmp_path)
    folder = {"gs": "/gcs", "s3": "/s3", "minio": "/minio"}[scheme]
    given = message["inputs"]["artifacts"]["examples"]["artifacts"][0]
    assert given == {"name": "7", "uri": f"{folder}/bucket/in", "type": EXAMPLES}
    made = message["outputs"]["artifacts"]["model"]["artifacts"][0]["uri"]
    assert made.startswith(str(tmp_path))
    assert uri_of == {given["uri"]: f"{scheme}://bucket/in", made: f"{scheme}://bucket/out"}


def test_vertex_s_types_are_kept_and_its_report_goes_to_the_mount(tmp_path):
    kind = {"schemaTitle": "tfx.Examples", "schemaVersion": "0.0.1"}
    message = executor_input("gs://b/in", "gs://b/out", output_file="gs://b/task/executor_output.json", type=kind)
    localize(message, SPEC, tmp_path)
    assert message["inputs"]["artifacts"]["examples"]["artifacts"][0]["type"] == kind
    assert message["outputs"]["outputFile"] == "/gcs/b/task/executor_output.json"


@pytest.mark.parametrize(
    "sent",
    [
        None,
        {},
        {"instanceSchema": ""},
        {"schemaTitle": "", "instanceSchema": ""},
        {"schemaTitle": "", "schemaVersion": "0.0.1"},
        {"instanceSchema": "type: object\n"},
        {"instanceSchema": "title: [broken"},
        {"schemaTitle": "system.Artifact"},
    ],
)
def test_a_type_that_says_nothing_counts_as_missing(sent, tmp_path):
    kind = {} if sent is None else {"type": sent}
    message = executor_input("minio://b/in", "minio://b/out", **kind)
    localize(message, SPEC, tmp_path)
    assert message["inputs"]["artifacts"]["examples"]["artifacts"][0]["type"] == EXAMPLES


LOG = {"artifacts": [{"name": "executor-logs", "type": {"schemaTitle": "system.Artifact"}, "uri": "minio://b/logs"}]}
MODEL = {"artifacts": {"model": {"artifactType": {"instanceSchema": "title: tfx.Model\n"}}}}


@pytest.mark.parametrize(
    "extra",
    [
        LOG,
        {"artifacts": [{"uri": "minio://b/logs", "type": {"instanceSchema": ""}}]},
        {"artifacts": [{"uri": "minio://b/logs"}]},
        {"artifacts": [{"uri": "minio://b/logs", "type": {"schemaTitle": "tfx.Model"}}]},
        {"artifacts": []},
    ],
)
@pytest.mark.parametrize("side", ["inputs", "outputs"])
def test_what_the_component_does_not_declare_is_left_out(extra, side, tmp_path):
    message = executor_input("minio://b/in", "minio://b/out")
    message[side]["artifacts"]["executor-logs"] = copy.deepcopy(extra)
    uri_of = localize(message, SPEC, tmp_path, MODEL)
    assert (list(message["inputs"]["artifacts"]), list(message["outputs"]["artifacts"])) == (["examples"], ["model"])
    assert "minio://b/logs" not in uri_of.values()


def test_an_output_without_a_type_gets_the_declared_one(tmp_path):
    message = executor_input("minio://b/in", "minio://b/out")
    message["outputs"]["artifacts"]["model"]["artifacts"][0]["type"] = {"instanceSchema": ""}
    localize(message, SPEC, tmp_path, MODEL)
    kind = MODEL["artifacts"]["model"]["artifactType"]
    assert message["outputs"]["artifacts"]["model"]["artifacts"][0]["type"] == kind


def test_a_pipeline_compiled_without_the_outputs_loses_kubeflow_s_own(tmp_path):
    message = executor_input("minio://b/in", "minio://b/out")
    message["outputs"]["artifacts"]["executor-logs"] = copy.deepcopy(LOG)
    localize(message, SPEC, tmp_path)
    assert list(message["outputs"]["artifacts"]) == ["model"]


def test_every_pod_uploads_to_a_folder_of_its_own(tmp_path, monkeypatch):
    reported = []
    for pod in ("a-1", "b-2"):
        monkeypatch.setenv("KFP_POD_UID", pod)
        reported += localize(executor_input("/mnt/in", "minio://b/task/out"), SPEC, tmp_path).values()
    assert reported == ["/mnt/in", "minio://b/task/out-a-1", "/mnt/in", "minio://b/task/out-b-2"]


def test_plain_paths_are_left_alone(tmp_path):
    message = executor_input("/mnt/in", "/mnt/out")
    localize(message, SPEC, tmp_path)
    assert message["inputs"]["artifacts"]["examples"]["artifacts"][0]["uri"] == "/mnt/in"
    assert message["outputs"]["artifacts"]["model"]["artifacts"][0]["uri"] == "/mnt/out"


def test_a_store_that_is_mounted_nowhere_is_refused(tmp_path):
    with pytest.raises(
        InputError, match="oci://b/in: no such store is mounted in a step; expected gs://, s3://, minio"
    ):
        localize(executor_input("oci://b/in", "/mnt/out"), SPEC, tmp_path)


def test_a_step_without_inputs(tmp_path):
    message = executor_input("", "minio://b/out")
    del message["inputs"]
    assert list(localize(message, {}, tmp_path).values()) == ["minio://b/out"]


def test_outputs_are_copied_and_every_mention_of_them_is_their_uri(tmp_path, monkeypatch):
    monkeypatch.setenv("KUBEFLOW_MOUNT_ROOT", str(tmp_path / "mounts"))
    message = executor_input("minio://b/in", "minio://b/out")
    uri_of = localize(message, SPEC, tmp_path / "scratch")
    model = tmp_path / "scratch" / "model"
    (model / "assets").mkdir(parents=True)
    (model / "assets" / "ids").write_text("a")
    source = message["inputs"]["artifacts"]["examples"]["artifacts"][0]["uri"]
    metadata = {"made_from": source, "blessed": 1.0, "message": f"made from {source}"}
    output = {"artifacts": {"model": {"artifacts": [{"uri": str(model), "metadata": metadata}]}}}
    expected = copy.deepcopy(output)
    expected["artifacts"]["model"]["artifacts"][0] |= {
        "uri": "minio://b/out",
        "metadata": {**metadata, "made_from": "minio://b/in"},
    }
    publish(output, uri_of, ["7"])
    assert output == json.loads(json.dumps(expected))
    assert (tmp_path / "mounts" / "minio" / "b" / "out" / "assets" / "ids").read_text() == "a"


def test_an_output_may_stay_empty(tmp_path):
    uri_of = localize(executor_input("/mnt/in", "minio://b/out"), SPEC, tmp_path)
    output = {"artifacts": {"model": {"artifacts": [{"uri": str(tmp_path / "model")}]}}}
    publish(output, uri_of, [])
    assert output["artifacts"]["model"]["artifacts"] == [{"uri": "minio://b/out"}]
