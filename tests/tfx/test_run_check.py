"""An operator's mistakes, found before anything is read: each in one line that names the parameter."""

import gzip
import json
import os
from pathlib import Path

import pytest

from tf_hqgnn.config import DataConfig
from tf_hqgnn.data.named_inputs import fingerprint
from tf_hqgnn.tfx.run_check import RunCheck, check_folder, check_inputs
from tf_hqgnn.types import InputError


@pytest.fixture
def parameters(tmp_path):
    (tmp_path / "log.csv").write_text("user_id,item_id\na,b\n")
    (tmp_path / "models").mkdir()
    return {
        "config": "",
        "thresholds": "{}",
        "serving_dir": str(tmp_path / "models"),
        "model_store": str(tmp_path / "models" / "store"),
        "data_path": str(tmp_path / "log.csv"),
    }


def test_a_run_that_can_start_passes_and_leaves_nothing(parameters, tmp_path):
    RunCheck.test_call(**parameters)
    assert [path.name for path in (tmp_path / "models").iterdir()] == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"thresholds": "{"}, "thresholds '{': "),
        ({"config": "training: {epochs: 3}"}, "unknown setting training.epochs"),
        ({"max_epochs": -2}, "training.max_epochs"),
        ({"data_path": "{tmp}/no.csv"}, "{tmp}/no.csv: no such file"),
        ({"data_path": "{tmp}/day-{{SPAN}}.csv"}, "no span matches"),
        ({"data_path": "{tmp}"}, "{tmp}: is a directory"),
        ({"data_path": ""}, "no log to read; give data_path, or data.path in the config"),
        ({"items_path": "{tmp}/items.csv"}, "{tmp}/items.csv: no such file"),
        ({"serving_dir": "models"}, "serving_dir models: expected an absolute path"),
        ({"model_store": "s3://bucket/store"}, "model_store s3://bucket/store: expected a path of this machine"),
        ({"data_path": "gs://bucket/log.csv"}, "data.path gs://bucket/log.csv: expected a path of this machine"),
        ({"model_store": "/proc/store"}, "model_store /proc/store: "),
    ],
)
def test_a_mistake_is_named(parameters, change, message, tmp_path):
    change = {name: value.format(tmp=tmp_path) if name.endswith("path") else value for name, value in change.items()}
    with pytest.raises(InputError) as error:
        RunCheck.test_call(**{**parameters, **change})
    assert message.replace("{tmp}", str(tmp_path)) in str(error.value)


def test_a_broken_pointer_is_found_before_the_training(parameters, tmp_path):
    (tmp_path / "models" / "store").mkdir()
    (tmp_path / "models" / "store" / "latest_blessed.json").write_text("{")
    with pytest.raises(InputError, match=r"latest_blessed\.json: the file is damaged"):
        RunCheck.test_call(**parameters)


def test_every_file_of_a_given_split_is_looked_at(tmp_path):
    (tmp_path / "train.csv").write_text("user_id,item_id\na,b\n")
    data = DataConfig(train_path=str(tmp_path / "train.csv"), test_path=str(tmp_path / "test.csv"))
    with pytest.raises(InputError, match=r"test\.csv: no such file"):
        check_inputs(data)


def test_a_folder_that_may_not_be_written_is_refused_with_the_user_s_number():
    with pytest.raises(
        InputError, match=rf"serving_dir /proc/models: .* \(as uid {os.getuid()}\); expected a folder on"
    ):
        check_folder("serving_dir", Path("/proc/models"))


def test_thresholds_are_those_of_the_evaluator(parameters):
    RunCheck.test_call(**{**parameters, "thresholds": json.dumps({"min_lift": 2})})


def test_folders_of_parts_and_compressed_files_pass_and_pipes_do_not(parameters, tmp_path):
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "_SUCCESS").touch()
    (tmp_path / "log" / "part-0.csv").write_text("user_id,item_id\na,b\n")
    (tmp_path / "items.csv.gz").write_bytes(gzip.compress(b"item_id\nb\n"))
    given = {"data_path": str(tmp_path / "log"), "items_path": str(tmp_path / "items.csv.gz")}
    RunCheck.test_call(**{**parameters, **given})
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(InputError, match=r"pipe\.csv: not a regular file \(a pipe\)"):
        RunCheck.test_call(**{**parameters, "data_path": str(tmp_path / "pipe.csv")})


def test_the_fingerprint_follows_every_part_of_a_folder(tmp_path):
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "part-0.csv").write_text("user_id,item_id\na,b\n")
    first = fingerprint(DataConfig(path=str(tmp_path / "log")))
    (tmp_path / "log" / "_SUCCESS").touch()
    assert fingerprint(DataConfig(path=str(tmp_path / "log"))) == first
    (tmp_path / "log" / "part-1.csv").write_text("user_id,item_id\nc,d\n")
    assert fingerprint(DataConfig(path=str(tmp_path / "log"))) != first
