"""The names of all settings, and which one a misspelt name means."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from typing import Any

from tf_hqgnn.config.presets import find_config
from tf_hqgnn.config.section import Section
from tf_hqgnn.config.settings import Config
from tf_hqgnn.types import InputError


def setting_names(section: type[Section] = Config, prefix: str = "") -> list[str]:
    """Every setting, as `section.key`.

    Example:
      >>> "training.max_epochs" in setting_names(), "seed" in setting_names()
      (True, True)
    """
    names = []
    for name, kind in section.setting_types().items():
        if isinstance(kind, type) and issubclass(kind, Section):
            names += setting_names(kind, f"{prefix}{name}.")
        else:
            names.append(f"{prefix}{name}")
    return names


def differing_settings(first: Config, second: Config) -> dict[str, tuple[Any, Any]]:
    """Return the settings in which two configurations differ, by `section.key`, each with its two values.

    Example:
      >>> differing_settings(Config(), Config.from_yaml("loss: {temperature: 0.3}"))
      {'loss.temperature': (0.15, 0.3)}
    """
    values = [_by_name(config) for config in (first, second)]
    return {name: (values[0][name], values[1][name]) for name in values[0] if values[0][name] != values[1][name]}


def _by_name(config: Config) -> dict[str, Any]:
    """The value of every setting as YAML has it; None for those of a loss that isn't chosen and not given."""
    found, dumped = {}, config.model_dump(mode="json")
    for name in setting_names():
        value: Any = dumped
        for part in name.split("."):
            value = value.get(part)
        found[name] = value
    return found


def check_setting_name(name: str, also: tuple[str, ...] = ()) -> None:
    """Refuses a name that isn't a setting's, and says which one was meant.

    Args:
      name: as it was given.
      also: other names that are expected there.

    Raises:
      InputError: There is no such setting.

    Example:
      >>> check_setting_name("training.max_epoch")
      Traceback (most recent call last):
      ...
      tf_hqgnn.types.InputError: unknown setting 'training.max_epoch'; did you mean 'training.max_epochs'?
    """
    names = setting_names()
    if name in names or name in also:
        return
    raise InputError(f"unknown setting {name!r}; {_hint(name, [*also, *names])}")


def _hint(name: str, names: list[str]) -> str:
    ends: dict[str, list[str]] = {}
    for one in names:
        ends.setdefault(one.rpartition(".")[2], []).append(one)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.75)
    close = close or next(iter(ends[key] for key in difflib.get_close_matches(name.rpartition(".")[2], ends, n=1)), [])
    if not close:
        return f"expected section.key, such as {names[-1]!r} or 'training.max_epochs'"
    return f"did you mean {' or '.join(map(repr, close[:3]))}?"


def resolve(
    config: Any, changed: Mapping[str, Any], unless_given: Mapping[str, Any], also: tuple[str, ...] = ()
) -> Config:
    """All settings, from what a caller of Python gives.

    Args:
      config: the name of a preset, the path of a file, or a `Config`.
      changed: by `section.key`, settings in place of those of `config`.
      unless_given: by `section.key`, settings where neither of the two says anything.
      also: names that messages may mean besides those of settings.

    Raises:
      InputError: There is no such preset, file or setting, or a value is out of range.

    Example:
      >>> resolve(Config(), {"training.max_epochs": 3}, {"data.split.test": 0.0}).data.split.test
      0.0
    """
    for name in changed:
        check_setting_name(name, also)
    if isinstance(config, str | os.PathLike):
        config = Config.load(find_config(os.fspath(config)))
    if not isinstance(config, Config):
        raise InputError(f"config: expected a preset, the path of a file or a Config, got {config!r}")
    values = {name: value for name, value in unless_given.items() if not is_given(config, name)}
    return config.with_values(values | {name: _plain(value) for name, value in changed.items()}, "Recommender")


def is_given(config: Config, name: str) -> bool:
    """Whether a setting, named `section.key`, was given, and isn't there by default.

    Example:
      >>> config = Config.from_yaml("training: {refit: false}")
      >>> is_given(config, "training.refit"), is_given(config, "training.max_epochs")
      (True, False)
    """
    *sections, key = name.split(".")
    section: Section = config
    for one in sections:
        section = getattr(section, one)
    return key in section.model_fields_set


def _plain(value: Any) -> Any:
    """A value as YAML would have it: NumPy's numbers and paths are taken for what they stand for."""
    if hasattr(value, "item") and hasattr(value, "dtype"):
        return value.item()
    return os.fspath(value) if isinstance(value, os.PathLike) else value
