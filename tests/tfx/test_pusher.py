import json
import shutil
import stat
import threading
from pathlib import Path

import numpy as np
import pytest
from tfx.types.standard_artifacts import InfraBlessing, Model, ModelBlessing, ModelEvaluation, ModelRun, PushedModel

from tf_hqgnn.export.layout import MODEL_NAMES
from tf_hqgnn.export.versions import versions
from tf_hqgnn.runs.run_directory import RunDirectory
from tf_hqgnn.runs.trained_state import TrainedState
from tf_hqgnn.tfx import pusher
from tf_hqgnn.tfx.model_store import pointer_path, read_pointer
from tf_hqgnn.tfx.pusher import Pusher
from tf_hqgnn.types import InputError


@pytest.fixture
def state(dataset, monkeypatch):
    """What the training run holds."""
    tables = (np.ones((size, 2), np.float32) for size in (dataset.num_users, dataset.num_items))
    state = TrainedState(dataset, *tables)
    monkeypatch.setattr(RunDirectory, "load", lambda path: path)
    monkeypatch.setattr(TrainedState, "from_run", lambda _run: state)
    return state


@pytest.fixture
def push(tmp_path, state):  # noqa: ARG001  Patches what it pushes.
    """Runs the component on two candidates; returns its outputs.

    `training` stands for the artifacts of a training, `verdict` for those of a run's evaluation.
    """

    def run(
        blessed=1, infra_blessed=1, training="first", verdict="first", weights="", against="nothing said", **options
    ):
        artifacts = {
            "model": Model(),
            "index": Model(),
            "model_run": ModelRun(),
            "evaluation": ModelEvaluation(),
            "blessing": ModelBlessing(),
            "infra_blessing": InfraBlessing(),
            "pushed_model": PushedModel(),
            "pushed_index": PushedModel(),
        }
        for name, artifact in artifacts.items():
            artifact.uri = str(tmp_path / "artifacts" / name)
        artifacts["blessing"].uri += f"/{verdict}"
        for name in ("model", "index"):
            artifacts[name].uri += f"/{training}"
            path = tmp_path / "artifacts" / name / training / "Format-Serving"
            path.mkdir(parents=True, exist_ok=True)
            (path / "saved_model.pb").write_text(name)
            (path / "weights").write_text(weights)
        (tmp_path / "artifacts" / "evaluation").mkdir(exist_ok=True)
        figures = {"metrics": {"ndcg@20": 0.5}} | ({} if against == "nothing said" else {"judged_against": against})
        (tmp_path / "artifacts" / "evaluation" / "metrics.json").write_text(json.dumps(figures))
        for name, value in (("blessing", blessed), ("infra_blessing", infra_blessed)):
            artifacts[name].set_int_custom_property("blessed", value)
            artifacts[name].set_string_custom_property("blessing_message", f"{name} says so")
        serving, store = str(tmp_path / "serving"), str(tmp_path / "store")
        Pusher.test_call(**artifacts, serving_dir=serving, model_store=store, store_state="key-state", **options)
        return artifacts

    return run


def test_blessed_models_are_pushed_under_one_version(push, tmp_path):
    artifacts = push()
    for output, name, text in (("pushed_model", "hqgnn", "model"), ("pushed_index", "hqgnn_scann", "index")):
        path = tmp_path / "serving" / name / "1"
        assert (path / "saved_model.pb").read_text() == text
        assert artifacts[output].get_int_custom_property("pushed") == 1
        assert artifacts[output].get_string_custom_property("pushed_destination") == str(path)
        assert artifacts[output].get_string_custom_property("pushed_version") == "1"
    pointer = read_pointer(tmp_path / "store")
    assert pointer["version"] == 1
    assert pointer["store_state"] == "key-state"
    assert pointer["evaluation"] == {"metrics": {"ndcg@20": 0.5}}


def test_the_trained_tables_are_kept_beside_the_pointer_those_of_the_last_model_alone(push, state, tmp_path):
    push()
    push(training="second")
    pointer = read_pointer(tmp_path / "store")
    assert {path.name for path in (tmp_path / "store").iterdir()} == {".lock", "latest_blessed.json", "state-2"}
    kept = TrainedState.load(Path(pointer["state"]))
    assert kept.dataset.fingerprint() == state.dataset.fingerprint()
    np.testing.assert_array_equal(kept.users, state.users)
    np.testing.assert_array_equal(kept.items, state.items)


