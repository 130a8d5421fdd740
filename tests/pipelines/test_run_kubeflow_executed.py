"""The compiled pipeline, executed: every container's command, and the same model as from the local run."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
import yaml
from kubeflow_harness import LOGS, UNTYPED, VERTEX, Cluster, StepFailedError

from pipelines.run_local import Layout
from pipelines.run_record import RunRecord
from tf_hqgnn.export.layout import MODEL_NAMES
from tf_hqgnn.export.loading import load_saved_model
from tf_hqgnn.runs.run_directory import RunDirectory
from tf_hqgnn.tfx.model_store import read_pointer

pytestmark = pytest.mark.engines

EPOCHS = 2


@pytest.fixture(scope="module")
def run_module(container_python, odd_log, tmp_path_factory):
    """Runs a runner, as `python -m MODULE --config .. ARGUMENTS` does."""
    folder = tmp_path_factory.mktemp("runners")

    def run(module: str, *arguments: object) -> None:
        command = ["python", "-m", module, "--config", str(odd_log.config), *map(str, arguments)]
        log = folder / f"{module}.log"
        assert container_python.run_in(folder, log, command, {"HOME": str(folder)}) == 0, log.read_text()

    return run


@pytest.fixture(scope="module")
def local(run_module, odd_log, tmp_path_factory):
    """The local run, with the operator's values among its settings."""
    layout = Layout(tmp_path_factory.mktemp("local"))
    settings = ["--set", f"training.max_epochs={EPOCHS}", "--min-lift", 0]
    run_module("pipelines.run_local", "--data", odd_log.data, "--items", odd_log.items, "--out", layout.out, *settings)
    return SimpleNamespace(serving=layout.serving, record=RunRecord.latest(layout.metadata))


@pytest.fixture(scope="module")
def spec(run_module, tmp_path_factory):
    """Compiled with other values than the operator's; the log's name is none that exists."""
    path = tmp_path_factory.mktemp("compiled") / "pipeline.yaml"
    run_module("pipelines.run_kubeflow", "--image", "example/tf-hqgnn:1", "--out", path, "--data", "/mnt/data/log")
    return next(yaml.safe_load_all(path.read_text()))


@pytest.fixture(scope="module")
def volume(tmp_path_factory):
    return tmp_path_factory.mktemp("volume")


@pytest.fixture(scope="module")
def parameters(odd_log, volume):
    """What the operator says when starting the run."""
    return {
        "data_path": str(odd_log.data),
        "items_path": str(odd_log.items),
        "max_epochs": EPOCHS,
        "thresholds": json.dumps({"min_lift": 0}),
        "serving_dir": str(volume),
        "model_store": str(volume / "store"),
    }


@pytest.fixture(scope="module")
def cluster(spec, parameters, container_python, tmp_path_factory):
    # One step starts as a container does, from nothing; the others' Python has TFX imported already.
    cluster = Cluster(tmp_path_factory.mktemp("cluster"), spec, container_python, cold=frozenset({"InteractionGen"}))
    cluster.run(**parameters)
    return cluster


def figures(folder: Path) -> dict:
    return json.loads((folder / "metrics.json").read_text())


def answers(folder: Path, user_ids: list[str]) -> dict[str, np.ndarray]:
    model = load_saved_model(folder)
    return {name: values.numpy() for name, values in model.signatures["serving_default"](tf.constant(user_ids)).items()}


def test_every_figure_is_that_of_the_local_run(cluster, local):
    found = figures(cluster.folder("RankingEvaluator", "evaluation"))
    assert found["num_users"] > 100
    assert found == figures(local.record.uri("RankingEvaluator", "evaluation"))


@pytest.mark.parametrize("name", MODEL_NAMES)
def test_the_pushed_model_answers_as_that_of_the_local_run(cluster, local, volume, name):
    run = RunDirectory.load(cluster.folder("Trainer", "model_run") / "run")
    assert run.config.training.max_epochs == EPOCHS
    users = [*run.dataset.user_ids, "somebody new"]
    found, expected = (answers(folder / name / "1", users) for folder in (volume, local.serving))
    assert found.keys() == expected.keys()
    assert found["known_user"].tolist() == [True] * len(run.dataset.user_ids) + [False]
    for output, values in expected.items():
        np.testing.assert_array_equal(found[output], values, output)


def test_the_pointer_is_on_the_volume(cluster, volume):
    pointer = read_pointer(volume / "store")
    assert pointer["models"] == {name: str(volume / name / "1") for name in MODEL_NAMES}
    assert pointer["evaluation"] == figures(cluster.folder("RankingEvaluator", "evaluation"))


def test_kubeflow_is_told_what_tfx_tells_ml_metadata(cluster, local, volume):
    """Kinds of artifacts and their properties, by which other pipelines find blessed and pushed models."""
    for (task, output), artifact in cluster.artifacts.items():
        kept = local.record.artifacts[task, output]
        assert yaml.safe_load(artifact.type.instance_schema)["title"] == f"tfx.{kept.type}"
        assert artifact.uri.startswith(f"{cluster.driver.store}/{task}/")
        names = {*kept.properties, *kept.custom_properties}
        assert names - set(artifact.metadata) <= {"name", "producer_component", "state", "pipeline_name", "is_external"}
    blessing = cluster.artifacts["RankingEvaluator", "blessing"].metadata
    model = cluster.artifacts["Trainer", "model"]
    assert (blessing["blessed"], blessing["current_model"]) == (1, model.uri)
    # By Kubeflow's name for it and not by a rounded hash.
    assert blessing["current_model_id"] == model.name
    assert cluster.artifacts["InfraCheck", "blessing"].metadata["blessed"] == 1
    pushed = cluster.artifacts["Pusher", "pushed_model"].metadata
    assert (pushed["pushed"], pushed["pushed_destination"]) == (1, str(volume / "hqgnn" / "1"))
    examples = cluster.artifacts["InteractionGen", "examples"].metadata
    assert json.loads(examples["split_names"]) == ["train", "valid", "test"]


