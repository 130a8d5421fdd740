"""Reads the settings and the thresholds from the options that both runners have."""

from __future__ import annotations

import argparse

from pydantic import ValidationError

from tf_hqgnn.config import Config
from tf_hqgnn.config.names import is_given
from tf_hqgnn.config.presets import find_config
from tf_hqgnn.tfx.thresholds import Thresholds
from tf_hqgnn.types import InputError


def read_config(options: argparse.Namespace) -> Config:
    """The settings of --config with those of --set; unless they say otherwise, what is pushed learns the whole log."""
    overrides = tuple(options.overrides)
    given = Config.load(find_config(options.config or "auto"), overrides)
    return given if is_given(given, "training.refit") else given.with_values({"training.refit": "all"})


def read_thresholds(options: argparse.Namespace) -> Thresholds:
    """The thresholds.

    Raises:
      InputError: One is out of range.
    """
    try:
        return Thresholds(**{name: getattr(options, name) for name in Thresholds.model_fields})
    except ValidationError as error:
        problem = error.errors()[0]
        name = str(problem["loc"][0]).replace("_", "-")
        raise InputError(f"--{name} {problem['input']}: {problem['msg'].lower()}") from error
