"""Versions appear complete or not at all, and both models of a run under one number."""

import dataclasses
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from export_oracle import coded, make_bundle

import tf_hqgnn.export.bundle
import tf_hqgnn.export.serving_module
from tf_hqgnn.config import Config, ExportConfig, RetrievalConfig
from tf_hqgnn.data.split_dataset import SplitDataset
from tf_hqgnn.export.bundle import ServingBundle, export_exact, export_scann
from tf_hqgnn.export.layout import read_metadata
from tf_hqgnn.export.of_runs import export_run
from tf_hqgnn.export.versions import check_free, next_version, staged_versions, version_lock, versions
from tf_hqgnn.export.warmup import replay_warmup
from tf_hqgnn.graph.interaction_graph import InteractionGraph
from tf_hqgnn.quantization.coded_embeddings import CodedEmbeddings
from tf_hqgnn.runs.run_directory import RunDirectory
from tf_hqgnn.types import InputError, Interactions

BUNDLE = make_bundle()

# An export that stops when the SavedModel is written and its warm-up records aren't, until it is killed.
HALF_AN_EXPORT = """
import os, signal, sys
sys.path.insert(0, sys.argv[1])
import tf_hqgnn.export.bundle as export
from export_oracle import make_bundle
from tf_hqgnn.config import ExportConfig

export.write_warmup = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
export.export_exact(make_bundle(), sys.argv[2], ExportConfig(), version=7)
"""


def make_run():
    """A run of what `BUNDLE` holds, without held-out interactions."""
    indptr, items = BUNDLE.seen
    users = np.repeat(np.arange(len(BUNDLE.user_ids), dtype=np.int32), np.diff(indptr))
    taken = Interactions(users, items)
    ids = SplitDataset(
        BUNDLE.user_ids, BUNDLE.item_ids, taken, taken.take([]), taken.take([]), categories=BUNDLE.item_categories
    )
    graph = InteractionGraph.from_interactions(taken, ids.num_users, ids.num_items)
    config = Config.from_yaml("export: {default_k: 3}")
    return RunDirectory(Path("run"), config, ids, graph, BUNDLE.users, BUNDLE.items, coded=None, metrics={})


RUN = make_run()


def fail(*_):
    raise OSError("No space left on device")


def test_killed_half_way_through_and_exported_again(tmp_path, run_command):
    done = run_command.run(["python", "-c", HALF_AN_EXPORT, Path(__file__).parents[1], tmp_path])
    assert done.code == -signal.SIGKILL, done.err
    model_dir = tmp_path / "hqgnn"
    (left,) = model_dir.iterdir()
    assert (left / "saved_model.pb").exists()
    assert left.name.startswith(".tmp-")
    assert left.name.endswith("-7")
    assert versions(model_dir) == []

    path = export_exact(BUNDLE, tmp_path, ExportConfig(), version=7)
    assert sorted(model_dir.iterdir()) == [model_dir / ".last_version", path]
    assert replay_warmup(path) == 24


def test_a_failure_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(tf_hqgnn.export.bundle, "write_warmup", fail)
    with pytest.raises(OSError, match="No space left"):
        export_exact(BUNDLE, tmp_path, ExportConfig(), version=1)
    with pytest.raises(OSError, match="No space left"):
        export_scann(BUNDLE, tmp_path, ExportConfig(), RetrievalConfig(), version=1)
    assert list((tmp_path / "hqgnn").iterdir()) == list((tmp_path / "hqgnn_scann").iterdir()) == []


def test_a_run_is_exported_as_both_models_under_the_next_number(tmp_path):
    (tmp_path / "hqgnn_scann" / "4").mkdir(parents=True)
    (tmp_path / "hqgnn" / "latest").mkdir(parents=True)
    assert export_run(RUN, tmp_path) == 5
    assert versions(tmp_path / "hqgnn") == [5]
    assert versions(tmp_path / "hqgnn_scann") == [4, 5]
    for model in ("hqgnn", "hqgnn_scann"):
        assert replay_warmup(tmp_path / model / "5") == 24


def test_a_version_that_either_model_has_is_refused_before_anything_is_written(tmp_path):
    (tmp_path / "hqgnn_scann" / "2").mkdir(parents=True)
    with pytest.raises(InputError, match=r"hqgnn_scann/2 exists: versions are never overwritten, take another number"):
        export_run(RUN, tmp_path, version=2)
    assert not (tmp_path / "hqgnn").exists()


