import shutil
import subprocess
import sys

import pytest

from tf_hqgnn.export.layout import MODEL_NAMES, model_dirs
from tf_hqgnn.export.versions import next_version, versions
from tf_hqgnn.tfx import model_store
from tf_hqgnn.tfx.model_store import push, read_pointer, write_pointer
from tf_hqgnn.types import InputError


@pytest.fixture
def models(tmp_path):
    paths = {name: tmp_path / "candidates" / name for name in MODEL_NAMES}
    for name, path in paths.items():
        (path / "variables").mkdir(parents=True)
        (path / "saved_model.pb").write_text(name)
        (path / "variables" / "data").write_text("weights")
    return paths


def push_next(models, serving):
    version = next_version(model_dirs(serving))
    push(models, serving, version)
    return version


def test_both_models_get_the_same_next_version(models, tmp_path):
    serving = tmp_path / "serving"
    assert push_next(models, serving) == 1
    (serving / "hqgnn_scann" / "7").mkdir()
    assert push_next(models, serving) == 8
    for name in models:
        assert (serving / name / "8" / "saved_model.pb").read_text() == name
        assert (serving / name / "8" / "variables" / "data").read_text() == "weights"
    assert {path.name for path in serving.iterdir()} == set(models)


def test_the_numbers_of_both_models_count(tmp_path):
    for path in ("hqgnn/2", "hqgnn_scann/3", "hqgnn/not-a-version"):
        (tmp_path / path).mkdir(parents=True)
    assert next_version(model_dirs(tmp_path)) == 4


def test_a_push_that_fails_leaves_nothing_visible(models, tmp_path, monkeypatch):
    copy = shutil.copytree

    def fail_at_the_second(source, destination, *arguments, **options):
        if source == models["hqgnn_scann"]:
            raise OSError("disk full")
        return copy(source, destination, *arguments, **options)

    monkeypatch.setattr(shutil, "copytree", fail_at_the_second)
    with pytest.raises(OSError, match="disk full"):
        push(models, tmp_path / "serving", 1)
    assert [versions(tmp_path / "serving" / name) for name in models] == [[], []]


def test_a_push_killed_while_copying_leaves_nothing_visible_and_the_next_one_works(models, tmp_path):
    serving = tmp_path / "serving"
    script = """
import os, signal, shutil, sys
from pathlib import Path
from tf_hqgnn.tfx.model_store import push
copy = shutil.copytree
def copy_and_die(source, destination, *arguments, **options):
    copy(source, destination, *arguments, **options)
    if source.name == "hqgnn_scann":
        os.kill(os.getpid(), signal.SIGKILL)
shutil.copytree = copy_and_die
push({name: Path(sys.argv[1]) / name for name in ("hqgnn", "hqgnn_scann")}, Path(sys.argv[2]), 1)
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "candidates"), str(serving)], capture_output=True, check=False
    )
    assert done.returncode == -9, done.stderr
    # The copies are there, under names that aren't versions.
    assert all(list((serving / name).iterdir()) for name in models)
    assert [versions(serving / name) for name in models] == [[], []]
    assert push_next(models, serving) == 1
    for name in models:
        assert sorted(path.name for path in (serving / name).iterdir()) == [".last_version", "1"]


def test_the_pointer_is_replaced_and_read_back(tmp_path):
    store = tmp_path / "store"
    assert read_pointer(store) is None
    write_pointer(store, {"version": 1})
    write_pointer(store, {"version": 2, "title": "é"})
    assert read_pointer(store) == {"version": 2, "title": "é"}
    assert [path.name for path in store.iterdir()] == ["latest_blessed.json"]


def test_a_broken_pointer_is_a_clear_error(tmp_path):
    model_store.pointer_path(tmp_path).write_text('{"version": 1')
    with pytest.raises(InputError, match=r"latest_blessed.json: the file is damaged .* delete it to start without"):
        read_pointer(tmp_path)
