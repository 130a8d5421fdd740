"""The race for settings: what it tries, what it keeps, and that it never ends below what needs no training."""

import dataclasses
import json
from dataclasses import replace

import numpy as np
import pytest

from tf_hqgnn.auto import race as race_module
from tf_hqgnn.auto.choice import Choice
from tf_hqgnn.auto.choose import FILE, choose_settings, settings_of
from tf_hqgnn.auto.contestants import prior
from tf_hqgnn.auto.plan import PLAIN_EPOCHS, Plan, columns_and_bits, cost_of_columns
from tf_hqgnn.auto.racer import Racer
from tf_hqgnn.config import Config, DataConfig
from tf_hqgnn.data.loading import load_dataset
from tf_hqgnn.graph.interaction_graph import InteractionGraph
from tf_hqgnn.models.initialization import initial_embeddings
from tf_hqgnn.runs.run_directory import RunDirectory
from tf_hqgnn.runs.trained_state import TrainedState
from tf_hqgnn.training.judge import Judge
from tf_hqgnn.training.train import train
from tf_hqgnn.types import InputError, Interactions

AUTO = Config().with_values({"auto.race": True, "training.steps_per_execution": 4})
# As few steps as a choice can be made by.
SHORT = AUTO.with_values({"auto.steps": 60})


@pytest.fixture(scope="module")
def choice(dataset, tmp_path_factory):
    return choose_settings(dataset, SHORT, tmp_path_factory.mktemp("race"))


@pytest.mark.parametrize(
    ("steps", "dim", "trainings"),
    [(2400, 256, 1), (4800, 256, 2), (7200, 64, 1), (500, 256, 1), (30, 64, 1)],
)
def test_a_plan_keeps_to_its_budget(steps, dim, trainings):
    plan = Plan.of(steps, 100, dim, trainings)
    raced = plan.contestants * plan.first + plan.long_runners * plan.second
    spent = plan.epochs * 100 * trainings + (raced / cost_of_columns(dim) if plan.epochs else 0)
    assert spent <= 1.05 * steps
    assert plan.epochs <= PLAIN_EPOCHS
    assert 0 < plan.share <= 1


