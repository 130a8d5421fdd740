"""The search for settings: what is tried, what is stored, and what a killed one comes to."""

import json
import multiprocessing
import os
import re
import signal
import subprocess
import sys
from dataclasses import replace

import pytest

from tf_hqgnn.config import Config
from tf_hqgnn.data.splits import SplitDataset
from tf_hqgnn.logs import progress_on_stderr, quiet_optuna
from tf_hqgnn.report.study import render_study, study_hook
from tf_hqgnn.training.callbacks import DivergenceError
from tf_hqgnn.tuning import search
from tf_hqgnn.tuning.ranges import choose, default_ranges, search_space, trial_config
from tf_hqgnn.tuning.search import TuneResult, changed_settings, tune
from tf_hqgnn.tuning.study import Study, Trial, create_study
from tf_hqgnn.tuning.trials import Outcome, make_runner, run_trial
from tf_hqgnn.types import InputError

SETTINGS = """
seed: 11
model: {embedding_dim: 8, initializer: random}
training: {batch_size: 512, learning_rate: 0.01, max_epochs: 1, steps_per_execution: 4, jit_compile: false}
propagation: {search: false}
quantization: {bits: 2, distillation: {max_epochs: 1}}
tune:
  ranges:
    loss.temperature: {low: 0.05, high: 1, log: true}
    loss.popularity_correction: {low: 0, high: 1}
    training.batch_size: {choices: [256, 512]}
"""


@pytest.fixture(autouse=True)
def shown():
    """What the package logs, as a program shows it."""
    with progress_on_stderr():
        yield


@pytest.fixture(scope="module")
def config():
    return Config.from_yaml(SETTINGS)


@pytest.fixture(scope="module")
def finished(config, dataset, tmp_path_factory):
    out = tmp_path_factory.mktemp("tune") / "study"
    return out, tune(dataset, config, out, trials=3, command="the command")


def outcomes(trials):
    """Without the seconds, which no two runs share."""
    return [(trial.index, trial.settings, trial.outcome.value, trial.outcome.reason) for trial in trials]


def test_trial_0_is_the_configuration_and_the_best_is_no_worse(finished, config):
    _, result = finished
    first = result.trials[0]
    assert choose(config, first.settings) == config
    assert first.settings == {
        "loss.temperature": config.loss.temperature,
        "loss.popularity_correction": config.loss.popularity_correction,
        "training.batch_size": config.training.batch_size,
    }
    values = [trial.outcome.value for trial in result.trials]
    assert [trial.index for trial in result.trials] == [0, 1, 2]
    assert result.best.outcome.value == max(values) >= values[0]
    assert len(set(values)) > 1


def test_the_report_shows_every_trial_and_every_setting(finished, config, tmp_path):
    result = replace(finished[1], path=tmp_path / "best.yaml")
    study_hook(result, config)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    for trial in result.trials:
        row = [f"<td>{trial.index}</td>", f">{trial.outcome.value:.4f}</td>", f">{trial.outcome.seconds:,.1f}</td>"]
        (line,) = [line for line in page.splitlines() if all(part in line for part in row)]
        for value in trial.settings.values():
            assert f">{value:.4g}</td>" in line or f">{value}</td>" in line
        assert ('class="hit"' in line) == (trial is result.best)
    for setting in result.best.settings:
        assert f"<figcaption><code>{setting}</code>: best " in page
    assert f"best validation ndcg@20, trial {result.best.index}" in page
    # One page that loads nothing.
    assert not re.search(r"(src|href)=[\"'](?!#)", page)


def test_a_report_of_failed_trials_and_of_odd_names(config, tmp_path):
    config = config.with_values({"data.path": "<b>.csv"})
    failed = Trial(1, {"loss.temperature": 0.9}, Outcome(None, "loss <b>nan</b>", 1.0))
    tried = Trial(0, {"loss.temperature": 0.2}, Outcome(0.1, None, 2.0))
    page = render_study(TuneResult(tmp_path / "study" / "best.yaml", config, tried, (tried, failed)), config)
    assert "loss &lt;b&gt;nan&lt;/b&gt;" in page
    assert "<b>nan" not in page
    assert "The settings as they were given were the best." in page


def test_best_yaml_is_the_best_trials_settings_with_the_users_quantization(finished, config):
    out, result = finished
    best = Config.load(result.path)
    assert result.path == out / "best.yaml"
    assert best == result.config
    assert best.quantization == config.quantization
    assert best.tune.ranges == {}
    assert changed_settings(config, best).items() <= result.best.settings.items()
    for name, value in result.best.settings.items():
        section, key = name.split(".")
        assert best.model_dump()[section][key] == value
    head = [line for line in result.path.read_text().splitlines() if line.startswith("#")]
    assert head[0] == "# the command"
    assert head[1].startswith("# data: given: 600 users, 400 items")
    assert head[2] == "# seed: 11"
    assert head[3].startswith(
        f"# valid ndcg@20 {result.best.outcome.value:.6f}, trial {result.best.index} of 3 (0 failed)"
    )


