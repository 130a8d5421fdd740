"""Every file of a run, a state and an export, cut to nothing, to half and by one byte: one line that names it."""

import logging
import re
import shutil

import numpy as np
import pytest

from tf_hqgnn.export.layout import newest_version, read_metadata
from tf_hqgnn.export.of_runs import export_run
from tf_hqgnn.export.reader import read_bundle
from tf_hqgnn.export.warmup import replay_warmup
from tf_hqgnn.files.durable import list_files
from tf_hqgnn.runs.checkpoints import CheckpointStore
from tf_hqgnn.runs.run_directory import RunDirectory
from tf_hqgnn.runs.trained_state import TrainedState
from tf_hqgnn.training.train import train
from tf_hqgnn.types import InputError

pytestmark = pytest.mark.integration
CUTS = {"to nothing": lambda _size: 0, "to half": lambda size: size // 2, "by one byte": lambda size: size - 1}


@pytest.fixture(scope="module")
def whole(dataset, smoke_config, tmp_path_factory):
    """A folder with `run`, `state` and `export`, the run with codes of items and float32 users."""
    folder = tmp_path_factory.mktemp("whole")
    values = {"quantization.bits": 4, "quantization.user_bits": None, "quantization.method": "post_training"}
    train(dataset, smoke_config.with_values({**values, "training.max_epochs": 1}), folder / "run")
    run = RunDirectory.load(folder / "run")
    TrainedState.from_run(run).save(folder / "state")
    export_run(run, folder / "export")
    return folder


def damaged(folder, cut):
    """Yields the name of each file of a folder while it is cut."""
    for name, size in sorted(list_files(folder).items()):
        path = folder / name
        content = path.read_bytes()
        if not size:
            continue
        path.write_bytes(content[: CUTS[cut](size)])
        yield name
        path.write_bytes(content)


def one_line(error):
    text = str(error.value)
    assert "\n" not in text, text
    return text


@pytest.mark.parametrize("cut", CUTS)
def test_a_run(whole, tmp_path, cut):
    run = shutil.copytree(whole / "run", tmp_path / "run")
    for ignored in ("checkpoints", "tensorboard", "quantization"):
        shutil.rmtree(run / ignored, ignore_errors=True)
    tried = set()
    for name in damaged(run, cut):
        if name in ("given.yaml", "data.sha256", "history.csv", "propagation.csv"):
            # For resuming and for people; nothing reads them from a finished run.
            RunDirectory.load(run).tables()
            continue
        tried.add(name)
        if name in ("manifest.json", "config.yaml") and cut == "by one byte":
            # The line's end: nothing is lost.
            continue
        with pytest.raises(InputError) as error:
            RunDirectory.load(run).tables()
        assert name.rpartition("/")[2] in one_line(error), name
    assert tried >= {"config.yaml", "metrics.json", "embeddings.npz", "tables.npz", "graph/graph.npz", "manifest.json"}
    assert tried >= {"codes/items.npz", "codes/users.npy", "data/train.parquet", "data/report.json"}
    RunDirectory.load(run).tables()


@pytest.mark.parametrize("cut", CUTS)
def test_a_run_without_a_manifest_as_version_0_1_left_it(whole, tmp_path, cut):
    run = shutil.copytree(whole / "run", tmp_path / "run")
    (run / "manifest.json").unlink()
    binary = ("embeddings.npz", "tables.npz", "graph/graph.npz", "codes/items.npz", "codes/users.npy")
    text = ("metrics.json", "data/report.json")
    for name in damaged(run, cut):
        if name in binary + text or name.endswith(".parquet"):
            if cut == "by one byte" and name in text:
                # The line's end: nothing is lost.
                RunDirectory.load(run)
                continue
            with pytest.raises(InputError) as error:
                RunDirectory.load(run).tables()
            assert name.rpartition("/")[2] in one_line(error), name


@pytest.mark.parametrize("cut", CUTS)
def test_a_state_of_the_model_store(whole, tmp_path, cut):
    state = shutil.copytree(whole / "state", tmp_path / "state")
    for name in damaged(state, cut):
        if name == "data/report.json" and cut == "by one byte":
            continue
        with pytest.raises(InputError) as error:
            TrainedState.load(state)
        assert name.rpartition("/")[2] in one_line(error), name
    TrainedState.load(state)


@pytest.mark.parametrize("cut", CUTS)
def test_an_export(whole, tmp_path, cut):
    export = shutil.copytree(whole / "export", tmp_path / "export")
    version = newest_version(export, "hqgnn")

    def read_everything():
        read_metadata(version)
        read_bundle(version)
        # Loads it, too; the longest comes last.
        replay_warmup(version)

    for name in damaged(version, cut):
        if name == "assets.extra/metadata.json" and cut == "by one byte":
            continue
        if name == "fingerprint.pb" or name == "assets.extra/README.md" or "/requests/" in name:
            # TensorFlow's, which it doesn't need, and what shows people how to ask.
            continue
        with pytest.raises(ValueError, match=re.escape(str(version))) as error:
            read_everything()
        one_line(error)
    read_everything()


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("name", ["weights.npz", "state.json"])
def test_a_checkpoint_gives_way_to_the_one_before(tmp_path, caplog, cut, name):
    store = CheckpointStore(tmp_path)
    for epoch in (1, 2, 3):
        store.save(epoch, {"a": np.arange(epoch)}, {"epoch": epoch})
    assert store.epochs() == [2, 3]
    path = tmp_path / "epoch-00003" / name
    path.write_bytes(path.read_bytes()[: CUTS[cut](path.stat().st_size)])
    with caplog.at_level(logging.WARNING):
        weights, state = CheckpointStore(tmp_path).load()
    assert (len(weights["a"]), state) == (2, {"epoch": 2})
    assert str(path) in caplog.text
    path = tmp_path / "epoch-00002" / name
    path.write_bytes(b"")
    with pytest.raises(InputError, match=r"every checkpoint is damaged \(epoch-00003, epoch-00002\); delete this"):
        CheckpointStore(tmp_path).load()
    # Training anew writes over them.
    store.save(2, {"a": np.arange(2)}, {"epoch": 2})
    assert CheckpointStore(tmp_path).load()[1] == {"epoch": 2}


def test_a_training_goes_on_from_the_checkpoint_before_a_damaged_one(dataset, smoke_config, tmp_path, monkeypatch):
    config = smoke_config.with_values(
        {"training.max_epochs": 4, "training.evaluate_every": 1, "training.checkpoint_seconds": 0}
    )
    whole = train(dataset, config, tmp_path / "whole")
    save = CheckpointStore.save

    def stop_after_the_third(store, epoch, *rest):
        save(store, epoch, *rest)
        if epoch == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(CheckpointStore, "save", stop_after_the_third)
        with pytest.raises(KeyboardInterrupt):
            train(dataset, config, tmp_path / "run")
    (tmp_path / "run.partial" / "checkpoints" / "epoch-00003" / "state.json").write_text("")
    resumed = train(dataset, config, tmp_path / "run", resume=True)
    assert resumed.valid == whole.valid