def test_beam_s_steps_do_not_package_tfx_for_workers_that_there_are_none_of(cluster):
    assert "beam" in cluster.log("StatisticsGen").lower()
    assert "tfx_ephemeral" not in cluster.log("StatisticsGen")


def test_a_model_below_the_run_s_thresholds_is_not_pushed(cluster, parameters, volume):
    for task in ("RankingEvaluator", "Pusher"):
        cluster.run_task(task, {**parameters, "thresholds": json.dumps({"min_lift": 1000})})
    assert cluster.artifacts["RankingEvaluator", "blessing"].metadata["blessed"] == 0
    pushed = cluster.artifacts["Pusher", "pushed_model"].metadata
    assert pushed["pushed"] == 0
    assert "at least 1000 times is asked" in pushed["reason"]
    assert sorted(path.name for path in (volume / "hqgnn").iterdir()) == [".last_version", "1"]


@pytest.mark.parametrize(
    ("task", "mistake", "message"),
    [
        ("RunCheck", {"data_path": "/mnt/data/no.csv"}, "/mnt/data/no.csv: no such file"),
        (
            "RunCheck",
            {"thresholds": '{"min_lif": 2}'},
            "min_lif: extra inputs are not permitted; expected JSON with any",
        ),
        ("RunCheck", {"serving_dir": "models"}, "serving_dir models: expected an absolute path, as the steps see it"),
        ("RunCheck", {"max_epochs": -1}, "training.max_epochs"),
        ("InteractionGen", {"data_path": "/mnt/data/no.csv"}, "/mnt/data/no.csv: "),
    ],
)
def test_an_operator_s_mistake_ends_the_step_with_one_line(cluster, parameters, monkeypatch, task, mistake, message):
    monkeypatch.setattr(cluster, "cold", frozenset())
    with pytest.raises(StepFailedError, match=f"{task} ended with 2"):
        cluster.run_task(task, {**parameters, **mistake})
    last = cluster.log(task).splitlines()[-1]
    assert last.startswith("error: ")
    assert message in last
    assert "Traceback" not in cluster.log(task)


def test_a_check_comes_before_everything_and_is_not_tried_again(spec):
    tasks = spec["root"]["dag"]["tasks"]
    first = [name for name, task in tasks.items() if not task.get("dependentTasks")]
    assert first == ["RunCheck"]
    assert {name for name, task in tasks.items() if "retryPolicy" not in task} == {"RunCheck", "InteractionGen"}


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_step_that_is_tried_again_leaves_nothing_of_its_first_attempt_among_its_outputs(cluster):
    """The first attempt had uploaded everything when its pod was lost, and nobody deletes what is in the store."""
    first, trained = cluster.folder("Trainer", "model_run"), files(cluster.folder("Trainer", "model"))
    before = files(first)
    cluster.retry("Trainer")
    second = cluster.folder("Trainer", "model_run")
    assert second != first
    assert files(first) == before
    (events,) = (second / "run" / "tensorboard").glob("*tfevents*")
    assert events.name in {path.name for path in (first / "run" / "tensorboard").iterdir()}
    assert set(files(second)) == set(before)
    assert set(files(cluster.folder("Trainer", "model"))) == set(trained)
    logs = Path(cluster.folder("Trainer", "model_run")).parent.glob(f"{LOGS}-*")
    assert sorted(path.name for path in logs) == [f"{LOGS}-0", f"{LOGS}-1"]
    # What comes after it reads the second.
    cluster.retry("IndexGen")


def test_a_push_that_is_tried_again_is_the_same_push(cluster, parameters, volume):
    for task in ("RankingEvaluator", "Pusher"):
        cluster.run_task(task, parameters)
    pushed = cluster.artifacts["Pusher", "pushed_model"].metadata["pushed_version"]
    before = {name: files(volume / name) for name in MODEL_NAMES}
    cluster.retry("Pusher")
    again = cluster.artifacts["Pusher", "pushed_model"].metadata
    assert (again["pushed"], again["pushed_version"]) == (1, pushed)
    assert again["reason"] == f"version {pushed} was pushed by an earlier attempt"
    assert {name: files(volume / name) for name in MODEL_NAMES} == before
    pointer = read_pointer(volume / "store")
    assert (pointer["version"], Path(pointer["state"]).is_dir()) == (int(pushed), True)


@pytest.mark.parametrize("driver", [UNTYPED, VERTEX], ids=["no types", "vertex"])
def test_other_drivers(driver, spec, container_python, parameters, tmp_path):
    cluster = Cluster(tmp_path, spec, container_python, driver=driver)
    for task in ("RunCheck", "InteractionGen"):
        cluster.run_task(task, parameters)
    # What an attempt has left is still there when the next one starts.
    shards = cluster.folder("InteractionGen", "examples") / "Split-train"
    expected = set(files(shards))
    (shards / "data_tfrecord-00000-of-00009.gz").write_bytes(b"half a shard")
    cluster.retry("InteractionGen")
    assert set(files(cluster.folder("InteractionGen", "examples") / "Split-train")) == expected
    for task in ("StatisticsGen", "SchemaGen"):
        cluster.run_task(task, parameters)
    assert (cluster.folder("SchemaGen", "schema") / "schema.pbtxt").is_file()