def test_if_the_second_model_fails_the_first_does_not_appear(tmp_path, monkeypatch):
    # Of a catalogue this small both models are the same graph, and the second a copy.
    monkeypatch.setattr(tf_hqgnn.export.bundle, "same_module", lambda *_: False)
    choose = tf_hqgnn.export.serving_module.choose_index
    monkeypatch.setattr(
        tf_hqgnn.export.serving_module,
        "choose_index",
        lambda rows, device, *a: (fail if device == "cpu" else choose)(rows, device, *a),
    )
    with pytest.raises(OSError, match="No space left"):
        export_run(RUN, tmp_path, version=1)
    assert [list((tmp_path / name).iterdir()) for name in ("hqgnn", "hqgnn_scann")] == [[], []]


@pytest.mark.parametrize(("leaves", "same"), [(None, True), (2, False)])
def test_two_models_of_one_graph_are_written_once(tmp_path, monkeypatch, leaves, same):
    saved, save = [], tf.saved_model.save
    monkeypatch.setattr(tf.saved_model, "save", lambda module, path, **k: (saved.append(path), save(module, path, **k)))
    run = dataclasses.replace(RUN, config=RUN.config.with_values({"retrieval": {"num_leaves": leaves}}))
    export_run(run, tmp_path)
    assert len(saved) == (1 if same else 2)
    exact, other = (tmp_path / name / "1" for name in ("hqgnn", "hqgnn_scann"))
    for part in ("saved_model.pb", "variables/variables.index"):
        assert ((exact / part).read_bytes() == (other / part).read_bytes()) == same
    for folder in (exact, other):
        assert read_metadata(folder)["model"] == folder.parent.name
        assert replay_warmup(folder) > 20


def test_a_bundle_of_a_run():
    bundle = ServingBundle.from_run(RUN)
    assert bundle.user_ids is BUNDLE.user_ids
    assert [part.tolist() for part in bundle.seen] == [part.tolist() for part in BUNDLE.seen]
    assert bundle.item_popularity.dtype == np.float32
    assert bundle.item_popularity.tolist() == np.bincount(BUNDLE.seen[1], minlength=len(BUNDLE.item_ids)).tolist()
    assert (bundle.users is RUN.user_embeddings, bundle.items is RUN.item_embeddings) == (True, True)


def test_a_run_with_codes_is_served_by_them():
    for users in (BUNDLE.users, coded(BUNDLE.users, 8)):
        codes = CodedEmbeddings(users, coded(BUNDLE.items, 2))
        bundle = ServingBundle.from_run(dataclasses.replace(RUN, coded=codes))
        assert (bundle.users is users, bundle.items is codes.items) == (True, True)


def test_versions_are_numbers(tmp_path):
    assert versions(tmp_path / "nowhere") == []
    for name in ("10", "9", "latest", ".tmp-3-host-1", "1.5", "²"):
        (tmp_path / name).mkdir()
    assert versions(tmp_path) == [9, 10]
    check_free(tmp_path, 1)
    with pytest.raises(InputError, match="10 exists"):
        check_free(tmp_path, 10)
    with pytest.raises(InputError, match=r"a version must be at least 1 and below 2\^63, got 0"):
        check_free(tmp_path, 0)


def test_a_version_is_hidden_until_it_is_complete(tmp_path):
    with staged_versions(tmp_path, ["model"], 3) as staged:
        (staged.folders["model"] / "file").write_text("whole")
        assert versions(tmp_path / "model") == []
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == [".last_version", "3"]
    assert (tmp_path / "model" / "3" / "file").read_text() == "whole"


def test_numbers_never_return(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name / "2").mkdir(parents=True)
    with staged_versions(tmp_path, ["a", "b"]) as staged:
        assert staged.version == 3
    for name in ("a", "b"):
        shutil.rmtree(tmp_path / name / "3")
    with staged_versions(tmp_path, ["b"]) as staged:
        assert staged.version == 4
    # A number of the caller's own may be lower; the next one is above the highest all the same.
    with staged_versions(tmp_path, ["b"], 1):
        pass
    assert next_version([tmp_path / "b"]) == 5
    (tmp_path / "b" / ".last_version").write_text("x")
    assert next_version([tmp_path / "b"]) == 5


def test_numbers_end_where_those_of_tf_serving_do(tmp_path):
    largest = 2**63 - 1
    for number in (largest + 1, 2**200):
        (tmp_path / "model" / str(number)).mkdir(parents=True)
        with pytest.raises(InputError, match=rf"must be at least 1 and below 2\^63, got {number}"):
            check_free(tmp_path / "model", number)
    assert versions(tmp_path / "model") == []
    with staged_versions(tmp_path, ["model"], largest):
        pass
    with pytest.raises(InputError, match=f"version {largest} is the highest that there can be"):
        next_version([tmp_path / "model"])


