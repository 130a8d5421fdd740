"""The ExecutorInputs that the driver of Kubeflow Pipelines 2.17 made for our ten steps, run as they are."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from kubeflow_harness import LOGS, Cluster
from pipeline_components import COMPONENTS

from tf_hqgnn.data.synthetic import generate_log, write_log
from tf_hqgnn.export.layout import MODEL_NAMES
from tf_hqgnn.export.versions import versions
from tf_hqgnn.tfx.model_store import read_pointer

pytestmark = pytest.mark.long

MESSAGES = Path(__file__).with_name("kubeflow_messages")


@pytest.fixture(scope="module")
def python(container_python):
    """Its /mnt has what the messages name: the log, and a volume for the models."""
    for name in ("data", "models"):
        (container_python.volumes / name).mkdir()
    log = container_python.volumes / "data" / "log.csv"
    write_log(generate_log(200, 100, 4000, seed=5), log, log.with_name("items.csv"))
    return container_python


@pytest.fixture(scope="module")
def cluster(python, tmp_path_factory):
    folder = tmp_path_factory.mktemp("cluster")
    spec, log = folder / "pipeline.yaml", folder / "log"
    command = ["--image", "example/tf-hqgnn:1", "--out", str(spec), "--data", "/mnt/data/log.csv"]
    command = ["python", "-m", "pipelines.run_kubeflow", *command]
    assert python.run_in(folder, log, command, {"HOME": str(folder)}) == 0, log.read_text()
    return Cluster(folder, next(yaml.safe_load_all(spec.read_text())), python)


@pytest.fixture(scope="module")
def done(cluster):
    """Runs the ten files, each with the outputs of those before it in the store."""
    for step in COMPONENTS:
        # Without a pod's id the outputs go where the messages of the later steps expect them.
        cluster.start(step, (MESSAGES / f"{step}.json").read_text(), is_pod=False)
    return cluster


def test_there_is_a_message_for_every_step():
    assert sorted(path.stem for path in MESSAGES.glob("*.json")) == sorted(COMPONENTS)


@pytest.mark.parametrize("step", COMPONENTS)
def test_the_message_is_what_made_the_first_step_fail(step):
    message = json.loads((MESSAGES / f"{step}.json").read_text())
    (log,) = message["outputs"]["artifacts"][LOGS]["artifacts"]
    assert log["type"] == {"schemaTitle": "system.Artifact"}
    inputs = message["inputs"].get("artifacts", {}).values()
    assert [given["artifacts"][0]["type"] for given in inputs] == [{"instanceSchema": ""}] * len(inputs)


@pytest.mark.parametrize("step", COMPONENTS)
def test_every_output_that_the_component_declares_is_in_the_store(done, step):
    message = json.loads((MESSAGES / f"{step}.json").read_text())
    declared = {name: lists["artifacts"][0] for name, lists in message["outputs"]["artifacts"].items() if name != LOGS}
    assert declared
    for name, sent in declared.items():
        made = done.artifacts[step, name]
        assert made.uri == sent["uri"]
        assert made.metadata["tfx_version"] == "1.16.0"
        # The pushed models are on the volume.
        assert any(done.folder(step, name).rglob("*")) == (step != "Pusher")
    assert "Traceback" not in done.log(step)


def test_the_model_is_pushed_once_however_often_the_pod_is_started(done, python):
    models = python.volumes / "models"
    pushed = done.artifacts["Pusher", "pushed_model"].metadata
    assert (pushed["pushed"], pushed["pushed_destination"]) == (1, "/mnt/models/hqgnn/1")
    done.start("Pusher", (MESSAGES / "Pusher.json").read_text(), is_pod=False)
    assert [versions(models / name) for name in MODEL_NAMES] == [[1], [1]]
    assert done.artifacts["Pusher", "pushed_model"].metadata["pushed_version"] == "1"
    assert read_pointer(models / "store")["version"] == 1


def test_uploads_into_what_a_lost_pod_had_uploaded_leave_one_event_file(done):
    done.start("Trainer", (MESSAGES / "Trainer.json").read_text(), is_pod=False)
    assert len(list((done.folder("Trainer", "model_run") / "run" / "tensorboard").glob("*tfevents*"))) == 1
