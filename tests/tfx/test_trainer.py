"""What the Trainer starts from."""

import numpy as np
import pytest

from tf_hqgnn.config import Config
from tf_hqgnn.logs import progress_on_stderr
from tf_hqgnn.runs.trained_state import TrainedState
from tf_hqgnn.tfx.model_store import state_path, write_pointer
from tf_hqgnn.tfx.trainer import last_state


@pytest.fixture(autouse=True)
def shown():
    """What the package logs, as a program shows it."""
    with progress_on_stderr():
        yield


@pytest.fixture
def store(dataset, tmp_path):
    """A model store whose last blessed model has tables of two columns."""
    path = state_path(tmp_path, 4)
    tables = (np.ones((size, 2), np.float32) for size in (dataset.num_users, dataset.num_items))
    TrainedState(dataset, *tables).save(path)
    write_pointer(tmp_path, {"version": 4, "state": str(path)})
    return str(tmp_path)


def settings(embedding_dim=2, **training):
    return Config.model_validate({"model": {"embedding_dim": embedding_dim}, "training": training})


def test_the_last_blessed_model_is_started_from_and_named(dataset, store, capsys):
    state = last_state(dataset, settings(), store)
    assert state.dataset.fingerprint() == dataset.fingerprint()
    assert capsys.readouterr().err == (
        f"warm start from version 4: {dataset.num_users} users and {dataset.num_items} items keep their rows, "
        "0 and 0 are new\n"
    )


def test_another_dimension_starts_cold_and_says_why(dataset, store, capsys):
    assert last_state(dataset, settings(embedding_dim=8), store) is None
    assert capsys.readouterr().err.startswith(
        "cold start: the model to start from has model.embedding_dim=2, the settings ask for 8; set"
    )


@pytest.mark.parametrize("pointer", [None, {"version": 1, "models": {}}])
def test_without_a_blessed_model_or_its_state_training_starts_cold(dataset, tmp_path, capsys, pointer):
    if pointer:
        write_pointer(tmp_path, pointer)
    assert last_state(dataset, settings(), str(tmp_path)) is None
    assert capsys.readouterr().err == "cold start: no model was blessed before\n"


@pytest.mark.parametrize("warm_start", [None, "runs/monday"])
def test_the_settings_can_turn_it_off_or_name_another(dataset, store, capsys, warm_start):
    assert last_state(dataset, settings(warm_start=warm_start), store) is None
    assert capsys.readouterr().err == ""


def test_no_model_store_is_no_mistake(dataset):
    assert last_state(dataset, settings(), "") is None


@pytest.mark.parametrize("name", ["tables.npz", "data/report.json", "data/users.parquet", "data/train.parquet"])
@pytest.mark.parametrize("share", [0, 0.5])
def test_a_damaged_state_starts_cold_and_is_named(dataset, store, tmp_path, capsys, name, share):
    path = state_path(tmp_path, 4) / name
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    assert last_state(dataset, settings(), store) is None
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("cold start: ")
    assert path.name in line


def test_with_auto_the_dimensions_are_those_of_the_model_before(dataset, store, tmp_path, capsys):
    raced = settings(embedding_dim=64).with_values({"auto.race": True})
    assert last_state(dataset, raced, store) is not None
    assert "warm start from version 4" in capsys.readouterr().err
    tables = (np.ones((size, 2), np.float32) for size in (dataset.num_users, dataset.num_items))
    untrained = settings(embedding_dim=2, max_epochs=0)
    TrainedState(dataset, *tables, config=untrained).save(state_path(tmp_path, 4))
    assert last_state(dataset, raced, store).config == untrained
    assert "there is another race" in capsys.readouterr().err
