"""Every run has its trained tables: after no epochs, a refit, or codes that went on training; so have those of 0.1."""

from dataclasses import replace

import numpy as np
import pytest

from tf_hqgnn.beam.propagation import main
from tf_hqgnn.config import Config
from tf_hqgnn.runs.run_directory import RunDirectory
from tf_hqgnn.runs.tables import FILE, TrainedTables
from tf_hqgnn.runs.trained_state import TrainedState
from tf_hqgnn.runs.untrained import Untrained
from tf_hqgnn.training.propagation import propagate_embeddings
from tf_hqgnn.training.train import train
from tf_hqgnn.training.warm_start import warm_start
from tf_hqgnn.types import InputError, Interactions

SETTINGS = {
    "trained": ("propagation.search=false",),
    "no epochs": ("training.max_epochs=0",),
    "refit": ("training.refit=true",),
    "fine-tuned codes": (
        *("quantization.bits=2", "quantization.method=fine_tuning", "quantization.max_epochs=1", "loss.name=bpr"),
        *("model.initializer=random", "propagation.solver=none", "propagation.normalize=false"),
    ),
}


@pytest.fixture(scope="module")
def gaps(dataset):
    """The generated log, of which a user and an item are in the validation split alone."""
    train, valid = dataset.train, dataset.valid
    moved = (train.user_index == 3) | (train.item_index == 7)
    held = Interactions(
        np.append(valid.user_index, train.user_index[moved]), np.append(valid.item_index, train.item_index[moved])
    )
    return replace(dataset, train=train.take(~moved), valid=held, test=dataset.test.take(dataset.test.user_index != 3))


@pytest.fixture(scope="module", params=SETTINGS)
def run(request, gaps, smoke_config, tmp_path_factory):
    config = Config.from_yaml(smoke_config.to_yaml(), SETTINGS[request.param])
    folder = tmp_path_factory.mktemp("tables") / "run"
    train(gaps, config, folder)
    return RunDirectory.load(folder)


def test_what_is_served_is_the_tables_propagated(run):
    """Whatever was trained, and whenever the tables were written: the full-precision rows come from them."""
    tables = run.tables()
    untrained = tables.untrained()
    refitted = run.config.training.refit
    assert (untrained.users[3], untrained.items[7]) == (not refitted, not refitted)
    rows = untrained.replace(*propagate_embeddings(run.graph, *tables.filled(), run.config.propagation))
    for found, expected in zip((run.user_embeddings, run.item_embeddings), rows):
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_the_state_that_the_next_day_starts_from_is_that_of_the_run(run, tmp_path):
    TrainedState.from_run(run).save(tmp_path / "state")
    for state in (TrainedState.load(tmp_path / "state"), TrainedState.load(run.path)):
        np.testing.assert_array_equal(state.users, run.tables().users)
        np.testing.assert_array_equal(state.items, run.tables().items)
        # What it has learnt from is what its graph holds.
        assert len(state.dataset.train) == run.graph.num_edges
    start = warm_start(replace(run.dataset, valid=run.dataset.valid.take([])), TrainedState.load(run.path), 16)
    kept = start.summary()
    missing = 0 if run.config.training.refit else 1
    assert (kept["new_users"], kept["new_items"]) == (missing, missing)


@pytest.mark.usefixtures("capsys")
def test_beam_makes_the_rows_of_the_run(run, tmp_path):
    main(["--run", str(run.path), "--out", str(tmp_path / "out"), "--block-rows", "150"])
    from pyarrow import parquet

    for name, expected in (("users", run.user_embeddings), ("items", run.item_embeddings)):
        found = np.full_like(expected, np.nan)
        for path in (tmp_path / "out").glob(f"{name}-*.parquet"):
            part = parquet.read_table(path)
            found[part["index"].to_numpy()] = np.array(part["embedding"].to_pylist(), np.float32)
        np.testing.assert_allclose(found, expected, atol=1e-4)


def test_a_run_of_version_0_1_is_read_from_its_checkpoints(run, tmp_path):
    """Version 0.1 wrote no `tables.npz`; a refit's checkpoints lay in a folder of their own."""
    old = tmp_path / "old"
    newest = run.tables()
    untrained = newest.untrained()
    for folder, (users, items) in (
        ("checkpoints", (np.zeros_like(newest.users), np.zeros_like(newest.items))),
        ("refit/checkpoints", newest.filled()),
    ):
        place = old / folder / "epoch-00002"
        place.mkdir(parents=True)
        np.savez(place / "weights.npz", best_0=users, best_1=items)
    masks = {"untrained_user": untrained.users, "untrained_item": untrained.items}
    np.savez(old / "embeddings.npz", user=run.user_embeddings, item=run.item_embeddings, **masks)
    read = TrainedTables.load(old)
    np.testing.assert_array_equal(read.users, newest.users)
    np.testing.assert_array_equal(read.items, newest.items)


def test_a_run_without_tables_is_refused_in_one_line(tmp_path):
    with pytest.raises(InputError, match=r"has no trained tables \(tables.npz\), .*: version 0.1 trained it, .*"):
        TrainedTables.load(tmp_path)


def test_tables_of_another_run_are_refused(run, tmp_path):
    other = replace(run, path=tmp_path)
    TrainedTables(np.zeros((2, 2), np.float32), np.zeros((3, 2), np.float32)).save(tmp_path)
    with pytest.raises(InputError, match=r"trained tables have the shapes \(\(2, 2\), \(3, 2\)\), expected"):
        other.tables()


def test_round_trip(tmp_path):
    rows = np.arange(6, dtype=np.float32).reshape(3, 2)
    TrainedTables.of(rows, rows[:2], Untrained(np.array([0, 1, 0], bool), np.array([0, 0], bool))).save(tmp_path)
    read = TrainedTables.load(tmp_path)
    assert np.isnan(read.users[1]).all()
    np.testing.assert_array_equal(read.users[[0, 2]], rows[[0, 2]])
    np.testing.assert_array_equal(read.items, rows[:2])
    assert (tmp_path / FILE).is_file()