def test_all_models_get_the_version_or_none(tmp_path):
    with pytest.raises(OSError, match="not empty"), staged_versions(tmp_path, ["a", "b"], 3):
        (tmp_path / "b" / "3" / "in the way").mkdir(parents=True)
    assert versions(tmp_path / "a") == []
    assert [path.name for path in (tmp_path / "b").iterdir() if path.is_dir()] == ["3"]


def test_a_version_that_another_process_changed_does_not_appear(tmp_path, monkeypatch):
    sync_tree = tf_hqgnn.export.versions.sync_tree

    def lose_a_file(folder):
        sync_tree(folder)
        (folder / "half").unlink()

    monkeypatch.setattr(tf_hqgnn.export.versions, "sync_tree", lose_a_file)
    with pytest.raises(OSError, match="half isn't there, expected 4 bytes"), staged_versions(tmp_path, ["a"]) as staged:
        (staged.folders["a"] / "half").write_text("text")
    assert versions(tmp_path / "a") == []


WRITER = """
import sys, time
from pathlib import Path
from tf_hqgnn.export.versions import staged_versions, version_lock
out = Path(sys.argv[1])
with version_lock(out):
    with staged_versions(out, ["a", "b"]) as staged:
        for folder in staged.folders.values():
            (folder / "one").write_text("1")
        print("writing", flush=True)
        sys.stdin.read(1)
        for folder in staged.folders.values():
            (folder / "two").write_text("2")
"""


def test_a_second_writer_waits_and_leaves_the_first_ones_staging_alone(tmp_path):
    """Also one in another container: locks know nothing of host names or process ids."""
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes) as first:
        assert first.stdout.readline() == "writing\n"
        with subprocess.Popen(command, **pipes) as second:
            second.stdin.write("x")
            second.stdin.flush()
            first.communicate("x")
            second.communicate()
    assert (first.returncode, second.returncode) == (0, 0)
    for name in ("a", "b"):
        assert versions(tmp_path / name) == [1, 2]
        for number in ("1", "2"):
            assert sorted(path.name for path in (tmp_path / name / number).iterdir()) == ["one", "two"]


def test_what_a_killed_writer_left_goes_with_the_next(tmp_path):
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as killed:
        assert killed.stdout.readline() == "writing\n"
        killed.kill()
    (tmp_path / "a" / ".tmp-notes").mkdir()
    assert len(list((tmp_path / "a").iterdir())) == 2
    with version_lock(tmp_path), staged_versions(tmp_path, ["a", "b"]):
        pass
    assert {path.name for path in (tmp_path / "a").iterdir()} == {".tmp-notes", ".last_version", "1"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"user_ids": np.array([], object)}, "user_ids must be a vector with at least one id"),
        ({"item_ids": np.array(["", *BUNDLE.item_ids[1:]], object)}, "item_ids must be non-empty strings, got ''"),
        ({"item_ids": np.array([7, *BUNDLE.item_ids[1:]], object)}, "item_ids must be non-empty strings, got 7"),
        ({"user_ids": np.array(["x"] * 30, object)}, "user_ids must be distinct, but of 30 only 1 are"),
        (
            {"users": BUNDLE.users[1:]},
            r"users must be float32 .30, d. or Codes, got float32 .29, 6.",
        ),
        ({"items": BUNDLE.items.astype(float)}, "items must be float32 .40, d. or Codes, got float64"),
        ({"items": BUNDLE.items[:, 1:]}, "users have 6 dimensions, items 5"),
        ({"items": coded(BUNDLE.items[:, 1:], 2)}, "users have 6 dimensions, items 5"),
        ({"items": coded(BUNDLE.items[1:], 2)}, "items must be 40 rows of codes, got 39"),
        (
            {"users": np.full((30, 6), np.nan, np.float32)},
            "must be finite, but 30 rows aren't, the first is row 0",
        ),
        (
            {"item_popularity": np.ones(3, np.float32)},
            "item_popularity must be a finite number for each of the 40 items",
        ),
        ({"seen": (np.zeros(30, np.int64), np.zeros(0, np.int32))}, "seen must be a CSR over 30 users"),
        ({"seen": (np.r_[np.zeros(30, int), 1], np.array([40]))}, "seen items must be rows from 0 to 39, got 40 to 40"),
        (
            {"seen": (np.r_[np.zeros(30, int), 2], np.array([5, 5]))},
            "seen items must be strictly ascending within each",
        ),
    ],
)
def test_a_bundle_that_does_not_fit_together(changes, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(BUNDLE, **changes)
