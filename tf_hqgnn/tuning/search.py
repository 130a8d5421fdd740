"""The search for settings: a directory with a study, its trials, and the best configuration so far."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from tf_hqgnn.config import Config, TuneConfig
from tf_hqgnn.config.names import differing_settings
from tf_hqgnn.data.splits import SplitDataset
from tf_hqgnn.files.durable import staged_folder, write_file
from tf_hqgnn.files.lock import locked
from tf_hqgnn.logs import quiet_optuna
from tf_hqgnn.tuning.ranges import choose, current, search_space, trial_config
from tf_hqgnn.tuning.study import Study, Trial, create_study
from tf_hqgnn.tuning.trials import Outcome, Runner, make_runner, remove_trial
from tf_hqgnn.types import InputError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TuneResult:
    """How a search ended.

    Args:
      path: of the best configuration, DIR/best.yaml.
      config: what it says.
      best: the trial with the highest NDCG@20 on the validation split, the first of equals.
      trials: all of them, by index.
    """

    path: Path
    config: Config
    best: Trial
    trials: tuple[Trial, ...]


def tune(
    dataset: SplitDataset,
    config: Config,
    out: Path,
    trials: int = 20,
    jobs: int = 1,
    resume: bool = False,
    command: str = "tf_hqgnn.tuning.search.tune",
) -> TuneResult:
    """Search for settings with the best validation NDCG@20, with float32 embeddings (TPE, seeded by `config`).

    Trial 0 is `config` as given, so that the result is no worse on that split. What is searched is `config.tune`
    (`tf_hqgnn.tuning.ranges`); solver, time and steps of the propagation needn't be, since every training ends with a
    free search over them (`training.propagation_search`). Codes aren't made; DIR/best.yaml keeps the quantization.

    DIR holds `config.yaml`, `study.db` (Optuna's), `trials/N/` and `best.yaml`. Killed at any moment, the same call
    with `resume` goes on after the last finished trial; with one job it ends with the same trials as if uninterrupted.
    A training that diverges is a failed trial, with its reason; the search goes on.

    Args:
      dataset: ids and splits; each trial is trained and validated on these.
      config: the start, and all that isn't searched.
      out: DIR; must not exist.
      trials: how many there shall be, failed and earlier ones included.
      jobs: processes that train at once.
      resume: go on with the study in DIR.
      command: for the head of `best.yaml`.

    Raises:
      InputError: No validation interactions, a range that can't be searched, or DIR exists or is of another study.
      DivergenceError: Every training diverged.
    """
    for name, value in (("trials", trials), ("jobs", jobs)):
        if value < 1:
            raise InputError(f"{name}: expected at least 1, got {value}")
    check_tune(config, out, resume)
    if not len(dataset.valid):
        raise InputError("a search needs validation interactions: set data.split.valid above 0, such as 0.1")
    with quiet_optuna():
        if not out.exists():
            _begin(dataset, config, out)
        elif (out / "data.sha256").read_text(encoding="utf-8") != dataset.fingerprint():
            raise InputError(f"{out} was begun on other data; resume with the same log, or choose another --out")
        sizes = f"{dataset.num_users} users, {dataset.num_items} items, {len(dataset.valid)} validation interactions"
        source = config.data.path or config.data.train_path or "given"
        head = f"{command}\ndata: {source}: {sizes}\nseed: {config.seed}\n"
        with locked(out / ".lock", f"another search is at work in {out}; wait for it, or choose another --out"):
            space = search_space(config)
            study = Study(out / "study.db", space, {name: current(config, name) for name in space}, config.seed)
            try:
                with make_runner(dataset, min(jobs, trials)) as runner:
                    _search(study, config, out, trials, runner, head)
            except KeyboardInterrupt:
                log.info("%d finished trials are kept in %s", len(study.trials), out)
                raise
            finally:
                for index in study.give_up():
                    remove_trial(_folder(out, index))
            return _write_best(study, config, out, head)


def check_tune(config: Config, out: Path, resume: bool) -> None:
    """Raise InputError if nothing can come of the search, so that a caller learns it before reading data."""
    search_space(config)
    if config.training.strategy == "multi_worker":
        raise InputError(
            "training.strategy=multi_worker: the trials of a search run on one machine; tune with none or mirrored, "
            "then train best.yaml on the workers"
        )
    if not out.exists():
        return
    if not (out / "study.db").is_file():
        raise InputError(f"{out} exists already and holds no study; choose another --out, or delete it")
    if not resume:
        raise InputError(f"{out} holds a study; add --resume to go on with it, or choose another --out")
    if Config.load(out / "config.yaml") != config:
        raise InputError(
            f"{out} was begun with other settings (its config.yaml); resume with those, or choose another --out"
        )


def changed_settings(before: Config, after: Config) -> dict[str, object]:
    """Return the settings of `after` that differ from those of `before`, by `section.key`, without `tune`.

    Example:
      >>> changed_settings(Config(), Config.from_yaml("loss: {temperature: 0.3}"))
      {'loss.temperature': 0.3}
    """
    differing = differing_settings(before, after)
    return {name: pair[1] for name, pair in differing.items() if not name.startswith("tune.")}


def _folder(out: Path, index: int) -> Path:
    return out / "trials" / str(index)


def _search(study: Study, config: Config, out: Path, trials: int, runner: Runner, head: str) -> None:
    """Asks, runs and tells until there are enough trials, `best.yaml` up to date after each."""

    def tell(index: int, outcome: Outcome) -> None:
        log.info("%s", _line(study.tell(index, outcome), study, config.evaluation.monitor))
        if any(trial.outcome.value is not None for trial in study.trials):
            _write_best(study, config, out, head)

    running = 0
    while len(study.trials) < trials:
        while running < runner.slots and len(study.trials) + running < trials:
            index, settings = study.ask()
            try:
                chosen = trial_config(choose(config, settings))
            except InputError as error:  # each value was accepted alone, not all of them together
                tell(index, Outcome(None, str(error), 0.0))
                continue
            runner.submit(index, chosen, _folder(out, index))
            running += 1
        if running:
            tell(*runner.next())
            running -= 1


def _line(trial: Trial, study: Study, monitor: str) -> str:
    outcome = trial.outcome
    result = f"failed: {outcome.reason}" if outcome.value is None else f"{monitor} {outcome.value:.4f}"
    so_far = ""
    if any(trial.outcome.value is not None for trial in study.trials):
        best = study.best()
        so_far = f"  best {best.outcome.value:.4f} (trial {best.index})"
    settings = trial.settings.items()
    values = [f"{name}={f'{value:.4g}' if isinstance(value, float) else value}" for name, value in settings]
    return f"trial {trial.index}  {result}{so_far}  {'  '.join(values)}  {outcome.seconds:.0f} s"


def _write_best(study: Study, config: Config, out: Path, head: str) -> TuneResult:
    best = study.best()
    chosen = choose(config, best.settings).model_copy(update={"tune": TuneConfig()})
    failed = sum(trial.outcome.value is None for trial in study.trials)
    monitor, value = config.evaluation.monitor, best.outcome.value
    found = f"valid {monitor} {value:.6f}, trial {best.index} of {len(study.trials)} ({failed} failed)"
    comment = "".join(f"# {line}\n" for line in f"{head}{found}".splitlines())
    path = out / "best.yaml"
    write_file(path, comment + chosen.to_yaml())
    return TuneResult(path, chosen, best, tuple(sorted(study.trials, key=lambda trial: trial.index)))


def _begin(dataset: SplitDataset, config: Config, out: Path) -> None:
    """Makes DIR under another name first, so that it is either there with all that --resume needs, or not at all."""
    with staged_folder(out) as staged:
        (staged / "trials").mkdir()
        (staged / "config.yaml").write_text(config.to_yaml(), encoding="utf-8")
        (staged / "data.sha256").write_text(dataset.fingerprint(), encoding="utf-8")
        create_study(staged / "study.db")
