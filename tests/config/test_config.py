"""Settings: strict, with errors that say how to mend them."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from tf_hqgnn.config import Config
from tf_hqgnn.types import InputError

CONFIGS = sorted((Path(__file__).resolve().parents[2] / "configs").glob("*.yaml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_every_config_in_the_project_loads_and_round_trips(path):
    config = Config.load(path)
    assert Config.from_yaml(config.to_yaml()) == config


def test_overrides_reach_nested_settings():
    config = Config.from_yaml("seed: 3", ("data.split.valid=0.2", "retrieval.num_leaves=7", "data.path=x=y"))
    assert (config.seed, config.data.split.valid, config.retrieval.num_leaves, config.data.path) == (3, 0.2, 7, "x=y")


@pytest.mark.parametrize(
    ("text", "overrides", "message"),
    [
        ("sed: 1", (), r"unknown setting sed; known there: seed, data, model"),
        ("loss: {nam: bpr}", (), r"unknown setting loss.nam; known there: name, gamma"),
        ("training: {max_epochs: -1}", (), r"training.max_epochs: .*greater than or equal to 0, got -1"),
        ("propagation: {solver: magic}", (), r"propagation.solver: .*'euler'.*got 'magic'"),
        ("data: {path: a, train_path: b, test_path: c}", (), "either data.path or data.train_path"),
        ("data: {path: a, valid_path: b}", (), "data.valid_path goes with data.train_path"),
        ("data: {train_path: b}", (), "go together: one of them is missing"),
        ("quantization: {estimator: ewgs}", (), "delta must be above 0 with the estimator ewgs"),
        ("quantization: {delta: 0.1}", (), "delta must be above 0 with the estimator ewgs, and 0 otherwise; got 0.1"),
        ("quantization: {bits: 9}", (), "quantization.bits: .*less than or equal to 8, got 9"),
        (
            "quantization: {bits: 1, method: fine_tuning}",
            (),
            "set propagation.solver: none and propagation.normalize: false",
        ),
        (
            "quantization: {bits: 1, method: fine_tuning}\npropagation: {solver: none, normalize: false}",
            (),
            "loss softmax has no exact Hessian trace here: set quantization.trace: hutchinson",
        ),
        ("[1, 2]", (), "expected settings as `section: {key: value}`, got list"),
        ("a: [", (), "not valid YAML"),
        ("", ("seed",), "--set seed: expected section.key=value"),
        ("seed: 1", ("seed.x=2",), "--set seed.x=2: seed is a value, not a section"),
        ("", ("seed=[",), "the value isn't valid YAML"),
    ],
)
def test_errors_say_what_came_and_what_was_expected(text, overrides, message):
    with pytest.raises(InputError, match=message) as error:
        Config.from_yaml(text, overrides)
    assert "\n" not in str(error.value)


def test_a_missing_file_and_bytes_that_are_no_text(tmp_path):
    with pytest.raises(InputError, match="No such file"):
        Config.load(tmp_path / "absent.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(InputError, match="not UTF-8"):
        Config.load(tmp_path / "binary.yaml")


def test_settings_are_frozen():
    with pytest.raises(ValidationError, match="frozen"):
        Config().seed = 3


def test_the_default_file_spells_out_the_defaults():
    """So that a pipeline run without a config and one with configs/default.yaml are the same."""
    assert Config.load(CONFIGS[0].with_name("default.yaml")) == Config()
