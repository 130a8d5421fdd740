"""What the runners' command lines have in common: mistakes told in one line, the settings and the thresholds."""

from __future__ import annotations

import argparse
from typing import NoReturn

from pydantic import ValidationError

from tf_hqgnn.config import Config
from tf_hqgnn.tfx.thresholds import Thresholds
from tf_hqgnn.types import InputError


class Parser(argparse.ArgumentParser):
    """Reports a mistake in one line, as every other is reported."""

    def error(self, message: str) -> NoReturn:
        """Raises InputError."""
        raise InputError(f"{message}; --help lists the options")


def add_settings(parser: argparse.ArgumentParser) -> None:
    """Adds --config, --set and an option per threshold."""
    parser.add_argument("--config", help="YAML of settings (configs/)")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE", dest="overrides")
    for name, field in Thresholds.model_fields.items():
        option = f"--{name.replace('_', '-')}"
        text = f"{field.description}; default %(default)s"
        number = int if field.annotation is int else float
        parser.add_argument(option, type=number, default=field.default, help=text)


def read_config(options: argparse.Namespace) -> Config:
    """The settings of --config with those of --set."""
    overrides = tuple(options.overrides)
    return Config.load(options.config, overrides) if options.config else Config.from_yaml("", overrides)


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