def test_a_model_whose_tables_can_not_be_kept_is_not_pushed(push, tmp_path, monkeypatch):
    def gone(_run):
        raise InputError("no checkpoint")

    monkeypatch.setattr(pusher.TrainedState, "from_run", gone)
    with pytest.raises(InputError, match="no checkpoint"):
        push()
    assert served(tmp_path) == {name: [] for name in MODEL_NAMES}
    assert read_pointer(tmp_path / "store") is None


@pytest.mark.parametrize(
    ("blessings", "reason"),
    [
        ({"blessed": 0}, "RankingEvaluator: blessing says so"),
        ({"infra_blessed": 0}, "InfraCheck: infra_blessing says so"),
        ({"blessed": 0, "infra_blessed": 0}, "RankingEvaluator: blessing says so; InfraCheck: infra_blessing says so"),
    ],
)
def test_without_both_blessings_nothing_is_pushed_and_the_reason_is_kept(push, tmp_path, blessings, reason):
    artifacts = push(**blessings)
    assert not (tmp_path / "serving").exists()
    assert read_pointer(tmp_path / "store") is None
    for output in ("pushed_model", "pushed_index"):
        assert artifacts[output].get_int_custom_property("pushed") == 0
        assert artifacts[output].get_string_custom_property("reason") == reason


def test_a_refusal_leaves_the_last_model_and_its_pointer(push, tmp_path):
    push()
    push(blessed=0)
    assert served(tmp_path) == {name: [1] for name in MODEL_NAMES}
    assert read_pointer(tmp_path / "store")["version"] == 1


def served(tmp_path):
    return {name: versions(tmp_path / "serving" / name) for name in MODEL_NAMES}


@pytest.mark.parametrize("lost", [(), ("hqgnn_scann",), ("pointer",), ("hqgnn_scann", "pointer", "state-1")])
def test_a_push_that_is_tried_again_is_completed_and_reported(push, tmp_path, lost):
    """Whatever the attempt before it had come to: killed between the renames, before the pointer, or after all."""
    push()
    for name in lost:
        if name == "pointer":
            pointer_path(tmp_path / "store").unlink()
        else:
            shutil.rmtree(tmp_path / ("store" if name.startswith("state") else "serving") / name)
    artifacts = push()
    assert served(tmp_path) == {name: [1] for name in MODEL_NAMES}
    for output in ("pushed_model", "pushed_index"):
        assert artifacts[output].get_int_custom_property("pushed") == 1
        assert artifacts[output].get_string_custom_property("pushed_version") == "1"
        assert artifacts[output].get_string_custom_property("reason") == "version 1 was pushed by an earlier attempt"
    pointer = read_pointer(tmp_path / "store")
    assert (pointer["version"], Path(pointer["state"]).name) == (1, "state-1")
    assert TrainedState.load(Path(pointer["state"])).users.shape[1] == 2


def test_a_push_that_is_tried_again_after_another_run_s_leaves_that_one_the_last(push, tmp_path):
    push()
    push(training="second", verdict="second")
    artifacts = push()
    assert artifacts["pushed_model"].get_string_custom_property("pushed_version") == "1"
    assert served(tmp_path) == {name: [1, 2] for name in MODEL_NAMES}
    assert read_pointer(tmp_path / "store")["version"] == 2
    assert {path.name for path in (tmp_path / "store").iterdir()} == {".lock", "latest_blessed.json", "state-2"}


def test_a_later_run_may_bring_an_older_model_back(push, tmp_path):
    push()
    push(training="second", verdict="second")
    artifacts = push(verdict="third")
    assert artifacts["pushed_model"].get_string_custom_property("pushed_version") == "3"
    assert not artifacts["pushed_model"].has_custom_property("reason")
    assert read_pointer(tmp_path / "store")["version"] == 3


