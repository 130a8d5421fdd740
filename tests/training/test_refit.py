"""A model that is trained once more on the whole log: what is kept, what is served, and what its guard refuses."""

import inspect
import logging
import re
from dataclasses import replace

import numpy as np
import pytest
from shop import shop_config, write_shop

from tf_hqgnn.beam.graph_files import write_run
from tf_hqgnn.data.loading import load_dataset
from tf_hqgnn.export.bundle import ServingBundle
from tf_hqgnn.runs.run_directory import RunDirectory
from tf_hqgnn.runs.trained_state import TrainedState, judged_model_path
from tf_hqgnn.training import train as training
from tf_hqgnn.training.callbacks import DivergenceError
from tf_hqgnn.training.train import train
from tf_hqgnn.types import concatenate


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """The settings, the data, and the users who took the new item on the last day."""
    log, items, buyers = write_shop(tmp_path_factory.mktemp("shop"))
    config = shop_config(log, items)
    return config, load_dataset(config.data, config.seed), buyers


@pytest.fixture(scope="module")
def run(shop, tmp_path_factory):
    config, dataset, _ = shop
    return RunDirectory.load(train(dataset, config, tmp_path_factory.mktemp("refit") / "run").run_dir)


@pytest.fixture(scope="module")
def plain(shop, tmp_path_factory):
    """The same without a refit."""
    config, dataset, _ = shop
    config = config.with_values({"training.refit": False})
    return RunDirectory.load(train(dataset, config, tmp_path_factory.mktemp("plain") / "run").run_dir)


def everything(dataset):
    nothing = dataset.valid.take(np.zeros(0, np.int64))
    learnt = concatenate(dataset.train, dataset.valid, dataset.test)
    return replace(dataset, train=learnt, valid=nothing, test=nothing)


def test_what_is_judged_is_the_model_without_the_refit(run, plain):
    assert run.metrics["valid"] == plain.metrics["valid"]
    np.testing.assert_array_equal(run.item_embeddings, plain.item_embeddings)
    for split in ("valid", "test"):
        assert run.evaluate(split, (20,)) == plain.evaluate(split, (20,))
    assert plain.metrics["refit"] is None
    assert plain.served() is plain


def test_what_is_served_is_a_training_on_the_whole_log(run, shop, tmp_path):
    """With the epochs and the propagation that were chosen; a training by hand on all interactions says what it is."""
    config, dataset, _ = shop
    chosen = {f"propagation.{name}": value for name, value in run.config.propagation.model_dump().items()}
    chosen |= {"training.refit": False, "training.max_epochs": run.metrics["best_epoch"]}
    by_hand = RunDirectory.load(train(everything(dataset), config.with_values(chosen), tmp_path / "run").run_dir)
    served = run.served()
    np.testing.assert_array_equal(served.user_embeddings, by_hand.user_embeddings)
    np.testing.assert_array_equal(ServingBundle.from_run(run).items, by_hand.item_embeddings)
    assert served.graph.num_edges == len(everything(dataset).train)
    assert served.served() is served
    # Beam's propagation and a warm start take the same tables.
    found, _ = write_run(run.path, tmp_path)
    assert found["solver"] == run.config.propagation.solver
    state = TrainedState.load(run.path)
    np.testing.assert_array_equal(state.items, by_hand.tables().items)
    np.testing.assert_array_equal(state.held_out.items, run.tables().items)


def test_the_record_says_what_the_metrics_are_of(run, shop):
    refit = run.metrics["refit"]
    assert refit["served"]
    assert refit["interactions"] == sum(map(len, (shop[1].train, shop[1].valid, shop[1].test)))
    assert "all metrics are those of the model before that" in refit["note"]
    # The refitted model has learnt what was held out.
    assert refit["refitted_ndcg"] > 1.2 * refit["held_out_ndcg"] > 0
    assert 0.2 < refit["agreement"] <= 1


