"""The race: starts, two rounds of short trainings, and what follows from them."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from tf_hqgnn.auto.choice import DAMAGED, Choice, Tried
from tf_hqgnn.auto.contestants import Contestants, prior
from tf_hqgnn.auto.plan import (
    PLAIN_EPOCHS,
    RACED_DIM,
    SHORT_TRAINING,
    Plan,
    bits_of,
    columns_and_bits,
    cost_of_columns,
    default_steps,
)
from tf_hqgnn.auto.racer import Racer
from tf_hqgnn.auto.starts import Settings, Starts
from tf_hqgnn.config import Config
from tf_hqgnn.config.auto import RACED_SECTIONS
from tf_hqgnn.data.split_dataset import SplitDataset
from tf_hqgnn.files.durable import write_file
from tf_hqgnn.files.reading import naming_damage, read_json
from tf_hqgnn.graph.interaction_graph import InteractionGraph
from tf_hqgnn.graph.unit_rows import unit_rows
from tf_hqgnn.losses.softmax import Softmax
from tf_hqgnn.models.initialization import SpectralFactors
from tf_hqgnn.runs.untrained import Untrained
from tf_hqgnn.training.judge import Judge

# What a race had done when it was interrupted.
PROGRESS = "auto.progress.json"
# Validation users by whom contestants are judged, and interactions that they train on, at most.
_USERS, _INTERACTIONS = 4096, 2_000_000
# A smaller sample than this tells nothing of the log.
_LEAST_INTERACTIONS = 20_000
# From so many training interactions on, larger batches: a step of few pairs of a large catalogue learns little.
_LARGE_LOG, _LARGE_BATCH = 500_000, 2048
# Interactions times columns up to which further factorisations take seconds.
_QUICK_FACTORISATION = 50_000_000
# Steps by which the speed of this machine is measured, after as many that compile.
_MEASURED_STEPS = 48
# Of a training and its refit besides the steps: the compilation, in seconds; rankings of validation users.
_COMPILATION, _RANKINGS = 1.5, 28
# EASE gets the columns that are left: with more items than these it takes longer than seconds.
_EASE_ITEMS = 5000
# Columns that lose more than this rank worse are left out.
_NOISE = 0.97
# Trainings that come so near to the best are about as good.
_ABOUT_EQUAL = 0.995
# The judge saw what needs no training with these, so they hold whatever the user wishes of a training.
_UNTRAINED: Settings = {
    "training.max_epochs": 0,
    "propagation.solver": "none",
    "propagation.t1": 0.0,
    "propagation.normalize": False,
}
_POPULARITY: Settings = _UNTRAINED | {"model.initializer": "popularity", "quantization.bits": None}
log = logging.getLogger(__name__)


class Race:
    """One race: what is fixed, and the contestants so far."""

    def __init__(
        self, dataset: SplitDataset, config: Config, graph: InteractionGraph, folder: Path | None, began: float
    ) -> None:
        self._dataset, self._config, self._graph, self._began = dataset, config, graph, began
        self._wished = _wished(config)
        self._progress = None if folder is None else folder / PROGRESS
        self._done: dict[str, Any] = {"steps": None, "tried": []}
        if self._progress is not None and self._progress.is_file():
            self._done = read_json(self._progress, cure=DAMAGED)
            with naming_damage(self._progress, DAMAGED):
                _check_progress(**self._done)
        self._tried: list[Tried] = []
        dim, _ = columns_and_bits(config.auto.bytes_per_item, graph.num_users, graph.num_items)
        self._dim = config.model.embedding_dim if "model.embedding_dim" in self._wished else dim
        self._most_columns = self._dim
        large = len(dataset.train) >= _LARGE_LOG
        wished = "training.batch_size" in self._wished
        self._batch_size = _LARGE_BATCH if large and not wished else config.training.batch_size
        self._trainings = 2 if config.training.refit else 1

    def why_not(self, judge: Judge) -> str:
        """Why there is no race; "" if there is one."""
        if not len(judge.targets):
            return "nothing is held out for validation, so the settings are those of similar logs"
        for setting, value in (("loss.name", "softmax"), ("model.encoder", "none"), ("model.initializer", "spectral")):
            section, _, key = setting.partition(".")
            if getattr(getattr(self._config, section), key) != value:
                return f"{setting} isn't {value}, so there is nothing to race"
        return ""

    def with_settings(self, settings: Settings, fixed: Settings | None = None) -> Config:
        """All settings: these, except where the user wishes others, and `fixed` in any case; no further race."""
        kept = {name: value for name, value in settings.items() if name not in self._wished}
        return self._config.with_values(kept | (fixed or {}) | {"auto.race": False}, "auto")

    def trained_settings(self, loss: Settings, epochs: int = PLAIN_EPOCHS) -> Settings:
        """Of a training with these settings of the loss, as long as the budget has it."""
        settings = {f"loss.{name}": value for name, value in loss.items()}
        settings |= {"training.batch_size": self._batch_size, "training.max_epochs": epochs}
        settings |= {"training.evaluate_every": max(1, epochs // 4), "model.embedding_dim": self._dim}
        if self._batch_size == _LARGE_BATCH:
            settings["loss.mask_positives"] = False
        codes = self._codes(self._dim)
        left = self._most_columns - self._dim if codes["quantization.bits"] == 8 else 0
        return settings | codes | {"ease.columns": left if self._graph.num_items <= _EASE_ITEMS else 0}

    def _codes(self, dim: int) -> Settings:
        wished = "quantization.bits" in self._wished
        bits = self._config.quantization.bits if wished else bits_of(dim, self._config.auto.bytes_per_item)
        # Rounding to fewer bits costs a third of the quality.
        method = "post_training" if bits in (None, 8) else "distillation"
        return {"quantization.bits": bits, "quantization.user_bits": 8, "quantization.method": method}

    def run(self, judge: Judge) -> Choice:
        """Tries all contestants, and chooses."""
        config, seed = self._config, self._config.seed
        # Strangers are answered as in what is served, or a log with many of them would have popularity win.
        judge = replace(judge.monitor_only().sample(_USERS, seed), unknown=Untrained.of(self._graph))
        self._add("popularity", {}, lambda: judge.popularity()[config.evaluation.monitor])
        model = config.model.model_copy(update={"embedding_dim": self._dim})
        began = time.monotonic()
        factors = SpectralFactors.of(self._graph, model, seed)
        factorised = time.monotonic() - began
        thorough = self._graph.num_edges * self._dim <= _QUICK_FACTORISATION
        starts = Starts(factors, judge, model, seed)
        for settings in starts.settings(thorough, self._wished):
            starts.tell(self._add("start", _sectioned("model", settings), starts.value).value)
        if "model.embedding_dim" not in self._wished:
            self._dim = self._columns_to_train()
        share = min(1.0, _INTERACTIONS / max(1, len(self._dataset.train)))
        steps = self._budget(factors, judge, share, factorised)
        most = config.training.max_epochs if "training.max_epochs" in self._wished else PLAIN_EPOCHS
        plan = Plan.of(steps, self._steps_per_epoch(), self._dim, self._trainings, most, share)
        if plan.epochs:
            self._race(plan, judge, factors)
        return self._choose(plan, steps)

    def _columns_to_train(self) -> int:
        """The most columns, unless the singular vectors beyond fewer of them are noise: then those, at least 64."""
        values = {
            one.settings["model.embedding_dim"]: one.value
            for one in self._tried
            if one.kind == "start" and len(one.settings) == 1
        }
        best = max(values, key=lambda dim: values[dim])
        return self._dim if values[self._dim] >= _NOISE * values[best] else min(self._dim, max(RACED_DIM, best))

    def _steps_per_epoch(self) -> int:
        return max(1, len(self._dataset.train) // self._batch_size)

    def _budget(self, factors: SpectralFactors, judge: Judge, share: float, factorised: float) -> int:
        """Steps with all columns that race and training may take together."""
        auto = self._config.auto
        if auto.steps is not None:
            return auto.steps
        if auto.seconds is None:
            # What as many columns as there may be would take: fewer leave time for more contestants.
            longer = cost_of_columns(self._most_columns) / cost_of_columns(self._dim)
            return default_steps(self._steps_per_epoch(), self._trainings + longer)
        if self._done["steps"] is None:
            racer = self._racer(judge, factors, share)
            loss = self._loss(prior(self._graph)[0])
            racer.train(loss, self._config.training.learning_rate, _MEASURED_STEPS)
            began = time.monotonic()
            racer.train(loss, self._config.training.learning_rate, _MEASURED_STEPS)
            step = (time.monotonic() - began) / _MEASURED_STEPS * cost_of_columns(self._dim)
            began = time.monotonic()
            racer.value()
            ranking = (time.monotonic() - began) / racer.num_rankings
            besides = self._trainings * (factorised + _COMPILATION) + _RANKINGS * ranking
            left = auto.seconds - (time.monotonic() - self._began) - besides
            self._done["steps"] = max(1, int(left / step))
            self._keep()
        steps: int = self._done["steps"]
        return steps

    def _racer(self, judge: Judge, factors: SpectralFactors, share: float) -> Racer:
        """The racer on a sample of the users."""
        train, graph = self._dataset.train, self._graph
        if share < 1 and share * len(train) >= _LEAST_INTERACTIONS:
            users = np.random.default_rng(self._config.seed).random(graph.num_users) < share
            train = train.take(users[train.user_index])
            graph = InteractionGraph.from_interactions(train, graph.num_users, graph.num_items, graph.disliked)
            targets = judge.targets.take(users[judge.targets.user_index])
            targets = targets if len(targets) else judge.targets
            judge = replace(judge, graph=graph, targets=targets, unknown=Untrained.of(graph))
        dim = min(RACED_DIM, self._dim)
        config = self._config.with_values(
            {"model.embedding_dim": dim, "training.batch_size": self._batch_size, "quantization.bits": None}
            | ({"loss.mask_positives": False} if self._batch_size == _LARGE_BATCH else {}),
            "auto",
        )
        start = factors.filtered(config.model)
        return Racer(config, graph, train, judge, (unit_rows(start[0]), unit_rows(start[1])))

    def _race(self, plan: Plan, judge: Judge, factors: SpectralFactors) -> None:
        """Both rounds."""
        racer = self._racer(judge, factors, plan.share)
        rate = self._config.training.learning_rate

        def attempt(loss: Settings, steps: int) -> Tried:
            settings = _sectioned("loss", loss)
            epochs = round(steps / racer.steps_per_epoch, 2)
            return self._add("trained", settings, lambda: racer.run(self._loss(loss), rate, steps), steps, epochs)

        contestants = Contestants(self._graph, self._config.seed)
        first: list[tuple[float, int, Settings]] = []
        values: dict[str, float] = {}
        for loss, trial in contestants.ask(plan.contestants):
            loss = self._with_wishes(loss)
            if str(loss) not in values:
                tried = attempt(loss, plan.first)
                values[str(loss)] = tried.value
                first.append((-tried.value, len(first), loss))
            contestants.tell(trial, values[str(loss)])
        for _, _, loss in sorted(first)[: plan.long_runners]:
            attempt(loss, plan.second)

    def _with_wishes(self, loss: Settings) -> Settings:
        return {
            name: getattr(self._config.loss, name) if f"loss.{name}" in self._wished else value
            for name, value in loss.items()
        }

    def _loss(self, settings: Settings) -> Softmax:
        return Softmax(**settings, mask_positives=self._config.loss.make().needs_positives)

    def _choose(self, plan: Plan, steps: int) -> Choice:
        """The settings to train with, from what was tried."""
        untrained = max((one for one in self._tried if one.kind != "trained"), key=lambda one: one.value)
        popularity = self.with_settings({"model.embedding_dim": 1}, _POPULARITY)
        best_start = popularity if untrained.kind == "popularity" else self._start(untrained)
        fallbacks = (_recording(best_start, steps), _recording(popularity, steps))
        trained = [one for one in self._tried if one.kind == "trained"]
        monitor = self._config.evaluation.monitor
        if not trained:
            why = "the budget isn't enough for an epoch" if plan.most_epochs else "training.max_epochs is 0"
            reason = f"{why}, so this is {untrained.kind}: {untrained.text}"
            return Choice(fallbacks[0], fallbacks, self._tried, reason)
        best = max(trained, key=lambda one: one.value)
        # With as many columns at most: more columns help both.
        equal = [one for one in self._tried if one.settings.get("model.embedding_dim", 0) <= RACED_DIM]
        rival = max((one for one in equal if one.kind != "trained"), key=lambda one: one.value)
        if best.value < rival.value:
            reason = (
                f"{untrained.kind} ({untrained.text}) has a validation {monitor} of {untrained.value:.4f}; "
                f"no training came near to that ({best.value:.4f} against {rival.value:.4f} with as many columns)"
            )
            return Choice(fallbacks[0], fallbacks, self._tried, reason)
        longest = [one for one in trained if one.steps == max(two.steps for two in trained)]
        epochs = plan.epochs
        if self._dim > RACED_DIM:
            # Those are sooner at the end of what they can learn than more columns are. What is about equal with few
            # columns isn't with many, which bear a colder softmax: on Gowalla temperatures of .15 and .1 had a
            # validation NDCG@20 of .1255 and .1253 with 64, and of .1338 and .1360 with 256.
            highest = max(one.value for one in longest)
            equals = [one for one in longest if one.value >= _ABOUT_EQUAL * highest]
            best = min(equals, key=lambda one: (one.settings["loss.temperature"], -one.value))
        elif best not in longest:
            # A short training that was better than longer ones: more would only unlearn the start.
            epochs = max(1, round(plan.epochs * SHORT_TRAINING))
        loss = {name.partition(".")[2]: value for name, value in best.settings.items()}
        config = self.with_settings(self.trained_settings(loss, epochs))
        reason = (
            f"{best.text}: validation {monitor} {best.value:.4f} after {best.epochs:g} epochs with "
            f"{min(RACED_DIM, self._dim)} columns; now {config.training.max_epochs} epochs with "
            f"{config.model.embedding_dim}"
        )
        return Choice(_recording(config, steps), fallbacks, self._tried, reason)

    def _start(self, tried: Tried) -> Config:
        return self.with_settings(self._codes(tried.settings["model.embedding_dim"]), _UNTRAINED | tried.settings)

    def _add(
        self, kind: str, settings: Settings, value: Callable[[], float], steps: int = 0, epochs: float = 0.0
    ) -> Tried:
        """Tries a contestant, unless an interrupted race has done so."""
        place = len(self._tried)
        done = self._done["tried"]
        if place < len(done):
            tried = Tried(**done[place])
        else:
            began = time.monotonic()
            found = value()
            tried = Tried(kind, settings, steps, epochs, found, round(time.monotonic() - began, 3))
            done.append(asdict(tried))
            self._keep()
            log.info("auto: %s %.4f  %s: %s", self._config.evaluation.monitor, found, kind, tried.text)
        self._tried.append(tried)
        return tried

    def _keep(self) -> None:
        if self._progress is not None:
            write_file(self._progress, json.dumps(self._done))


def _check_progress(steps: int | None, tried: list[dict[str, Any]]) -> None:
    if any(not np.isfinite(Tried(**one).value) for one in tried) or (steps is not None and steps < 1):
        raise ValueError("a value isn't finite, or the steps aren't positive")


def _wished(config: Config) -> set[str]:
    """The settings that are given, or differ from the defaults, by `section.key`."""
    given, default = config.model_dump(mode="json"), Config().model_dump(mode="json")
    return {*config.auto.keep} | {
        f"{section}.{key}"
        for section in RACED_SECTIONS
        for key, value in given[section].items()
        if value != default[section].get(key)
    }


def _recording(config: Config, steps: int) -> Config:
    return config.with_values({"auto.steps": steps, "auto.seconds": None}, "auto")


def _sectioned(section: str, settings: Settings) -> Settings:
    return {f"{section}.{name}": value for name, value in settings.items()}
