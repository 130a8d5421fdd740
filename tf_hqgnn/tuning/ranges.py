"""What a study searches: ranges of settings, checked against the configuration before anything is trained."""

from __future__ import annotations

from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from tf_hqgnn.config import Config, RangeConfig, TuneConfig
from tf_hqgnn.types import InputError

# Of the other sections nothing changes the full-precision ranking of the validation split, or everything does (data).
_SEARCHED = ("model", "loss", "training", "propagation")


def default_ranges(config: Config) -> dict[str, RangeConfig]:
    """What is searched where `config.tune` names nothing: the loss's ranges, the learning rate, the batch size.

    The propagation isn't among them: `training.propagation_search` tries its solvers and times on the trained rows
    after every training, so no trial has to be spent on them.
    """
    of_loss = config.loss.make().default_ranges()
    ranges = {f"loss.{setting}": RangeConfig.model_validate(values) for setting, values in of_loss.items()}
    ranges["training.learning_rate"] = RangeConfig(low=1e-3, high=3e-2, log=True)
    ranges["training.batch_size"] = RangeConfig(choices=(256, 512, 1024, 2048))
    return ranges


def search_space(config: Config) -> dict[str, BaseDistribution]:
    """The ranges of `config.tune`, or the default ones, as Optuna's distributions.

    Example:
    >>> config = Config.from_yaml("tune: {ranges: {model.embedding_dim: {low: 16, high: 128, log: true}}}")
    >>> search_space(config)
    {'model.embedding_dim': IntDistribution(high=128, log=True, low=16, step=1)}

    Raises:
      InputError: A setting is unknown or can't be searched, or the configuration refuses an end or a choice.
    """
    ranges = config.tune.ranges or default_ranges(config)
    return {setting: _distribution(config, setting, values) for setting, values in ranges.items()}


def choose(config: Config, settings: dict[str, Any], source: str = "trial") -> Config:
    """`config` with some of its settings, named `section.key`, replaced.

    Raises:
      InputError: A setting is unknown, or its value or the combination is refused; `source` starts the message.
    """
    return config.with_values(settings, source)


def current(config: Config, setting: str) -> Any:
    """The value of `section.key`."""
    value: Any = config
    for name in setting.split("."):
        value = getattr(value, name)
    return value


def trial_config(config: Config) -> Config:
    """As `config`, but trained for its full-precision ranking alone.

    No codes are made, the validation split isn't trained on in the end, and `tune` is left out.
    """
    quantization = config.quantization.model_copy(update={"bits": None})
    training = config.training.model_copy(update={"refit": False})
    return config.model_copy(update={"quantization": quantization, "training": training, "tune": TuneConfig()})


def _distribution(config: Config, setting: str, values: RangeConfig) -> BaseDistribution:
    source = f"tune.ranges.{setting}"
    section, separator, key = setting.partition(".")
    if section not in _SEARCHED or not separator or "." in key:
        raise InputError(f"{source}: expected section.key with a section of {', '.join(_SEARCHED)}")

    def accepted(value: Any) -> Any:
        """The value as the configuration holds it: 1 as 1.0 where the setting is a fraction."""
        return current(choose(config, {setting: value}, source), setting)

    if values.choices:
        return CategoricalDistribution(tuple(accepted(choice) for choice in values.choices))
    low, high = accepted(values.low), accepted(values.high)
    if isinstance(low, float) and isinstance(high, float):
        return FloatDistribution(low, high, log=values.log)
    if type(low) is int and type(high) is int:
        return IntDistribution(low, high, log=values.log)
    raise InputError(f"{source}: takes no numbers between low and high; give choices")