def test_a_trial_leaves_little_behind_and_made_no_codes(finished):
    out, result = finished
    assert {path.name for path in out.iterdir()} == {
        ".lock",
        "best.yaml",
        "config.yaml",
        "data.sha256",
        "study.db",
        "trials",
    }
    for trial in result.trials:
        folder = out / "trials" / str(trial.index)
        assert {path.name for path in folder.iterdir()} == {"metrics.json", "history.csv"}
        metrics = json.loads((folder / "metrics.json").read_text())
        assert metrics["full_precision"] is None
        assert metrics["valid"]["ndcg@20"] == trial.outcome.value


KILLED = """
import os, signal, sys
from pathlib import Path
from tf_hqgnn.config import Config
from tf_hqgnn.data.splits import SplitDataset
from tf_hqgnn.training import train as training
from tf_hqgnn.tuning.search import tune
data, config, out = sys.argv[1:]
make = training.prepare
def die_in_trial_1(dataset, config, out, resume):
    partial = make(dataset, config, out, resume)
    if out.name == "1":
        os.kill(os.getpid(), signal.SIGKILL)
    return partial
training.prepare = die_in_trial_1
tune(SplitDataset.load(Path(data)), Config.load(config), Path(out), trials=3)
"""


def test_killed_and_resumed_ends_with_the_same_trials(finished, config, dataset, tmp_path, capsys, run_command):
    dataset.save(tmp_path / "data")
    (tmp_path / "config.yaml").write_text(config.to_yaml())
    out = tmp_path / "study"
    killed = run_command.run(["python", "-c", KILLED, tmp_path / "data", tmp_path / "config.yaml", out])
    assert killed.code == -signal.SIGKILL, killed.err
    assert (out / "trials" / "1.partial").exists()
    assert Config.load(out / "best.yaml")
    with pytest.raises(InputError, match="holds a study; add --resume"):
        tune(dataset, config, out, trials=4)
    other = config.model_copy(update={"seed": 5})
    with pytest.raises(InputError, match="begun with other settings"):
        tune(dataset, other, out, trials=4, resume=True)
    less = SplitDataset(**{**vars(dataset), "train": dataset.train.take(range(100))})
    with pytest.raises(InputError, match="begun on other data"):
        tune(less, config, out, trials=4, resume=True)
    capsys.readouterr()
    result = tune(dataset, config, out, trials=3, resume=True)
    lines = capsys.readouterr().err.splitlines()
    assert [line.split("  ")[0] for line in lines] == ["trial 1", "trial 2"]
    assert outcomes(result.trials) == outcomes(finished[1].trials)
    assert {path.name for path in (out / "trials").iterdir()} == {"0", "1", "2"}
    again = tune(dataset, config, out, trials=2, resume=True)
    assert outcomes(again.trials) == outcomes(result.trials)


def test_a_training_that_diverges_is_a_failed_trial(config, dataset, tmp_path, capsys):
    """Adam divides its steps by the gradient's size, so only an infinite rate breaks it for certain."""
    diverging = choose(
        config,
        {
            "training.learning_rate": 1e38,
            "training.max_epochs": 5,
            "tune.ranges": {"training.learning_rate": {"choices": [0.01]}},
        },
    )
    result = tune(dataset, diverging, tmp_path / "study", trials=2)
    failed, trained = result.trials
    assert failed.outcome.value is None
    assert "the loss became NaN or infinite at step" in failed.outcome.reason
    assert trained == result.best
    assert "trial 0  failed: the loss became NaN" in capsys.readouterr().err
    assert "(1 failed)" in result.path.read_text()
    assert {path.name for path in (tmp_path / "study" / "trials").iterdir()} == {"1"}


def trials_of(monkeypatch, run):
    """Trials that take no training: `run(config)` is their outcome."""
    monkeypatch.setattr("tf_hqgnn.tuning.trials.run_trial", lambda _dataset, config, _folder: run(config))


def test_all_trials_failed(config, dataset, tmp_path, monkeypatch):
    trials_of(monkeypatch, lambda _config: Outcome(None, "the loss became NaN", 1.0))
    with pytest.raises(DivergenceError, match="all 3 trials failed; the first: the loss became NaN"):
        tune(dataset, config, tmp_path / "study", trials=3)
    assert not (tmp_path / "study" / "best.yaml").exists()