def test_another_model_at_the_same_place_is_another_push(push, tmp_path):
    """Execution numbers start anew when a user deletes the pipeline's folder."""
    push()
    push(weights="other")
    assert served(tmp_path) == {name: [1, 2] for name in MODEL_NAMES}


def test_a_version_that_no_pipeline_has_pushed_is_nobody_s_push(push, tmp_path):
    for name, text in (("hqgnn", "not json"), ("hqgnn_scann", '{"other": 1}')):
        (tmp_path / "serving" / name / "1" / "assets.extra").mkdir(parents=True)
        (tmp_path / "serving" / name / "1" / "assets.extra" / "push.json").write_text(text)
    push()
    assert served(tmp_path) == {name: [1, 2] for name in MODEL_NAMES}


def test_a_verdict_about_a_model_that_is_not_the_last_one_any_more_pushes_nothing(push, tmp_path):
    push(against=None)
    late = push(training="second", verdict="second", against=None)
    for output in ("pushed_model", "pushed_index"):
        assert late[output].get_int_custom_property("pushed") == 0
        assert late[output].get_string_custom_property("reason") == (
            "the model was judged against no model, but version 1 was pushed since: run the pipeline again"
        )
    assert served(tmp_path) == {name: [1] for name in MODEL_NAMES}
    push(training="third", verdict="third", against=1)
    assert served(tmp_path) == {name: [1, 2] for name in MODEL_NAMES}
    stale = push(training="fourth", verdict="fourth", against=1)
    assert "judged against version 1, but version 2 was" in stale["pushed_model"].get_string_custom_property("reason")
    pointer_path(tmp_path / "store").unlink()
    gone = push(training="fifth", verdict="fifth", against=2)
    assert "but there is none any more" in gone["pushed_model"].get_string_custom_property("reason")


def test_two_at_once_exclude_each_other(push, tmp_path, monkeypatch):
    """While one copies its models, the other waits; then its verdict is out of date."""
    copying, go_on = threading.Event(), threading.Event()
    copytree = shutil.copytree

    def slow(*arguments, **options):
        copying.set()
        assert go_on.wait(60)
        return copytree(*arguments, **options)

    monkeypatch.setattr(shutil, "copytree", slow)
    answers = {}
    threads = [
        threading.Thread(target=lambda one=one: answers.update({one: push(training=one, verdict=one, against=None)}))
        for one in ("first", "second")
    ]
    threads[0].start()
    assert copying.wait(60)
    threads[1].start()
    threads[1].join(1)
    assert threads[1].is_alive()
    go_on.set()
    for thread in threads:
        thread.join()
    assert answers["first"]["pushed_model"].get_string_custom_property("pushed_version") == "1"
    assert "version 1 was pushed since" in answers["second"]["pushed_model"].get_string_custom_property("reason")
    assert served(tmp_path) == {name: [1] for name in MODEL_NAMES}
    assert TrainedState.load(Path(read_pointer(tmp_path / "store")["state"])).users.shape[1] == 2


def test_nobody_else_reads_the_ids_of_the_log(push, tmp_path):
    (tmp_path / "store").mkdir(mode=0o755)
    push()
    assert stat.S_IMODE((tmp_path / "store").stat().st_mode) == 0o700


def test_old_versions_go_unless_a_server_names_them(push, tmp_path):
    config = tmp_path / "models.config"
    config.write_text(
        'model_config_list { config { name: "hqgnn" base_path: "/models/hqgnn" model_platform: "tensorflow" '
        "model_version_policy { specific { versions: 1 versions: 3 } } "
        'version_labels { key: "stable" value: 1 } } }'
    )
    for number in range(1, 5):
        push(training=str(number), verdict=str(number))
    push(training="5", verdict="5", keep=2, model_config_file=str(config))
    assert served(tmp_path) == {"hqgnn": [1, 3, 4, 5], "hqgnn_scann": [1, 3, 4, 5]}
    push(training="6", verdict="6", keep=1)
    assert served(tmp_path) == {name: [6] for name in MODEL_NAMES}
    config.write_text("what?")
    push(training="7", verdict="7", keep=1, model_config_file=str(config))
    assert served(tmp_path) == {name: [6, 7] for name in MODEL_NAMES}
