"""The settings of a run: those that a pipeline was compiled with, and in their place what its operator has chosen."""

from __future__ import annotations

from tf_hqgnn.config import Config


def read_settings(config: str, max_epochs: int) -> Config:
    """The settings, with other epochs, whatever training starts from, unless `max_epochs` is 0."""
    names = ("max_epochs", "warm_epochs") if max_epochs else ()
    return Config.from_yaml(config, tuple(f"training.{name}={max_epochs}" for name in names))


def read_data_settings(config: str, data_path: str, items_path: str) -> Config:
    """The settings, with another log and other items, unless these are ""."""
    given = {"data.path": data_path, "data.items_path": items_path}
    return Config.from_yaml(config).with_values({key: path for key, path in given.items() if path})
