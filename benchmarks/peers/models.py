"""The models of the comparison: their settings, the small grids that validation chooses from, and their processes."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.cells import ROOT
from benchmarks.peers.job import Job, Split
from benchmarks.recbole import peer as recbole
from tf_hqgnn.config import Config

_IMPLICIT, _SANSA = ROOT / ".venv-implicit", ROOT / ".venv-sansa"
_FACTORS = 64
# RecBole's LightGCN as in benchmarks.lightgcn (configs/hqgnn_lightgcn.yaml), with its embedding loss squared.
_LEARNING = {
    "embedding_size": _FACTORS,
    "learning_rate": 0.003,
    "train_batch_size": 2048,
    "epochs": 300,
}
# Epochs without a better validation before it stops.
_PATIENCE = 45
_SIMPLEX_NEGATIVES = 64
# From this number of items on, EASE has one fit only, half an hour on two cores, and what learns is validated after
# every epoch, which takes minutes, so that a limit of seconds finds something.
_LARGE_CATALOGUE = 20_000
# Up to this number of items SANSA's exact factorization takes seconds.
_SMALL_CATALOGUE = 5_000


@dataclass(frozen=True)
class Model:
    """One model of the comparison.

    Args:
      grid: the settings to choose from on validation, given the number of items.
      start: runs the process that does a job, and waits for it.
      learns: in epochs (or iterations), so that their number can be limited.
      stops_early: validation chooses the epoch.
      refits_itself: its process can train on train and validation together once it has chosen, in the same fit.
      minds_seconds: its process begins no epoch after `Job.max_seconds`.
      check: exits with what to do where its environment is missing.
      bytes_needed: of memory, given the number of items; 0 where that is no question.
    """

    grid: Callable[[int], list[dict[str, Any]]]
    start: Callable[[Job], None]
    learns: bool = True
    stops_early: bool = False
    refits_itself: bool = False
    minds_seconds: bool = False
    check: Callable[[], None] = lambda: None
    bytes_needed: Callable[[int], int] = lambda _: 0


def _start_here(module: str) -> Callable[[Job], None]:
    def start(job: Job) -> None:
        subprocess.run([sys.executable, "-W", "ignore", "-m", module, str(job.folder.resolve())], cwd=ROOT, check=True)

    return start


def _start_implicit(job: Job) -> None:
    # implicit has threads of its own; those of BLAS inside them make it several times slower, as it warns itself.
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    command = [str(_IMPLICIT / "bin" / "python"), "-m", "benchmarks.implicit.driver", str(job.folder.resolve())]
    subprocess.run(command, cwd=ROOT, env=environment, check=True)


def _start_recbole(job: Job) -> None:
    split = Split.load(job.split)
    settings = recbole.base_settings(job.model.removeprefix("recbole-"), job.seed, 1024) | job.settings
    if job.epochs is not None:
        # The last epoch must be validated, or nothing is.
        step = min(settings["eval_step"], job.epochs)
        settings |= {"epochs": job.epochs, "eval_step": step}
    parts = dict(split.parts)
    if not len(parts["valid"]):
        parts["valid"] = parts["train"][:1]  # RecBole wants a file with something in it; a refit doesn't look at it
    recbole.write(job.folder, settings, parts)
    subprocess.run(recbole.command(job.folder, "job"), cwd=ROOT, env=recbole.environment(), check=True)


def _start_sansa(job: Job) -> None:
    command = [str(_SANSA / "bin" / "python"), "-m", "benchmarks.sansa.driver", str(job.folder.resolve())]
    subprocess.run(command, cwd=ROOT, check=True)


def _check(folder: Path) -> None:
    if not (folder / ".installed").is_file():
        raise SystemExit(f"the environment {folder.name} is not there: run `make {folder.name}/.installed`")


def _product(**values: tuple[Any, ...]) -> list[dict[str, Any]]:
    return [dict(zip(values, chosen)) for chosen in itertools.product(*values.values())]


def _learning(num_items: int, **more: Any) -> list[dict[str, Any]]:
    step = 1 if num_items > _LARGE_CATALOGUE else 5
    return [{**_LEARNING, "eval_step": step, "stopping_step": _PATIENCE // step, **more}]


def _ease_grid(num_items: int) -> list[dict[str, Any]]:
    return _product(reg_weight=(250.0,) if num_items > _LARGE_CATALOGUE else (50.0, 250.0, 1000.0))


def _sansa_grid(num_items: int) -> list[dict[str, Any]]:
    """As its authors advise: exact factors for small catalogues, incomplete ones for large, sparse ones.

    Their scales of l2 differ, since the incomplete factorization normalizes the interactions first. The densities are
    those whose fits take a minute at most.
    """
    if num_items <= _SMALL_CATALOGUE:
        method = {"factorizer": ("CHOLMOD",), "l2": (100.0, 300.0, 1000.0), "weight_matrix_density": (0.05, 0.2)}
    else:
        densities = (0.001, 0.003) if num_items > _LARGE_CATALOGUE else (0.003, 0.01)
        method = {"factorizer": ("ICF",), "l2": (5.0, 20.0, 80.0), "weight_matrix_density": densities}
    return _product(**method, scans=(1,), finetune_steps=(5,))


def _recbole(grid: Callable[[int], list[dict[str, Any]]], learns: bool = True, **more: Any) -> Model:
    return Model(
        grid,
        _start_recbole,
        learns=learns,
        stops_early=learns,
        minds_seconds=learns,
        check=recbole.check_environment,
        **more,
    )


PEERS = {
    "popularity": Model(lambda _: [{}], _start_here("benchmarks.peers.gfcf"), learns=False),
    "implicit-als": Model(
        lambda _: _product(
            factors=(_FACTORS,),
            iterations=(15,),
            alpha=(0.3, 1.0, 3.0, 10.0, 30.0, 100.0),
            regularization=(0.1, 1.0, 3.0, 10.0, 30.0, 100.0),
        ),
        _start_implicit,
        check=partial(_check, _IMPLICIT),
    ),
    "implicit-bpr": Model(
        lambda _: _product(
            factors=(_FACTORS,), iterations=(100,), learning_rate=(0.003, 0.01, 0.03), regularization=(0.01,)
        ),
        _start_implicit,
        check=partial(_check, _IMPLICIT),
    ),
    "recbole-BPR": _recbole(_learning),
    "recbole-LightGCN": _recbole(partial(_learning, n_layers=3, reg_weight=1e-4, require_pow=True)),
    "recbole-SimpleX": _recbole(
        partial(
            _learning,
            train_neg_sample_args=recbole.negatives(_SIMPLEX_NEGATIVES),
            # RecBole counts pairs of a positive and a negative: 1,024 positives a step.
            train_batch_size=1024 * _SIMPLEX_NEGATIVES,
        )
    ),
    "recbole-ItemKNN": _recbole(lambda _: _product(k=(100,), shrink=(0.0, 10.0)), learns=False),
    # The matrix and one derived from it; the inverse is made in place (benchmarks.recbole.driver).
    "recbole-EASE": _recbole(_ease_grid, learns=False, bytes_needed=lambda num_items: 2 * 4 * num_items**2),
    "sansa": Model(_sansa_grid, _start_sansa, learns=False, check=partial(_check, _SANSA)),
    "GF-CF": Model(
        # The paper's rank is 256.
        lambda _: _product(rank=(64, 256), weight=(0.0, 0.1, 0.3, 1.0)),
        _start_here("benchmarks.peers.gfcf"),
        learns=False,
    ),
}


def ours(config: Path, overrides: tuple[str, ...]) -> Model:
    """tf_hqgnn by a settings file."""
    # Processes run in ROOT; results then name no path of this machine.
    settings = {"config": os.path.relpath(config.resolve(), ROOT), "set": list(overrides)}
    loaded = Config.load(config, overrides)
    return Model(
        lambda _: [settings],
        _start_here("benchmarks.peers.ours"),
        stops_early=chooses(loaded),
        # What a race chose isn't known outside of the training.
        refits_itself=loaded.auto.race,
    )


def chooses(config: Config) -> bool:
    """Whether a training of ours looks at the validation split: for a race, for its epochs, or its propagation."""
    searches = config.propagation.search and config.propagation.make_solver().propagates
    return config.auto.race or config.training.max_epochs > 0 or searches
