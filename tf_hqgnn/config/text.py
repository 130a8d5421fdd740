"""From the text of settings to their values, and from what pydantic finds wrong to a line that a user can act on."""

from __future__ import annotations

import reprlib
import types
from collections.abc import Callable
from typing import Any, Literal, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from tf_hqgnn.types import InputError

# As a setting that is text or nothing is set to nothing.
_NOTHING = ("null", "Null", "NULL", "")
_SHOWN = 80


def parse_settings(text: str, overrides: tuple[str, ...], source: str, settings: type[BaseModel]) -> dict[str, Any]:
    """YAML with `section.key=value` overrides applied, not yet validated.

    The value of an override is YAML, too, unless the setting is a text: that is taken as it is, `#` and quotes
    included, except that `null` leaves it out.

    Args:
      text: YAML.
      overrides: each `section.key=value`.
      source: names the text in messages.
      settings: says which settings are texts.

    Raises:
      InputError: The text isn't a mapping in YAML; or an override isn't of that form.
    """
    try:
        values = yaml.safe_load(text) or {}
    except (yaml.YAMLError, ValueError) as error:
        raise InputError(f"{source}: not valid YAML: {' '.join(str(error).split())}") from error
    except RecursionError as error:
        raise InputError(f"{source}: not valid YAML: brackets within brackets, too many of them") from error
    if not isinstance(values, dict):
        raise InputError(f"{source}: expected settings as `section: {{key: value}}`, got {type(values).__name__}")
    for override in overrides:
        key, separator, value = override.partition("=")
        if not separator or not key:
            raise InputError(f"--set {override}: expected section.key=value, for instance training.max_epochs=10")
        set_value(values, key, _override_value(override, key, value, settings), f"--set {override}")
    return values


def set_value(values: dict[str, Any], key: str, value: Any, source: str) -> None:
    """Puts a value into nested mappings.

    Args:
      values: of a whole configuration.
      key: `section.key`.
      value: of the setting.
      source: names the setting in messages.

    Raises:
      InputError: On the way to the key there is a value.

    Example:
      >>> values = {"data": {"k_core": 5}}
      >>> set_value(values, "data.path", "log.csv", "--set")
      >>> values
      {'data': {'k_core': 5, 'path': 'log.csv'}}
    """
    *sections, name = key.split(".")
    for section in sections:
        inner = values.setdefault(section, {})
        if not isinstance(inner, dict):
            raise InputError(f"{source}: {section} is a value, not a section")
        values = inner
    values[name] = value


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
            if problem["type"] == "string_type":
                message += " (in YAML, put it in quotes)"
            problems.append(
                f"{where}: {message}, got {_shown(problem['input'])}"
                if where and "dict" not in type(problem["input"]).__name__
                else f"{where}: {message}".removeprefix(": ")
            )
    return "; ".join(problems)


def _shown(value: Any) -> str:
    """A value in some 60 characters: YAML's aliases can make one that is larger than the memory when it is written."""
    shown = reprlib.Repr()
    shown.maxstring = shown.maxother = 60
    shown.maxlevel, shown.maxlist, shown.maxtuple, shown.maxdict = 2, 4, 4, 4
    return shown.repr(value)


def _fields(settings: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """Names of the settings of the section at `location`."""
    section: Any = settings
    for part in location:
        # A mapping of names to sections, such as dict[str, RangeConfig], has any name.
        fields = getattr(section, "model_fields", None)
        section = fields[str(part)].annotation if fields else get_args(section)[1]
    known: Callable[[], list[str]] = getattr(section, "setting_names", lambda: list(section.model_fields))
    return known()


def _override_value(override: str, key: str, text: str, settings: type[BaseModel]) -> Any:
    if _is_text(_annotation(settings, key.split("."))):
        return None if text in _NOTHING else text
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        shown = override if len(override) <= _SHOWN else f"{override[:_SHOWN]}..."
        raise InputError(f"--set {shown}: the value isn't valid YAML; put it in quotes, or mend it") from error


def _annotation(settings: type[BaseModel], names: list[str]) -> Any:
    """The type of the setting with these names, None if there is none."""
    section: Any = settings
    for name in names:
        types_of: Callable[[], dict[str, Any]] = getattr(section, "setting_types", dict)
        section = types_of().get(name)
    return section


def _is_text(annotation: Any) -> bool:
    """Whether a setting of this type is a string, whatever is given; or such a string or null."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return all(isinstance(value, str) for value in arguments)
    if origin in (Union, types.UnionType):
        return all(_is_text(part) for part in arguments if part is not type(None))
    return annotation is str
