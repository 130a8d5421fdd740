"""From the text of settings to their values, and from what pydantic finds wrong to a line that a user can act on."""

from __future__ import annotations

from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from tf_hqgnn.types import InputError


def parse_settings(text: str, overrides: tuple[str, ...], source: str) -> dict[str, Any]:
    """YAML with `section.key=value` overrides applied, not yet validated.

    Raises:
      InputError: Of `source`: the text isn't a mapping in YAML; or an override isn't of that form.
    """
    try:
        values = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise InputError(f"{source}: not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise InputError(f"{source}: expected settings as `section: {{key: value}}`, got {type(values).__name__}")
    for override in overrides:
        _apply_override(values, override)
    return values


def explain(error: ValidationError, settings: type[BaseModel]) -> str:
    """What is wrong with values for `settings`, in one line."""
    problems = []
    for problem in error.errors():
        where = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "extra_forbidden":
            problems.append(
                f"unknown setting {where}; known there: {', '.join(_fields(settings, problem['loc'][:-1]))}"
            )
        else:
            message = problem["msg"].removeprefix("Value error, ")
            problems.append(
                f"{where}: {message}, got {problem['input']!r}"
                if where and "dict" not in type(problem["input"]).__name__
                else f"{where}: {message}".removeprefix(": ")
            )
    return "; ".join(problems)


def _fields(settings: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """Names of the settings of the section at `location`."""
    section: Any = settings
    for part in location:
        # A mapping of names to sections, such as dict[str, RangeConfig], has any name.
        fields = getattr(section, "model_fields", None)
        section = fields[str(part)].annotation if fields else get_args(section)[1]
    return list(section.model_fields)


def _apply_override(values: dict[str, Any], override: str) -> None:
    key, separator, value = override.partition("=")
    if not separator or not key:
        raise InputError(f"--set {override}: expected section.key=value, for instance training.max_epochs=10")
    *sections, name = key.split(".")
    for section in sections:
        inner = values.setdefault(section, {})
        if not isinstance(inner, dict):
            raise InputError(f"--set {override}: {section} is a value, not a section")
        values = inner
    try:
        values[name] = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise InputError(f"--set {override}: the value isn't valid YAML") from error