def test_settings_that_are_refused_together_are_a_failed_trial(config, dataset, tmp_path, monkeypatch):
    def refuse(config, settings, *source):
        if settings["training.batch_size"] == 256:
            raise InputError("trial: these don't go together")
        return choose(config, settings, *source)

    trials_of(monkeypatch, lambda _config: Outcome(0.5, None, 1.0))
    monkeypatch.setattr(search, "choose", refuse)
    result = tune(dataset, config, tmp_path / "study", trials=8)
    refused = [trial for trial in result.trials if trial.outcome.reason]
    assert 0 < len(refused) < 8
    assert {trial.settings["training.batch_size"] for trial in refused} == {256}
    assert {trial.outcome.reason for trial in refused} == {"trial: these don't go together"}


def test_ctrl_c_keeps_the_finished_trials_and_nothing_of_the_running_one(
    config, dataset, tmp_path, monkeypatch, capsys
):
    seen = []

    def run(config):
        seen.append(config)
        if len(seen) == 3:
            (tmp_path / "study" / "trials" / "2.partial").mkdir()
            raise KeyboardInterrupt
        return Outcome(config.loss.temperature, None, 1.0)

    trials_of(monkeypatch, run)
    with pytest.raises(KeyboardInterrupt):
        tune(dataset, config, tmp_path / "study", trials=4)
    assert "2 finished trials are kept in" in capsys.readouterr().err
    assert list((tmp_path / "study" / "trials").iterdir()) == []
    result = tune(dataset, config, tmp_path / "study", trials=4, resume=True)
    assert seen[2] == seen[3]
    assert [trial.index for trial in result.trials] == [0, 1, 2, 3]


def test_two_searches_in_one_directory(config, dataset, tmp_path, monkeypatch):
    def run_another(_trial):
        with pytest.raises(InputError, match="another search is at work in"):
            tune(dataset, config, tmp_path / "study", resume=True)
        return Outcome(0.5, None, 1.0)

    trials_of(monkeypatch, run_another)
    tune(dataset, config, tmp_path / "study", trials=1)


def draw(path, config, seed, stop_after=()):
    """12 settings of a study whose process ends after each index in `stop_after`, with another one running."""
    space = search_space(config)
    start = {"loss.temperature": 0.12, "loss.popularity_correction": 0.5, "training.batch_size": 512}
    with quiet_optuna():
        create_study(path)
        study = Study(path, space, start, seed)
        while len(study.trials) < 12:
            index, settings = study.ask()
            value = None if index % 5 == 4 else -abs(settings["loss.temperature"] - 0.3)
            study.tell(index, Outcome(value, "diverged" if value is None else None, 1.0))
            if index in stop_after:
                study.ask()
                study = Study(path, space, start, seed)
    return [trial.settings for trial in study.trials]


def test_draws_depend_on_the_seed_and_on_finished_trials_alone(config, tmp_path):
    """10 of them are random, the others are TPE's."""
    names = ("a?b=%20.db", "stopped.db", "other.db")  # a path is no URL
    whole = draw(tmp_path / names[0], config, 3)
    assert (tmp_path / names[0]).is_file()
    assert draw(tmp_path / names[1], config, 3, stop_after=(0, 4, 10)) == whole
    other = draw(tmp_path / names[2], config, 4)
    assert other[0] == whole[0]
    assert all(a != b for a, b in zip(other[1:], whole[1:]))
    assert len({tuple(settings.values()) for settings in whole}) == 12


def test_a_worker_trains_as_this_process_does_and_one_that_dies_is_noticed(finished, config, dataset, tmp_path):
    _, result = finished
    trial = result.trials[1]
    with make_runner(dataset, 2) as runner:
        chosen = trial_config(choose(config, trial.settings))
        runner.submit(trial.index, chosen, tmp_path / "1")
        index, outcome = runner.next()
        assert (index, outcome.value) == (trial.index, trial.outcome.value)
        (process,) = multiprocessing.active_children()
        os.kill(process.pid, signal.SIGSTOP)  # or it might be done before it is killed
        runner.submit(7, chosen, tmp_path / "7")
        process.kill()
        with pytest.raises(ConnectionError, match=r"process of trial 7 ended before its training.*fewer --jobs"):
            runner.next()
    assert not multiprocessing.active_children()


def test_the_command_line_starts_without_optuna():
    code = "import sys, tf_hqgnn.cli.commands; print('optuna' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"


