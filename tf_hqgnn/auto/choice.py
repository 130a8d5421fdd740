"""What a race tried and chose: kept in the run, shown to people."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tf_hqgnn.auto.starts import Settings
from tf_hqgnn.config import Config
from tf_hqgnn.files.durable import write_file
from tf_hqgnn.files.reading import naming_damage, read_json

DAMAGED = "delete the unfinished run and train again"


@dataclass(frozen=True)
class Tried:
    """A contestant.

    Args:
      kind: `popularity`, `start` (singular vectors alone) or `trained`.
      settings: by `section.key`.
      steps: of its training.
      epochs: the same in passes over what it trained on.
      value: the monitor's, on (a sample of) the validation users.
      seconds: that it took.
    """

    kind: str
    settings: Settings
    steps: int
    epochs: float
    value: float
    seconds: float

    @property
    def text(self) -> str:
        """The settings for people, without their sections."""
        named = (f"{name.partition('.')[2]}={_short(value)}" for name, value in self.settings.items())
        return "  ".join(named) if self.kind != "popularity" else "what most users took"


@dataclass(frozen=True)
class Choice:
    """What a race found.

    Args:
      config: to train with; its `auto.steps` is the budget that the race had.
      fallbacks: what needs no training, the best first, for a training that ends below it; empty after no race.
      tried: all contestants, in the order of trying.
      reason: why, in a sentence.
    """

    config: Config
    fallbacks: tuple[Config, ...] = ()
    tried: list[Tried] = field(default_factory=list)
    reason: str = ""

    def falls_back(self, valid: dict[str, float]) -> bool:
        """Whether a training came so low that what needs no training is to be looked at again.

        Args:
          valid: metrics of what would be served, by name; the contestants were judged on a sample.
        """
        if not self.fallbacks or not valid:
            return False
        untrained = max(one.value for one in self.tried if one.kind != "trained")
        return valid[self.config.evaluation.monitor] < 1.02 * untrained

    def save(self, path: Path) -> None:
        """Writes all of it."""
        values: dict[str, Any] = {"reason": self.reason, "config": self.config.model_dump(mode="json")}
        values["fallbacks"] = [config.model_dump(mode="json") for config in self.fallbacks]
        write_file(path, json.dumps(values | {"tried": [asdict(one) for one in self.tried]}, indent=1) + "\n")

    @staticmethod
    def load(path: Path) -> Choice:
        """Reads what `save` wrote.

        Raises:
          InputError: It is damaged.
        """
        values = read_json(path, cure=DAMAGED)
        with naming_damage(path, DAMAGED):
            fallbacks = tuple(Config.model_validate(config) for config in values["fallbacks"])
            tried = [Tried(**one) for one in values["tried"]]
            return Choice(Config.model_validate(values["config"]), fallbacks, tried, str(values["reason"]))

    def table(self, monitor: str) -> list[str]:
        """Lines for people: the best contestants first."""
        lines = [f"{'valid ' + monitor:>16}  {'epochs':>6}  what was tried"]
        best_first = sorted(self.tried, key=lambda one: -one.value)
        return lines + [f"{one.value:16.4f}  {one.epochs:6.1f}  {one.kind}: {one.text}" for one in best_first]


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
