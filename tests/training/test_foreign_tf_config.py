"""A TF_CONFIG that was set for another program doesn't matter where one machine trains."""

import functools
import json

import pytest

FOREIGN = {
    "a worker of a cluster that isn't there": {
        "cluster": {"worker": ["a.invalid:2222", "b.invalid:2222"]},
        "task": {"type": "worker", "index": 1},
    },
    "an evaluator": {"cluster": {"chief": ["a.invalid:1"]}, "task": {"type": "evaluator", "index": 0}},
    "a parameter server": {"cluster": {"ps": ["a:1"], "chief": ["b:1"]}, "task": {"type": "ps", "index": 0}},
    "no JSON": None,
}
CONFIG = "configs/smoke.yaml"
# One epoch shows it.
SHORT = ("training.max_epochs=1", "training.jit_compile=false")


def given(*settings):
    return [part for setting in (*SHORT, *settings) for part in ("--set", setting)]


@pytest.fixture(scope="module")
def command(run_command):
    """Runs a command under a TF_CONFIG, which must succeed; returns what it printed."""

    def run(tf_config, *arguments):
        done = run_command(*arguments, TF_CONFIG="{not JSON" if tf_config is None else json.dumps(tf_config))
        assert done.code == 0, done.err
        return done.out

    return run


@pytest.fixture(scope="module")
def reference(tmp_path_factory, log_path):
    """Of a strategy: what a training without a TF_CONFIG ends with."""
    from tf_hqgnn.config import Config, DataConfig
    from tf_hqgnn.data.loading import load_dataset
    from tf_hqgnn.training.train import train

    folder = tmp_path_factory.mktemp("reference")
    dataset = load_dataset(DataConfig(path=str(log_path)), Config.load(CONFIG).seed)

    @functools.cache
    def trained(strategy):
        config = Config.load(CONFIG, [*SHORT, f"training.strategy={strategy}"])
        return train(dataset, config, folder / strategy).valid

    return trained


@pytest.mark.parametrize(
    ("strategy", "name"),
    [
        *(("none", name) for name in FOREIGN),
        *(pytest.param("mirrored", name, marks=pytest.mark.engines) for name in list(FOREIGN)[::3]),
    ],
)
def test_train_does_the_same_as_without_it(command, tmp_path, log_path, reference, strategy, name):
    settings = given(f"data.path={log_path}", f"training.strategy={strategy}")
    printed = command(FOREIGN[name], "train", CONFIG, "--out", tmp_path / "run", *settings)
    assert json.loads(printed)["valid"] == pytest.approx(reference(strategy))


def test_the_other_commands(command, tmp_path, log_path):
    tf_config = FOREIGN["a worker of a cluster that isn't there"]
    settings = given(f"data.path={log_path}")
    command(tf_config, "tune", CONFIG, "--out", tmp_path / "study", "--trials", 1, *settings)
    command(tf_config, "train", CONFIG, "--out", tmp_path / "run", *settings)
    assert json.loads(command(tf_config, "evaluate", tmp_path / "run", "--json"))["num_users"] > 0
    assert command(tf_config, "export", tmp_path / "run", "--out", tmp_path / "export").startswith("version 1")


def test_every_process_of_one_machine_is_the_chief(monkeypatch):
    """By this the trainer of the pipeline, too, knows that it is to write."""
    from tf_hqgnn.training.distribution import is_chief, make_strategy

    for tf_config in FOREIGN.values():
        monkeypatch.setenv("TF_CONFIG", "{not JSON" if tf_config is None else json.dumps(tf_config))
        assert is_chief(make_strategy("none"))
        assert is_chief(make_strategy("mirrored"))