def test_the_default_ranges_hold_what_the_loss_reads():
    both = {"training.learning_rate", "training.batch_size"}
    softmax = default_ranges(Config())
    assert set(softmax) == {"loss.temperature", "loss.popularity_correction", "loss.user_balance", *both}
    assert "loss.gamma" in default_ranges(Config.from_yaml("loss: {name: alignment_uniformity}"))
    assert set(default_ranges(Config.from_yaml("loss: {name: bpr}"))) == both
    assert set(search_space(Config())) == set(softmax)


@pytest.mark.parametrize(
    ("ranges", "message"),
    [
        ("loss.temp: {low: 1, high: 2}", r"tune.ranges.loss.temp: unknown setting loss.temp; known there: name, gamma"),
        ("loss.temperature: {low: 0.3, high: 0.1}", r"loss.temperature: low must be below high, got 0.3 and 0.1"),
        ("loss.temperature: {low: .nan, high: 0.1}", r"low must be below high, got nan"),
        ("loss.gamma: {low: 0, high: 1, log: true}", r"low must be above 0 where log is true, got 0"),
        ("loss.temperature: {low: 0, high: 1}", r"loss.temperature: .*greater than 0, got 0"),
        ("loss.temperature: {low: 0.1}", r"loss.temperature: give low and high, or choices"),
        ("loss.gamma: {low: 0, high: 1, choices: [1]}", r"either low and high \(and log\) or choices, not both"),
        ("loss.temperature: {lo: 0.1}", r"unknown setting tune.ranges.loss.temperature.lo; known there: low, high"),
        ("training.batch_size: {low: 2.5, high: 9}", r"tune.ranges.training.batch_size: .*integer"),
        ("training.batch_size: {choices: [512, 1]}", r"training.batch_size: .*greater than or equal to 2, got 1"),
        ("training.jit_compile: {low: 0, high: 1}", r"takes no numbers between low and high; give choices"),
        ("propagation.solver: {choices: [magic]}", r"propagation.solver: .*got 'magic'"),
        ("quantization.bits: {choices: [1]}", r"expected section.key with a section of model, loss, training, prop"),
        ("data.k_core: {choices: [1, 2]}", r"tune.ranges.data.k_core: expected section.key"),
        ("seed: {choices: [1, 2]}", r"tune.ranges.seed: expected section.key"),
        ("loss.temperature.x: {low: 1, high: 2}", r"expected section.key"),
    ],
)
def test_a_range_that_cannot_be_searched_is_one_line_before_anything_is_read(ranges, message, tmp_path):
    with pytest.raises(InputError, match=message) as error:
        search.check_tune(Config.from_yaml(f"tune: {{ranges: {{{ranges}}}}}"), tmp_path / "study", resume=False)
    assert "\n" not in str(error.value)


def test_ends_and_choices_take_the_settings_type():
    config = Config.from_yaml("tune: {ranges: {loss.gamma: {low: 0, high: 1}, loss.temperature: {choices: [1, 1e-1]}}}")
    space = search_space(config)
    assert [type(space["loss.gamma"].low), type(space["loss.gamma"].high)] == [float, float]
    assert space["loss.temperature"].choices == (1.0, 0.1)


def test_what_a_search_refuses(config, dataset, tmp_path):
    nothing = SplitDataset(**{**vars(dataset), "valid": dataset.valid.take(range(0))})
    with pytest.raises(InputError, match=r"needs validation interactions: set data.split.valid above 0"):
        tune(nothing, config, tmp_path / "study")
    workers = config.model_copy(update={"training": config.training.model_copy(update={"strategy": "multi_worker"})})
    with pytest.raises(InputError, match="the trials of a search run on one machine; tune with none or mirrored"):
        search.tune(dataset, workers, tmp_path / "study", trials=1)
    with pytest.raises(InputError, match="trials: expected at least 1, got 0"):
        tune(dataset, config, tmp_path / "study", trials=0)
    with pytest.raises(InputError, match="jobs: expected at least 1, got 0"):
        tune(dataset, config, tmp_path / "study", jobs=0)
    for resume in (False, True):
        with pytest.raises(InputError, match="exists already and holds no study; choose another --out"):
            tune(dataset, config, tmp_path, resume=resume)
    assert list(tmp_path.iterdir()) == []


def test_a_trial_neither_codes_nor_trains_on_validation(config):
    chosen = trial_config(choose(config, {"training.refit": True}))
    assert (chosen.quantization.bits, chosen.training.refit, chosen.tune.ranges) == (None, False, {})
    assert chosen.loss == config.loss


def test_other_errors_of_a_trial_are_raised(config, dataset, tmp_path):
    one = SplitDataset(**{**vars(dataset), "train": dataset.train.take(range(1))})
    with pytest.raises(InputError, match="at least 2 interactions"):
        run_trial(one, config, tmp_path / "0")
