import json
import subprocess

import numpy as np
import pytest
from tfx.types.standard_artifacts import InfraBlessing, Model

from tf_hqgnn.config import ExportConfig, RetrievalConfig
from tf_hqgnn.export.bundle import ServingBundle, export_exact, export_scann
from tf_hqgnn.tfx import infra_check
from tf_hqgnn.tfx.infra_check import InfraCheck, check_models


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported")
    random = np.random.default_rng(0)
    bundle = ServingBundle(
        user_ids=np.array([f"u{n}" for n in range(5)], object),
        item_ids=np.array([f"i{n}" for n in range(30)], object),
        users=random.normal(size=(5, 4)).astype(np.float32),
        items=random.normal(size=(30, 4)).astype(np.float32),
        seen=(np.zeros(6, np.int64), np.zeros(0, np.int32)),
        item_popularity=np.ones(30, np.float32),
    )
    exact = export_exact(bundle, folder, ExportConfig(), version=1)
    return exact, export_scann(bundle, folder, ExportConfig(), RetrievalConfig(), version=1)


def test_models_that_load_and_answer_have_no_problems_and_scann_may_not_come_first(exported, tmp_path):
    exact, scann = exported
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "saved_model.pb").write_bytes(b"not a graph")
    problems = check_models([str(exact), str(scann), str(broken)], timeout_seconds=300)
    assert len(problems) == 1
    assert problems[0].startswith(f"{broken}: ValueError: ")


def test_a_folder_without_a_model_is_named_before_anything_is_started(tmp_path, monkeypatch):
    monkeypatch.setattr(subprocess, "run", pytest.fail)
    assert check_models([str(tmp_path)], timeout_seconds=1) == [f"{tmp_path} holds no saved_model.pb"]


@pytest.fixture
def model_dirs(tmp_path):
    paths = [tmp_path / "Format-Serving", tmp_path / "second" / "Format-Serving"]
    for path in paths:
        path.mkdir(parents=True)
        (path / "saved_model.pb").touch()
    return [str(path) for path in paths]


def _finish(monkeypatch, returncode, stdout="", stderr=""):
    monkeypatch.setattr(
        subprocess, "run", lambda command, **_options: subprocess.CompletedProcess(command, returncode, stdout, stderr)
    )


def test_a_crash_is_told_of_the_model_that_was_being_loaded(model_dirs, monkeypatch):
    _finish(monkeypatch, -11, stdout=json.dumps({"model": model_dirs[0], "records": 3}) + "\n")
    assert check_models(model_dirs, 1) == [f"{model_dirs[1]}: the process that loaded it ended by signal SIGSEGV"]


def test_an_exit_is_told_with_its_last_words(model_dirs, monkeypatch):
    _finish(monkeypatch, 1, stderr="Traceback\nMemoryError\n")
    assert check_models(model_dirs[:1], 1) == [
        f"{model_dirs[0]}: the process that loaded it ended with exit code 1 MemoryError"
    ]


def test_a_model_that_takes_too_long_is_a_problem(model_dirs, monkeypatch):
    def run(command, timeout, **_):
        raise subprocess.TimeoutExpired(command, timeout)

    monkeypatch.setattr(subprocess, "run", run)
    assert check_models(model_dirs, 7) == ["loading and warm-up took longer than 7 s (timeout_seconds)"]


@pytest.mark.parametrize(("error", "blessed"), [(None, 1), ("ValueError: no", 0)])
@pytest.mark.usefixtures("model_dirs")
def test_the_component_blesses_or_not_as_tfx_does(tmp_path, monkeypatch, error, blessed):
    monkeypatch.setattr(infra_check, "check_models", lambda _paths, _timeout: [error] if error else [])
    model, index, blessing = Model(), Model(), InfraBlessing()
    model.uri, index.uri, blessing.uri = str(tmp_path), str(tmp_path / "second"), str(tmp_path / "blessing")
    InfraCheck.test_call(model=model, index=index, blessing=blessing)
    assert blessing.get_int_custom_property("blessed") == blessed
    (file,) = (tmp_path / "blessing").iterdir()
    assert file.name == ("INFRA_BLESSED" if blessed else "INFRA_NOT_BLESSED")
    assert blessing.get_string_custom_property("blessing_message") == file.read_text()
    assert error is None or error in file.read_text()
