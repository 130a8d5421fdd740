"""Settings: strict, with errors that say how to mend them."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from tf_hqgnn.config import Config
from tf_hqgnn.losses.bpr import BPR
from tf_hqgnn.losses.loss import LOSSES
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
        ("propagation: {solver: magic}", (), r"propagation.solver: .*euler.*got 'magic'"),
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


TEXTS = [
    "x #y.csv",
    "{SPAN}.csv",
    "2024",
    "no",
    "@x",
    "'q'",
    "a: b",
    "[x",
    "*",
    "&a",
    "!t",
    "%d",
    "~",
    " x ",
    "1e3",
    "|",
]


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("setting", ["data.path", "data.items_path", "data.quarantine_path", "training.warm_start"])
def test_a_text_setting_takes_the_text_as_it_is(setting, text):
    section, name = setting.split(".")
    config = Config.from_yaml("", (f"{setting}={text}",))
    assert getattr(getattr(config, section), name) == text
    assert Config.from_yaml(config.to_yaml()) == config


@pytest.mark.parametrize("text", TEXTS)
def test_a_text_setting_of_a_loss_takes_the_text_as_it_is(text):
    class Kernel(BPR):
        kernel: str = "a"
        window: int = 3

    LOSSES.register("kernel")(Kernel)
    try:
        for overrides in (("loss.name=kernel", f"loss.kernel={text}"), (f"loss.kernel={text}", "loss.name=kernel")):
            config = Config.from_yaml("", (*overrides, "loss.window=5"))
            assert (config.loss.make().kernel, config.loss.make().window) == (text, 5)
            assert Config.from_yaml(config.to_yaml()) == config
    finally:
        LOSSES.remove("kernel")


BOOLEANS = ["seed", "training.batch_size", "data.min_rating", "model.embedding_dim", "loss.weight_decay"]


@pytest.mark.parametrize("setting", [*BOOLEANS, "loss.temperature", "quantization.bits", "data.max_growth"])
@pytest.mark.parametrize("text", ["yes", "no", "true", "off"])
def test_true_and_false_are_no_numbers(setting, text):
    came = "true" if text in ("yes", "true") else "false"
    with pytest.raises(InputError, match=rf"{setting.split('.')[-1]} came as {came} \(in YAML also yes") as caught:
        Config.from_yaml("", (f"{setting}={text}",))
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match=f"came as {came}"):
        Config.from_yaml("", (f"evaluation.k=[5, {text}]",))


@pytest.mark.parametrize("value", ["[" * 2000, "{a: " * 2000, "2024-99-99", "[x", "&a [*a"])
def test_what_yaml_cannot_read_is_one_short_line(value):
    with pytest.raises(
        InputError, match=r"^--set training\.batch_size=.*: the value isn't valid YAML; put it"
    ) as caught:
        Config.from_yaml("", (f"training.batch_size={value}",))
    assert len(str(caught.value)) < 200
    with pytest.raises(InputError, match=r"^config: not valid YAML: [^\n]*$"):
        Config.from_yaml(f"seed: {value}")


@pytest.mark.parametrize("text", ["null", "Null", "NULL", ""])
def test_null_stays_null(text):
    config = Config.from_yaml("data: {path: log.csv}", (f"data.path={text}", f"training.warm_start={text}"))
    assert (config.data.path, config.training.warm_start) == (None, None)


def test_other_settings_are_read_as_yaml():
    overrides = ("training.refit=no", "quantization.bits=null", "evaluation.k=[5, 7]", "training.learning_rate=1e-3")
    config = Config.from_yaml("training: {refit: true}\nquantization: {bits: 2}", (*overrides, "loss={name: bpr}"))
    assert (config.training.refit, config.quantization.bits, config.evaluation.k) == (False, None, (5, 7))
    assert (config.training.learning_rate, config.loss.name) == (0.001, "bpr")


def test_a_choice_takes_its_text_and_refuses_others():
    assert Config.from_yaml("", ("propagation.solver=none",)).propagation.solver == "none"
    with pytest.raises(InputError, match=r"propagation\.solver: .*got 'no'"):
        Config.from_yaml("", ("propagation.solver=no",))


def test_a_number_in_the_place_of_a_text_is_refused_in_yaml():
    with pytest.raises(InputError, match=r"data\.path: .*valid string \(in YAML, put it in quotes\), got 2024"):
        Config.from_yaml("data: {path: 2024}")


def test_values_are_replaced_without_going_through_yaml():
    config = Config.from_yaml("loss: {name: bpr}").with_values({"data.path": "no #1", "loss.num_negatives": 3})
    assert (config.data.path, config.loss.name, config.loss.num_negatives) == ("no #1", "bpr", 3)
    with pytest.raises(InputError, match=r"^trial: unknown setting loss\.nam"):
        config.with_values({"loss.nam": 1}, "trial")
    with pytest.raises(InputError, match=r"^trial: seed is a value, not a section"):
        config.with_values({"seed.x": 1}, "trial")
