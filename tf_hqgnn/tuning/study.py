"""The trials of a study: Optuna's SQLite file, and how the next one is drawn from it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import URL

from tf_hqgnn.training.callbacks import DivergenceError
from tf_hqgnn.tuning.trials import Outcome

_NAME = "tf-hqgnn tune"


@dataclass(frozen=True)
class Trial:
    """A finished trial.

    Args:
      index: 0 is the configuration as it was given.
      settings: what was searched, by `section.key`.
      outcome: its value, or why it failed.
    """

    index: int
    settings: dict[str, Any]
    outcome: Outcome


class Study:
    """The finished trials, and what to try next.

    Optuna's own numbers count trials that were killed; ours don't, and the sampler is seeded anew for each index. So a
    resumed study draws what it would have drawn, and depends on nothing but the seed and the finished trials.

    Args:
      path: made by `create_study`. Trials that a killed process left running are given up.
      space: Optuna's distributions by `section.key`.
      start: the configuration's own values: trial 0, whether or not the ranges hold them.
      seed: of the sampler (TPE).
    """

    def __init__(self, path: Path, space: dict[str, BaseDistribution], start: dict[str, Any], seed: int) -> None:
        self._space, self._start, self._seed = space, start, seed
        self._study = optuna.load_study(study_name=_NAME, storage=_url(path))
        self._asked: dict[int, optuna.Trial] = {}
        # A process that was killed while it enqueued trial 0 left it waiting; to ask is the one way to get hold of it.
        while self._study.get_trials(states=(TrialState.WAITING,)):
            self._study.ask()
        for unfinished in self._study.get_trials(states=(TrialState.RUNNING,)):
            self._settle(unfinished)
        stored = [trial.user_attrs for trial in self._study.get_trials() if "outcome" in trial.user_attrs]
        self.trials = [Trial(attrs["index"], attrs["settings"], Outcome(**attrs["outcome"])) for attrs in stored]

    def ask(self) -> tuple[int, dict[str, Any]]:
        """The index and the settings of the next trial, which is then running."""
        taken = {trial.index for trial in self.trials} | set(self._asked)
        index = next(index for index in range(len(taken) + 1) if index not in taken)
        seed = np.random.SeedSequence((self._seed, index)).generate_state(1)[0]
        self._study.sampler = optuna.samplers.TPESampler(seed=int(seed))
        settings = self._start
        if index:
            trial = self._study.ask(self._space)
            settings = trial.params
        elif all(_contains(self._space[name], value) for name, value in settings.items()):
            self._study.enqueue_trial(settings)
            trial = self._study.ask(self._space)
        else:
            trial = self._study.ask()
        trial.set_user_attr("index", index)
        trial.set_user_attr("settings", settings)
        self._asked[index] = trial
        return index, settings

    def tell(self, index: int, outcome: Outcome) -> Trial:
        """Stores how a running trial ended."""
        asked = self._asked.pop(index)
        asked.set_user_attr("outcome", asdict(outcome))
        (running,) = [trial for trial in self._study.get_trials() if trial.number == asked.number]
        self._settle(running)
        self.trials.append(Trial(index, asked.user_attrs["settings"], outcome))
        return self.trials[-1]

    def give_up(self) -> list[int]:
        """Ends running trials, so that they don't count and will be drawn again; returns their indices."""
        indices = list(self._asked)
        for index in indices:
            self._study.tell(self._asked.pop(index).number, state=TrialState.FAIL)
        return indices

    def best(self) -> Trial:
        """The trial with the highest value, the first of equals.

        Raises:
          DivergenceError: No trial has a value.
        """
        done = [trial for trial in self.trials if trial.outcome.value is not None]
        if not done:
            first = min(self.trials, key=lambda trial: trial.index)
            raise DivergenceError(f"all {len(self.trials)} trials failed; the first: {first.outcome.reason}")
        return min(done, key=lambda trial: (-(trial.outcome.value or 0.0), trial.index))

    def _settle(self, trial: FrozenTrial) -> None:
        """Ends a running trial as the sampler should see it: by its value, as one of the worst, or not at all."""
        outcome = trial.user_attrs.get("outcome")
        if outcome is None or not trial.params:
            self._study.tell(trial.number, state=TrialState.FAIL)
        elif outcome["value"] is None:
            self._study.tell(trial.number, state=TrialState.PRUNED)
        else:
            self._study.tell(trial.number, outcome["value"])


def create_study(path: Path) -> None:
    """Makes the SQLite file of a study without trials."""
    optuna.create_study(study_name=_NAME, storage=_url(path), direction="maximize")


def _contains(distribution: BaseDistribution, value: Any) -> bool:
    if isinstance(distribution, FloatDistribution | IntDistribution):
        return bool(distribution.low <= value <= distribution.high)
    return value in distribution.choices if isinstance(distribution, CategoricalDistribution) else False


def _url(path: Path) -> str:
    # Rendered, since a question mark in a path would begin options.
    return URL.create("sqlite", database=str(path.resolve())).render_as_string()
