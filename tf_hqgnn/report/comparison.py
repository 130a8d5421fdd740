"""Two training runs side by side: settings that differ, metrics, seconds and bytes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tf_hqgnn.config import Config
from tf_hqgnn.config.names import differing_settings
from tf_hqgnn.report.overview import bytes_per_row
from tf_hqgnn.runs.run_directory import RunDirectory

# What says where a run reads from, and nothing about how it trains.
_PLACES = ("data.path", "data.train_path", "data.valid_path", "data.test_path", "data.items_path", "data.users_path")


@dataclass(frozen=True)
class Comparison:
    """How two runs differ. Each pair holds the value of the first run and that of the second.

    Args:
      runs: the folders of the two runs.
      settings: by `section.key`, the settings that differ.
      metrics: by name, metrics on the validation split; None where a run hasn't measured one.
      epochs: epochs of training, and which of them was kept: "10, best 5".
      seconds: of training.
      user_bytes: bytes of a user's embedding as it is served.
      item_bytes: bytes of an item's embedding as it is served.
      same_data: whether both runs have the same users, items and splits, without which metrics can't be compared.
    """

    runs: tuple[str, str]
    settings: Mapping[str, tuple[Any, Any]]
    metrics: Mapping[str, tuple[float | None, float | None]]
    epochs: tuple[str, str]
    seconds: tuple[float, float]
    user_bytes: tuple[float, float]
    item_bytes: tuple[float, float]
    same_data: bool


def compare_runs(first: RunDirectory, second: RunDirectory) -> Comparison:
    """Compare two finished runs by what their trainings measured; nothing is ranked anew.

    Args:
      first: a run.
      second: another run.
    """
    same_data = first.dataset.fingerprint() == second.dataset.fingerprint()
    bytes_of = bytes_per_row(first), bytes_per_row(second)
    return Comparison(
        runs=(str(first.path), str(second.path)),
        settings=settings_that_matter(first.config, second.config, same_data),
        metrics={
            name: (first.metrics["valid"].get(name), second.metrics["valid"].get(name))
            for name in {**first.metrics["valid"], **second.metrics["valid"]}
        },
        epochs=(_epochs(first), _epochs(second)),
        seconds=(first.metrics["seconds"], second.metrics["seconds"]),
        user_bytes=(bytes_of[0][0], bytes_of[1][0]),
        item_bytes=(bytes_of[0][1], bytes_of[1][1]),
        same_data=same_data,
    )


def settings_that_matter(first: Config, second: Config, same_data: bool) -> dict[str, tuple[Any, Any]]:
    """Return the settings in which two trainings differ, with the values of both.

    Args:
      first: settings of a training.
      second: those of another one.
      same_data: whether both had the same log, wherever it was.

    Example:
      >>> from tf_hqgnn.config import Config
      >>> mine = Config().with_values({"training.max_epochs": 5})
      >>> settings_that_matter(Config(), mine, same_data=True)
      {'training.max_epochs': (20, 5)}
    """
    return {
        name: pair
        for name, pair in differing_settings(first, second).items()
        # Ranges to tune in are nothing that a training reads.
        if not name.startswith("tune.") and not (same_data and name in _PLACES)
    }


def _epochs(run: RunDirectory) -> str:
    return f"{run.metrics['epochs']}, best {run.metrics['best_epoch']}"
