"""Training as a whole: the run directory, interruption, divergence."""

import csv
import json
import signal

import numpy as np
import pytest

from tf_hqgnn.config import Config, TrainingConfig
from tf_hqgnn.data.splits import SplitDataset
from tf_hqgnn.files.durable import staged_name
from tf_hqgnn.graph.interaction_graph import InteractionGraph
from tf_hqgnn.models.initialization import initial_embeddings, spectral_embeddings
from tf_hqgnn.report.page import report_hook
from tf_hqgnn.runs.checkpoints import CheckpointStore
from tf_hqgnn.runs.run_directory import RunDirectory, partial_path
from tf_hqgnn.training.callbacks import DivergenceError, TrainingState
from tf_hqgnn.training.propagation import propagate_embeddings
from tf_hqgnn.training.train import train
from tf_hqgnn.types import InputError, Interactions, concatenate


def settings(config, **training):
    return config.model_copy(update={"training": config.training.model_copy(update=training)})


@pytest.fixture(scope="module")
def finished(dataset, smoke_config, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "run"
    config = settings(smoke_config, max_epochs=20, batch_size=256, checkpoint_seconds=0)
    return config, train(dataset, config, out, hooks=(report_hook,))


def test_the_run_directory_holds_what_evaluation_and_export_need(finished, dataset):
    config, result = finished
    run = RunDirectory.load(result.run_dir)
    given = run.config.model_copy(update={"propagation": config.propagation})
    assert given == Config.load(result.run_dir / "given.yaml") == config
    assert run.user_embeddings.shape == (dataset.num_users, 16)
    assert run.item_embeddings.dtype == np.float32
    assert list(run.dataset.item_ids) == list(dataset.item_ids)
    assert not partial_path(result.run_dir).exists()
    assert {path.name for path in result.run_dir.iterdir()} >= {
        "history.csv",
        "tensorboard",
        "checkpoints",
        "config.yaml",
        "report.html",
    }
    assert any((result.run_dir / "tensorboard").iterdir())
    found = run.evaluate("valid", (10, 20, 50))
    assert found.full_precision is None
    assert found.metrics.values["ndcg@20"] == pytest.approx(result.valid["ndcg@20"], abs=1e-9)


def test_the_model_beats_popularity_by_a_wide_margin(finished):
    _, result = finished
    assert result.valid["ndcg@20"] > 1.5 * result.popularity["ndcg@20"]


def test_the_best_epoch_is_kept(finished):
    _, result = finished
    rows = (result.run_dir / "history.csv").read_text().splitlines()
    column = rows[0].split(",").index("valid_ndcg@20")
    values = [float(row.split(",")[column]) for row in rows[1:]]
    assert result.best_epoch == int(np.argmax(values)) + 1
    # Of the same tables, with the propagation that was found instead of the one that was given.
    assert result.valid["ndcg@20"] >= max(values)


SCRIPT = """
import os, signal, sys
from pathlib import Path
from tf_hqgnn.config import Config
from tf_hqgnn.data.splits import SplitDataset
from tf_hqgnn.training import callbacks, train as training
data, config, out, die_at = sys.argv[1:]
save = callbacks.CheckpointStore.save
def die(self, epoch, *args, **kwargs):
    if epoch == int(die_at):
        os.kill(os.getpid(), signal.SIGKILL)
    save(self, epoch, *args, **kwargs)
callbacks.CheckpointStore.save = die
training.train(SplitDataset.load(Path(data)), Config.load(config), Path(out), resume=True)
"""


@pytest.mark.parametrize("die_at", [1, 4])
@pytest.mark.usefixtures("smoke_config")
def test_killed_and_resumed_ends_as_if_uninterrupted(dataset, finished, tmp_path, run_command, die_at):
    config, whole = finished
    dataset.save(tmp_path / "data")
    (tmp_path / "config.yaml").write_text(config.to_yaml())
    arguments = [tmp_path / name for name in ("data", "config.yaml", "run")]
    killed = run_command.run(["python", "-c", SCRIPT, *arguments, die_at])
    assert killed.code == -signal.SIGKILL
    assert not (tmp_path / "run").exists()
    with pytest.raises(InputError, match="unfinished run; add --resume"):
        train(dataset, config, tmp_path / "run")
    result = train(dataset, config, tmp_path / "run", resume=True)
    assert result.epochs == whole.epochs
    assert result.valid == whole.valid
    a, b = RunDirectory.load(result.run_dir), RunDirectory.load(whole.run_dir)
    np.testing.assert_array_equal(a.item_embeddings, b.item_embeddings)


@pytest.mark.usefixtures("smoke_config")
def test_what_a_checkpoint_overwrites_is_not_computed(dataset, finished, tmp_path, monkeypatch):
    config, whole = finished
    with pytest.raises(KeyboardInterrupt):
        train(dataset, config, tmp_path / "run", hooks=(stop,))
    # Were a start computed, this would end the training.
    monkeypatch.setattr("tf_hqgnn.models.factory.initial_embeddings", stop)
    assert train(dataset, config, tmp_path / "run", resume=True).valid == whole.valid
    with pytest.raises(KeyboardInterrupt):
        train(dataset, config, tmp_path / "another")


def stop(*_, **__):
    raise KeyboardInterrupt


def test_resume_refuses_other_settings_and_other_data(dataset, smoke_config, tmp_path, monkeypatch):
    monkeypatch.setattr(CheckpointStore, "save", stop)
    with pytest.raises(KeyboardInterrupt):
        train(dataset, smoke_config, tmp_path / "run")
    with pytest.raises(InputError, match="started with other settings"):
        train(dataset, smoke_config.model_copy(update={"seed": 5}), tmp_path / "run", resume=True)
    other = SplitDataset(**{**vars(dataset), "train": dataset.train.take(np.arange(100))})
    with pytest.raises(InputError, match="started on other data"):
        train(other, smoke_config, tmp_path / "run", resume=True)
    with pytest.raises(InputError, match="add --resume"):
        train(dataset, smoke_config, tmp_path / "run")
    with pytest.raises(InputError, match="run `tf-hqgnn train` with --resume"):
        RunDirectory.load(tmp_path / "run")


def test_the_best_propagation_is_found_and_served(finished):
    _, result = finished
    run = RunDirectory.load(result.run_dir)
    with (result.run_dir / "propagation.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["solver"] for row in rows} == {"none", "euler", "exact"}
    best = max(rows, key=lambda row: float(row["valid_ndcg@20"]))
    assert (run.config.propagation.solver, run.config.propagation.t1) == (best["solver"], float(best["t1"]))
    assert result.valid["ndcg@20"] == pytest.approx(float(best["valid_ndcg@20"]), abs=1e-9)
    assert result.valid["ndcg@20"] > float(rows[0]["valid_ndcg@20"])  # the first row is what the settings say
    trained = run.tables().filled()
    expected = propagate_embeddings(run.graph, *trained, run.config.propagation)
    np.testing.assert_allclose(run.item_embeddings, expected[1], atol=1e-6)


def test_without_the_search_the_propagation_is_the_given_one(dataset, smoke_config, tmp_path):
    propagation = smoke_config.propagation.model_copy(update={"search": False})
    result = train(dataset, smoke_config.model_copy(update={"propagation": propagation}), tmp_path / "run")
    assert RunDirectory.load(result.run_dir).config.propagation == propagation
    assert not (result.run_dir / "propagation.csv").exists()


def test_the_same_seed_gives_the_same_metrics(dataset, smoke_config, tmp_path):
    first, again = (train(dataset, smoke_config, tmp_path / name) for name in ("first", "again"))
    assert first.valid == again.valid
    tests = [RunDirectory.load(one.run_dir).evaluate("test", (20,)).metrics.values for one in (first, again)]
    assert tests[0] == tests[1]


def test_a_sample_of_users_judges_a_large_log(dataset, smoke_config, tmp_path):
    evaluation = smoke_config.evaluation.model_copy(update={"validation_users": 50})
    result = train(dataset, smoke_config.model_copy(update={"evaluation": evaluation}), tmp_path / "run")
    everyone = train(dataset, smoke_config, tmp_path / "everyone")
    assert result.popularity != everyone.popularity
    assert result.valid["ndcg@20"] == pytest.approx(everyone.valid["ndcg@20"], rel=0.3)
    assert RunDirectory.load(result.run_dir).evaluate("valid", (20,)).metrics.num_users > 50


def test_refit_trains_on_validation_interactions_too(dataset, smoke_config, tmp_path):
    quantization = smoke_config.quantization.model_copy(
        update={"bits": 2, "distillation": smoke_config.quantization.distillation.model_copy(update={"max_epochs": 2})}
    )
    # A single epoch is the best one, and the last of the schedule.
    config = settings(smoke_config, refit=True, max_epochs=1).model_copy(update={"quantization": quantization})
    plain = train(dataset, settings(config, refit=False), tmp_path / "plain")
    result = train(dataset, config, tmp_path / "refit")
    # What can be measured is measured before the refit.
    assert (result.valid, result.best_epoch) == (plain.valid, plain.best_epoch)
    assert result.seconds > 0
    run, before = RunDirectory.load(result.run_dir), RunDirectory.load(plain.run_dir)
    assert run.graph.num_edges == before.graph.num_edges + len(dataset.valid)
    assert run.config.propagation == before.config.propagation
    # The same as a training on both parts that knows the epochs and the propagation.
    both = SplitDataset(
        **{
            **vars(dataset),
            "train": concatenate(dataset.train, dataset.valid),
            "valid": dataset.valid.take(np.zeros(0, np.int64)),
        }
    )
    by_hand = train(
        both,
        settings(config, refit=False).model_copy(update={"propagation": run.config.propagation}),
        tmp_path / "by_hand",
    )
    assert result.best_epoch == config.training.max_epochs
    expected = RunDirectory.load(by_hand.run_dir)
    np.testing.assert_array_equal(run.item_embeddings, expected.item_embeddings)
    np.testing.assert_array_equal(run.coded.items.packed, expected.coded.items.packed)
    with pytest.raises(InputError, match=r"was refitted on its validation split .*evaluate --split test"):
        run.evaluate("valid", (20,))
    assert run.evaluate("test", (20,)).metrics.num_users > 0


def test_a_finished_run_is_not_overwritten(finished, dataset):
    config, result = finished
    with pytest.raises(InputError, match="exists already; choose another --out"):
        train(dataset, config, result.run_dir)


def test_a_loss_that_is_not_finite_stops_with_the_step(dataset, smoke_config, tmp_path):
    # Adam divides its steps by the gradient's size, so only an infinite rate breaks it for certain.
    config = settings(smoke_config, learning_rate=1e38, max_epochs=5)
    with pytest.raises(
        DivergenceError, match=r"NaN or infinite at step \d+: lower training.learning_rate \(now 1e\+38\)"
    ):
        train(dataset, config, tmp_path / "run")


def test_without_validation_the_last_epoch_counts(dataset, smoke_config, tmp_path):
    empty = Interactions(np.zeros(0, np.int32), np.zeros(0, np.int32))
    result = train(SplitDataset(**{**vars(dataset), "valid": empty}), smoke_config, tmp_path / "run")
    assert (result.epochs, result.best_epoch, result.valid) == (3, 3, {})
    with pytest.raises(InputError, match=r"the valid split of .* is empty"):
        RunDirectory.load(result.run_dir).evaluate("valid", (20,))


def test_one_interaction_cannot_be_trained_on(dataset, smoke_config, tmp_path):
    with pytest.raises(InputError, match="at least 2 interactions, the train split has 1"):
        train(
            SplitDataset(**{**vars(dataset), "train": dataset.train.take(np.arange(1))}), smoke_config, tmp_path / "run"
        )


def test_early_stopping_counts_validations():
    config = TrainingConfig(max_epochs=100, patience=3, evaluate_every=2)
    assert not TrainingState(epoch=8, best_epoch=4).is_finished(config)
    assert TrainingState(epoch=10, best_epoch=4).is_finished(config)
    assert TrainingState(epoch=100, best_epoch=99).is_finished(config)


def test_a_half_written_checkpoint_is_never_read(tmp_path):
    store = CheckpointStore(tmp_path)
    with pytest.raises(FileNotFoundError, match="no checkpoint in"):
        store.load()
    store.save(1, {"a": np.arange(3)}, {"epoch": 1})
    store.save(2, {"a": np.arange(4)}, {"epoch": 2})
    store.save(3, {"a": np.arange(5)}, {"epoch": 3})
    (tmp_path / "epoch-00003").rename(staged_name(tmp_path / "epoch-00003"))
    store = CheckpointStore(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["epoch-00002"]
    weights, state = store.load()
    assert (weights["a"].tolist(), state) == ([0, 1, 2, 3], {"epoch": 2})


def test_the_state_survives_json():
    state = TrainingState(epoch=3, best_epoch=2, best_value=0.25, seconds=1.5, history=[{"epoch": 1, "loss": 0.1}])
    assert TrainingState(**json.loads(json.dumps(vars(state)))) == state


@pytest.mark.parametrize("refit", [False, True])
def test_no_epochs_serve_the_start_with_the_propagation_that_was_found(dataset, smoke_config, tmp_path, refit):
    config = settings(smoke_config, max_epochs=0, refit=refit)
    result = train(dataset, config, tmp_path / "run", hooks=(report_hook,))
    assert result.epochs == result.best_epoch == 0
    run = RunDirectory.load(result.run_dir)
    train_split = concatenate(dataset.train, dataset.valid) if refit else dataset.train
    graph = InteractionGraph.from_interactions(train_split, dataset.num_users, dataset.num_items)
    users, items = propagate_embeddings(
        graph, *initial_embeddings(graph, config.model, config.seed), run.config.propagation
    )
    # Nobody is without interactions here, and what the tables drew at random is gone.
    np.testing.assert_allclose(users @ items.T, run.user_embeddings @ run.item_embeddings.T, atol=1e-4)
    assert result.valid["ndcg@20"] > result.popularity["ndcg@20"]
    assert "by time of propagation" in (result.run_dir / "report.html").read_text()


def test_the_start_is_served_with_its_lengths_where_nothing_normalizes_it(dataset, smoke_config, tmp_path):
    propagation = smoke_config.propagation.model_copy(update={"solver": "none", "normalize": False})
    config = settings(smoke_config, max_epochs=0).model_copy(update={"propagation": propagation})
    run = RunDirectory.load(train(dataset, config, tmp_path / "run").run_dir)
    graph = InteractionGraph.from_interactions(dataset.train, dataset.num_users, dataset.num_items)
    users, items = spectral_embeddings(graph, config.model, config.seed)
    np.testing.assert_allclose(run.user_embeddings, users, atol=1e-6)
    np.testing.assert_allclose(run.item_embeddings, items, atol=1e-6)


def test_a_second_training_into_the_same_run_is_refused(dataset, smoke_config, tmp_path):
    refused = []

    def start_another(_run):
        with pytest.raises(InputError) as error:
            train(dataset, smoke_config, tmp_path / "run", resume=True)
        refused.append(str(error.value))

    train(dataset, smoke_config, tmp_path / "run", hooks=(start_another,))
    out = tmp_path / "run"
    assert refused == [f"another process is writing into {out}; wait until it is done, or name another folder"]
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