def test_a_state_keeps_both_models(run, tmp_path):
    state = TrainedState.from_run(run)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "saved_model.pb").touch()
    state.save(tmp_path / "state", judged_model=tmp_path / "model")
    assert (judged_model_path(tmp_path / "state") / "saved_model.pb").is_file()
    read = TrainedState.load(tmp_path / "state")
    np.testing.assert_array_equal(read.held_out.users, run.tables().users)
    assert len(read.held_out.dataset.train) == run.graph.num_edges
    assert len(read.dataset.train) == run.served().graph.num_edges


def test_the_next_training_goes_on_from_both(run, shop, tmp_path, monkeypatch):
    """The judged one from what was judged: the refitted model has learnt all that would judge it."""
    config, dataset, _ = shop
    starts = []

    def make(*args, **kwargs):
        starts.append(inspect.signature(original).bind(*args, **kwargs).arguments["start"])
        return original(*args, **kwargs)

    original = training.make
    monkeypatch.setattr(training, "make", make)
    config = config.with_values({"training.warm_start": str(run.path), "training.warm_epochs": 1})
    result = train(dataset, config, tmp_path / "run")
    assert result.warm_start["new_items"] == 1
    for start, tables in zip(starts, (run.tables(), run.served().tables())):
        np.testing.assert_array_equal(start.items, tables.items)


def broken(change):
    """A `make` whose second model is changed."""
    made = []

    def make(*args, **kwargs):
        made.append(original(*args, **kwargs))
        return change(made[-1]) if len(made) > 1 else made[-1]

    original = training.make
    return make


def shuffled(model):
    order = np.random.default_rng(0).permutation(len(model.users))
    return replace(model, users=model.users[order])


def forgotten(model):
    """Rows that rank by nothing but noise around the mean: most users agree, nobody's own taste is known."""
    return replace(model, users=np.broadcast_to(model.users.mean(axis=0), model.users.shape).copy())


def infinite(model):
    return replace(model, items=np.full_like(model.items, np.nan))


def diverged(_model):
    raise DivergenceError("the loss became NaN or infinite at step 7")


@pytest.mark.parametrize(
    ("change", "agreement", "reason"),
    [
        (shuffled, 0.6, r"its first items are \d+% those of the model that was judged, at least 60% is asked"),
        (forgotten, 0.0, r"its NDCG@20 on the interactions that were held out is 0\.\d+, that of a model"),
        (infinite, 0.0, "its rows aren't finite"),
        (diverged, 0.0, "the loss became NaN or infinite at step 7"),
    ],
)
def test_a_refit_that_went_wrong_is_not_served(shop, plain, tmp_path, monkeypatch, caplog, change, agreement, reason):
    config, dataset, _ = shop
    monkeypatch.setattr(training, "make", broken(change))
    config = config.with_values({"training.min_refit_agreement": agreement})
    with caplog.at_level(logging.WARNING, "tf_hqgnn"):
        result = train(dataset, config, tmp_path / "run")
    run = RunDirectory.load(result.run_dir)
    assert not run.metrics["refit"]["served"]
    assert run.served() is run
    np.testing.assert_array_equal(ServingBundle.from_run(run).items, ServingBundle.from_run(plain).items)
    assert TrainedState.from_run(run).held_out is None
    assert len(TrainedState.from_run(run).dataset.train) == len(dataset.train)
    (line,) = [one.getMessage() for one in caplog.records if one.name == training.__name__]
    assert line == run.metrics["refit"]["note"]
    assert line.startswith("the refit failed: ")
    assert "served is the model that was judged" in line
    assert re.search(reason, line)


def test_nothing_held_out_needs_no_refit(shop, tmp_path):
    config, dataset, _ = shop
    result = train(everything(dataset), config.with_values({"training.max_epochs": 1}), tmp_path / "run")
    assert result.refit is None
    assert not (result.run_dir / "refit").exists()