@pytest.mark.parametrize("most", [10, 18, 34, 66, 130, 258, 1000])
def test_a_code_is_as_long_as_allowed_at_most(most):
    dim, bits = columns_and_bits(most, 10_000, 10_000)
    assert -(-dim * bits // 8) + 2 <= most
    assert columns_and_bits(most, 10_000, 7)[0] <= 7


def test_a_contestant_is_trained_as_train_would_train_it(dataset, tmp_path):
    settings = {"model.embedding_dim": 16, "loss.temperature": 0.2, "loss.negative_weight": 1.3}
    settings |= {"loss.user_balance": 0.5, "training.max_epochs": 2, "training.evaluate_every": 2}
    settings |= {"propagation.solver": "none", "training.steps_per_execution": 1}
    config = Config().with_values(settings)
    result = train(dataset, config, tmp_path / "run")
    tables = RunDirectory.load(tmp_path / "run").tables()
    graph = InteractionGraph.from_interactions(dataset.train, dataset.num_users, dataset.num_items)
    judge = Judge.of(dataset, graph, config.evaluation)
    racer = Racer(config, graph, dataset.train, judge, initial_embeddings(graph, config.model, config.seed))
    # Another contestant first: nothing of it is left.
    racer.train(Config().loss.make(), 0.05, 5)
    racer.train(config.loss.make(), config.training.learning_rate, 2 * racer.steps_per_epoch)
    for found, expected in zip(racer.tables(), (tables.users, tables.items)):
        trained = np.isfinite(expected).all(axis=1)
        np.testing.assert_allclose(found[trained], expected[trained], rtol=1e-3, atol=1e-4)
    assert racer.value() >= result.valid["ndcg@20"] - 1e-3


def test_it_takes_the_best_and_says_why(choice, dataset):
    best = max(choice.tried, key=lambda one: one.value)
    graph = InteractionGraph.from_interactions(dataset.train, dataset.num_users, dataset.num_items)
    judge = Judge.of(dataset, graph, SHORT.evaluation)
    popularity = [one.value for one in choice.tried if one.kind == "popularity"]
    assert popularity == [pytest.approx(judge.popularity()["ndcg@20"])]
    assert {one.kind for one in choice.tried} == {"popularity", "start", "trained"}
    start = next(one for one in choice.tried if one.kind == "start")
    model = SHORT.with_values(start.settings).model
    assert start.value == pytest.approx(
        judge.value(*initial_embeddings(graph, model, SHORT.seed, unit=False)), abs=2e-3
    )
    table = choice.table("ndcg@20")
    assert best.text in table[1]
    assert len(table) == len(choice.tried) + 1
    assert choice.reason
    assert not choice.config.auto.race
    assert choice.config.quantization.bits == 8


def test_the_same_seed_and_steps_give_the_same_choice(choice, dataset):
    again = choose_settings(dataset, SHORT)
    assert again.config == choice.config
    assert [(one.settings, one.value) for one in again.tried] == [(one.settings, one.value) for one in choice.tried]


@pytest.mark.parametrize(("noise", "temperature"), [(0.97, 0.15), (0.0, 0.1)])
def test_of_what_is_about_equal_more_columns_take_the_colder_softmax(dataset, monkeypatch, noise, temperature):
    values = {0.15: 0.9, 0.1: 0.898}
    monkeypatch.setattr(race_module.Racer, "run", lambda _racer, loss, *_: values.get(loss.temperature, 0.5))
    # More columns are trained than raced unless the singular vectors beyond those are noise.
    monkeypatch.setattr(race_module, "_NOISE", noise)
    choice = choose_settings(dataset, AUTO.with_values({"auto.steps": 5000}))
    assert (choice.config.model.embedding_dim > 64) == (temperature == 0.1)
    assert choice.config.loss.temperature == temperature


def test_seconds_are_recorded_as_steps_that_repeat_the_choice(dataset):
    timed = choose_settings(dataset, AUTO.with_values({"auto.seconds": 5.0}))
    steps = timed.config.auto.steps
    assert steps > 0
    assert timed.config.auto.seconds is None
    assert all((one.auto.steps, one.auto.seconds) == (steps, None) for one in timed.fallbacks)
    assert choose_settings(dataset, AUTO.with_values({"auto.steps": steps})).config == timed.config


def test_interrupted_it_goes_on_after_what_it_has_tried(choice, dataset, tmp_path, monkeypatch):
    run = Racer.run
    left = [2]

    def interrupted(self, *arguments):
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        return run(self, *arguments)

    monkeypatch.setattr(Racer, "run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        choose_settings(dataset, SHORT, tmp_path)
    runs = []
    monkeypatch.setattr(Racer, "run", lambda self, *arguments: runs.append(arguments) or run(self, *arguments))
    again = choose_settings(dataset, SHORT, tmp_path)
    assert again.config == choice.config
    assert len(runs) == sum(one.kind == "trained" for one in choice.tried) - 2
    # Decided once, it isn't raced again.
    monkeypatch.setattr(race_module.Race, "run", lambda *_: pytest.fail("another race"))
    assert choose_settings(dataset, SHORT, tmp_path).config == choice.config
    assert Choice.load(tmp_path / FILE) == again
    assert [path.name for path in tmp_path.iterdir()] == [FILE]


def test_wishes_are_kept(dataset):
    wishes = {"model.embedding_dim": 24, "loss.temperature": 0.11, "training.batch_size": 256}
    wished = choose_settings(dataset, SHORT.with_values(wishes))
    assert all(one.settings["loss.temperature"] == 0.11 for one in wished.tried if one.kind == "trained")
    config = wished.config
    if config.training.max_epochs:
        assert (config.model.embedding_dim, config.loss.temperature, config.training.batch_size) == (24, 0.11, 256)


@pytest.mark.parametrize("how", ["file", "override", "python", "again"])
def test_a_default_that_is_given_is_a_wish(dataset, how):
    race, given = "auto: {race: true, steps: 20}\n", "model: {embedding_dim: 64}\nloss: {temperature: 0.15}\n"
    overrides = ("model.embedding_dim=64", "loss.temperature=0.15")
    config = Config.from_yaml(race + given) if how == "file" else Config.from_yaml(race, overrides)
    if how == "python":
        config = Config.from_yaml(race).with_values({"model.embedding_dim": 64, "loss.temperature": 0.15})
    if how == "again":
        config = Config.from_yaml(config.to_yaml())
    assert config.auto.keep == ("loss.temperature", "model.embedding_dim")
    graph = InteractionGraph.from_interactions(dataset.train, dataset.num_users, dataset.num_items)
    assert race_module.Race(dataset, config, graph, None, 0.0).with_settings(
        {"model.embedding_dim": 256, "loss.temperature": 0.2, "loss.user_balance": 0.5}
    ) == config.with_values({"loss.user_balance": 0.5, "auto.race": False})


@pytest.mark.parametrize(
    ("wish", "bits", "method"),
    [
        ({}, 8, "post_training"),
        ({"auto.bytes_per_item": 34}, 4, "distillation"),
        ({"quantization.bits": 1}, 1, "distillation"),
        ({"quantization.bits": 8}, 8, "post_training"),
        ({"quantization.bits": 1, "quantization.method": "post_training"}, 1, "post_training"),
        ({"quantization.bits": None}, None, "post_training"),
    ],
)
def test_few_bits_are_learnt_and_not_only_rounded(dataset, wish, bits, method):
    graph = InteractionGraph.from_interactions(dataset.train, dataset.num_users, dataset.num_items)
    race = race_module.Race(dataset, AUTO.with_values(wish), graph, None, 0.0)
    found = race.with_settings(race.trained_settings({})).quantization
    assert (found.bits, found.method) == (bits, method)


@pytest.mark.parametrize(
    ("wish", "most_items", "columns"),
    [
        ({}, 5000, 32),
        ({"ease.columns": 5}, 5000, 5),
        ({"ease.columns": 0}, 5000, 0),
        ({}, 10, 0),
        ({"quantization.bits": 8}, 5000, 32),
        # These would take more bytes than an item may.
        ({"quantization.bits": None}, 5000, 0),
        ({"quantization.bits": 1}, 5000, 0),
    ],
)
def test_ease_gets_the_bytes_that_trained_columns_leave(dataset, monkeypatch, wish, most_items, columns):
    monkeypatch.setattr(race_module, "_EASE_ITEMS", most_items)
    graph = InteractionGraph.from_interactions(dataset.train, dataset.num_users, dataset.num_items)
    config = AUTO.with_values({"auto.bytes_per_item": 98})
    config = config.with_values({**wish, "auto.keep": sorted(wish)})
    race = race_module.Race(dataset, config, graph, None, 0.0)
    race._dim = 64
    assert race.with_settings(race.trained_settings({})).ease.columns == columns


def test_what_needs_no_training_is_served_as_it_was_judged(dataset):
    wishes = {"training.max_epochs": 3, "propagation.solver": "exact", "propagation.t1": 2.0}
    wishes |= {"model.embedding_dim": 8, "quantization.bits": 1, "model.spectral_power": 1.0}
    choice = choose_settings(dataset, SHORT.with_values(wishes))
    for config in choice.fallbacks:
        assert config.training.max_epochs == 0
        assert not config.propagation.make_solver().propagates
        assert (config.model.embedding_dim, config.model.spectral_power) == (8, 1.0)
    assert choice.fallbacks[-1].quantization.bits is None
    starts = [one.settings for one in choice.tried if one.kind == "start"]
    assert {one["model.embedding_dim"] for one in starts} == {8}
    assert not any("model.spectral_power" in one for one in starts)


def test_strangers_get_popular_items_from_every_contestant(dataset):
    """As they do from what is served; only strangers are asked about, so that no contestant differs from popularity."""
    strangers = np.arange(dataset.num_users) % 3 == 0
    train = dataset.train.take(~strangers[dataset.train.user_index])
    valid = dataset.valid.take(strangers[dataset.valid.user_index])
    choice = choose_settings(replace(dataset, train=train, valid=valid), AUTO.with_values({"auto.steps": 20}))
    assert {one.kind for one in choice.tried} == {"popularity", "start", "trained"}
    assert len({one.value for one in choice.tried}) == 1


@pytest.mark.parametrize(
    "damage", ["{", "[]", "{}", '{"steps": 0, "tried": []}', '{"steps": 9, "tried": [{"kind": 1}]}']
)
@pytest.mark.parametrize("name", [FILE, "auto.progress.json"])
def test_a_damaged_file_of_a_race_is_named(dataset, tmp_path, name, damage):
    (tmp_path / name).write_text(damage)
    with pytest.raises(InputError, match=rf"{name}: the file is damaged .*; delete the unfinished run") as refused:
        choose_settings(dataset, SHORT, tmp_path)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("wish", [{"loss.name": "bpr"}, {"model.encoder": "lightgcn"}, {"model.initializer": "random"}])
def test_what_cannot_be_raced_is_left_alone(dataset, wish):
    choice = choose_settings(dataset, AUTO.with_values(wish))
    assert not choice.tried
    assert "nothing to race" in choice.reason
    (name, value) = next(iter(wish.items()))
    section, key = name.split(".")
    assert getattr(getattr(choice.config, section), key) == value


def test_without_validation_the_prior_decides(log_path):
    split = {"valid": 0.0, "test": 0.1}
    dataset = load_dataset(DataConfig(path=str(log_path), split=split), 1)
    choice = choose_settings(dataset, AUTO)
    graph = InteractionGraph.from_interactions(dataset.train, dataset.num_users, dataset.num_items)
    assert choice.config.loss.temperature == prior(graph)[0]["temperature"]
    assert "nothing is held out" in choice.reason


def _log(users, items):
    return "\n".join(["user_id,item_id", *(f"{user},{item}" for user, item in zip(users, items))]) + "\n"


RNG = np.random.default_rng(0)
ODD_LOGS = {
    "chance": _log(RNG.integers(0, 60, 500), RNG.zipf(1.5, 500) % 80),
    "three items for all": _log(np.repeat(np.arange(120), 3), np.tile([1, 2, 3], 120)),
    "one popular item": _log(np.r_[0:200, RNG.integers(0, 200, 400)], np.r_[[0] * 200, RNG.integers(1, 150, 400)]),
}


@pytest.mark.parametrize("name", ODD_LOGS)
def test_it_never_ends_below_popularity(tmp_path, name):
    (tmp_path / "log.csv").write_text(ODD_LOGS[name])
    dataset = load_dataset(DataConfig(path=str(tmp_path / "log.csv")), 1)
    result = train(dataset, SHORT, tmp_path / "run")
    assert result.valid["ndcg@20"] >= result.popularity["ndcg@20"] - 1e-6
    assert result.chosen
    run = RunDirectory.load(tmp_path / "run")
    assert run.config.auto.steps == 60
    assert json.loads((tmp_path / "run" / FILE).read_text())["tried"]


def test_a_training_that_ends_below_its_start_is_not_served(dataset, tmp_path, monkeypatch):
    """The race is made to prefer a training that ruins the start."""
    ruinous = {"training.learning_rate": 5.0, "training.schedule": "constant", "training.max_epochs": 2}
    choice = choose_settings(dataset, SHORT)
    ruined = Choice(choice.config.with_values(ruinous), choice.fallbacks, choice.tried, "chosen to fail")
    monkeypatch.setattr("tf_hqgnn.training.train.choose_settings", lambda *_: ruined)
    result = train(dataset, SHORT, tmp_path / "run")
    untrained = max(one.value for one in choice.tried if one.kind != "trained")
    assert result.valid["ndcg@20"] >= untrained - 2e-3
    assert "below the start, which needs no training" in result.chosen
    assert RunDirectory.load(tmp_path / "run").config.training.max_epochs == 0
    assert not list((tmp_path / "run").glob("*untrained*"))


def test_a_warm_start_takes_the_settings_of_the_model_before(dataset, tmp_path):
    before = SHORT.with_values({"auto.race": False, "loss.temperature": 0.17, "model.embedding_dim": 24})
    before = before.with_values({"ease.columns": 8, "ease.weight": 0.3, "ease.search": False})
    train(dataset, before.with_values({"training.max_epochs": 1}), tmp_path / "run")
    TrainedState.load(tmp_path / "run").save(tmp_path / "state")
    config, state = settings_of(TrainedState.load(tmp_path / "state"), AUTO, judged=True, num_items=100)
    assert state is not None
    assert (config.ease.columns, config.ease.weight) == (8, 0.3)
    # The catalogue has grown beyond what EASE can do: it is left out, and nothing fails.
    grown, _ = settings_of(TrainedState.load(tmp_path / "state"), AUTO, judged=True, num_items=20_001)
    assert grown.ease.columns == 0
    assert (config.loss.temperature, config.model.embedding_dim, config.auto.race) == (0.17, 24, False)
    untrained = before.with_values({"training.max_epochs": 0})
    train(dataset, untrained, tmp_path / "untrained")
    untrained_state = TrainedState.load(tmp_path / "untrained")
    assert settings_of(untrained_state, AUTO, judged=True, num_items=100) == (AUTO, None)
    # Nothing can be raced, as in `Recommender.partial_fit`: what won before is made anew.
    config, state = settings_of(untrained_state, AUTO, judged=False, num_items=100)
    assert (config.training.max_epochs, config.auto.race, state) == (0, False, None)


def test_a_cluster_is_told_to_race_elsewhere(dataset, tmp_path, monkeypatch):
    monkeypatch.setattr("tf_hqgnn.training.train.is_cluster", lambda _strategy: True)
    with pytest.raises(InputError, match=r"auto\.race: a race runs on one machine"):
        train(dataset, AUTO, tmp_path / "run")


def test_two_budgets_are_refused():
    with pytest.raises(InputError, match=r"give either auto\.seconds or auto\.steps"):
        Config().with_values({"auto.seconds": 3, "auto.steps": 3})


def test_the_report_and_the_last_line_say_what_was_chosen(run_command, log_path, tmp_path):
    settings = ("--set", f"data.path={log_path}", "--set", "training.steps_per_execution=4")
    done = run_command("train", "--out", tmp_path / "run", *settings, "--set", "auto.steps=60")
    assert done.code == 0, done.err
    assert "valid ndcg@20" in done.err
    chosen = json.loads(done.out)["chosen"]
    assert f"auto: {chosen}" in done.err
    page = (tmp_path / "run" / "report.html").read_text()
    assert "How the settings were chosen" in page
    assert page.count("<td>trained</td>") == sum(
        one["kind"] == "trained" for one in json.loads((tmp_path / "run" / FILE).read_text())["tried"]
    )
    refused = run_command("train", "spectral", "--seconds", 9, "--out", tmp_path / "other", *settings)
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    assert "--seconds limits the race that chooses settings" in refused.err


def test_after_a_model_without_training_ids_and_what_was_taken_stay_known(dataset, tmp_path):
    """The log of the next day lacks a user; the model before has learnt nothing, so that there is another race."""
    train(dataset, SHORT.with_values({"auto.race": False, "training.max_epochs": 0}), tmp_path / "run")
    gone = dataset.user_ids[0]
    rows = np.flatnonzero(dataset.train.user_index != 0)
    others = dataset.train.take(rows)
    next_day = dataclasses.replace(
        dataset,
        user_ids=dataset.user_ids[1:],
        train=Interactions(others.user_index - 1, others.item_index, others.timestamp),
        valid=_without_first(dataset.valid),
        test=_without_first(dataset.test),
    )
    state = TrainedState.load(tmp_path / "run")
    train(next_day, SHORT, tmp_path / "next", state=state)
    found = RunDirectory.load(tmp_path / "next").dataset
    assert gone in found.user_ids
    row = list(found.user_ids).index(gone)
    taken = found.item_ids[found.history().item_index[found.history().user_index == row]]
    expected = dataset.item_ids[dataset.train.item_index[dataset.train.user_index == 0]]
    assert set(expected) <= set(taken)


def _without_first(interactions):
    kept = interactions.take(np.flatnonzero(interactions.user_index != 0))
    return Interactions(kept.user_index - 1, kept.item_index, kept.timestamp)
