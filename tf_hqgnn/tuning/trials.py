"""One trial of a study, in this process or in one of several."""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Protocol

import tf_keras

from tf_hqgnn.config import Config
from tf_hqgnn.data.splits import SplitDataset
from tf_hqgnn.files.scratch import scratch_folder
from tf_hqgnn.runs.run_directory import partial_path
from tf_hqgnn.training.callbacks import DivergenceError
from tf_hqgnn.training.train import train
from tf_hqgnn.tuning.worker import work

# What stays of a trial's run directory.
_KEPT = ("metrics.json", "history.csv")


@dataclass(frozen=True)
class Outcome:
    """How a trial ended.

    Args:
      value: NDCG@20 on the validation split of the full-precision rows; None if it failed.
      reason: why it failed.
      seconds: all together.
    """

    value: float | None
    reason: str | None
    seconds: float


def run_trial(dataset: SplitDataset, config: Config, folder: Path) -> Outcome:
    """Trains in `folder` and leaves little there. A diverged training is an outcome, any other error is raised."""
    began = time.monotonic()
    remove_trial(folder)
    # Keras keeps the names of every model that a process makes.
    tf_keras.backend.clear_session()
    try:
        # The study prints a line a trial; that of every epoch would bury it.
        with contextlib.redirect_stderr(io.StringIO()):
            result = train(dataset, config, folder)
    except DivergenceError as error:
        remove_trial(folder)
        return Outcome(None, str(error), round(time.monotonic() - began, 1))
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name not in _KEPT:
            path.unlink()
    metrics = result.valid if result.full_precision is None else result.full_precision
    return Outcome(metrics[config.evaluation.monitor], None, round(time.monotonic() - began, 1))


def remove_trial(folder: Path) -> None:
    """Deletes what a trial left, finished or not."""
    for path in (folder, partial_path(folder)):
        shutil.rmtree(path, ignore_errors=True)


class Runner(Protocol):
    """Runs trials, `slots` of them at once."""

    slots: int

    def submit(self, index: int, config: Config, folder: Path) -> None:
        """Begins trial `index`; only where one of the slots is free."""

    def next(self) -> tuple[int, Outcome]:
        """The index and the outcome of a trial that was submitted, when it is there."""


@contextlib.contextmanager
def make_runner(dataset: SplitDataset, jobs: int) -> Iterator[Runner]:
    """Make a runner: in this process for one job, else with a process for each job, all of which end with this one.

    Args:
      dataset: what every trial is trained on.
      jobs: how many trials run at once.
    """
    if jobs == 1:
        yield _InProcess(dataset)
        return
    # Killed workers can't remove what their libraries keep in TMPDIR.
    with scratch_folder():
        workers = _Workers(dataset, jobs)
        try:
            yield workers
        finally:
            workers.stop()


class _InProcess:
    slots = 1

    def __init__(self, dataset: SplitDataset) -> None:
        self._dataset = dataset

    def submit(self, index: int, config: Config, folder: Path) -> None:
        self._job = index, config, folder

    def next(self) -> tuple[int, Outcome]:
        index, config, folder = self._job
        return index, run_trial(self._dataset, config, folder)


class _Workers:
    """Processes that are started when a trial needs one more, and then kept: each has TensorFlow to load."""

    def __init__(self, dataset: SplitDataset, jobs: int) -> None:
        self.slots = jobs
        self._dataset = dataset
        self._processes: dict[Connection, SpawnProcess] = {}
        self._busy: dict[Connection, int] = {}

    def submit(self, index: int, config: Config, folder: Path) -> None:
        idle = [connection for connection in self._processes if connection not in self._busy]
        connection = idle[0] if idle else self._start()
        connection.send((index, config, folder))
        self._busy[connection] = index

    def _start(self) -> Connection:
        # A fork of a process in which TensorFlow runs hangs.
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=work, args=(self._dataset, theirs), daemon=True)
        process.start()
        # Only the worker's copy is left, so that its end is seen here.
        theirs.close()
        self._processes[ours] = process
        return ours

    def next(self) -> tuple[int, Outcome]:
        ready = wait(list(self._busy))
        connection = next(connection for connection in self._busy if connection in ready)
        try:
            answer: tuple[int, Outcome] = connection.recv()
        except (EOFError, ConnectionError) as error:
            raise ConnectionError(
                f"the process of trial {self._busy[connection]} ended before its training, perhaps for want of memory; "
                "go on with --resume and fewer --jobs"
            ) from error
        del self._busy[connection]
        return answer

    def stop(self) -> None:
        for process in self._processes.values():
            process.kill()
        for process in self._processes.values():
            process.join()
