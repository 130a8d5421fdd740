"""Adaptive batching: requests that wait while all workers are busy are joined into one call of the model.

Reference: TF Serving, servables/tensorflow/session_bundle_config.proto (the settings), batching/batching_session.cc.
  Beyond it: a failure of a joined call is laid to the request that causes it, the others are answered.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Any, Callable, Hashable, Sequence

import grpc

from tf_hqgnn.serving.batch_tasks import Task, TaskQueue, resolve_all
from tf_hqgnn.serving.errors import ServingError
from tf_hqgnn.serving.metrics import Metrics
from tf_hqgnn.serving.parts import CALL_VALUES, Outputs, Whole, join
from tf_hqgnn.serving.signature import Signature
from tf_hqgnn.types import Array, InputError

# The queue of all parts of large requests: whatever they ask for, they take turns with the others as one.
_LARGE = "large"


@dataclass(frozen=True)
class BatchingParameters:
    """TF Serving's settings of the same names.

    Args:
      max_batch_size: Rows of one call at most, and fewer if they ask for many answers or exclude much; a larger
        request runs in parts, between those of others.
      batch_timeout_micros: How long a request may wait for others though a worker is free. With 0 none ever does.
      max_enqueued_batches: Full batches that may wait; a request beyond them is refused. Large requests wait apart
        from the others, and may be as many rows.
      num_batch_threads: Calls of models at once. Half the cores by default: each call uses all of them where it can,
        and protocols need some.
      thread_pool_name: A label of the metrics.
      pad_variable_length_inputs: Whether lists of strings of different lengths are joined, padded with "".

    Raises:
      InputError: A number is out of range.
    """

    max_batch_size: int = 64
    batch_timeout_micros: int = 0
    max_enqueued_batches: int = 16
    num_batch_threads: int = field(default_factory=lambda: max(1, (os.cpu_count() or 1) // 2))
    thread_pool_name: str = "batch_threads"
    pad_variable_length_inputs: bool = True

    def __post_init__(self) -> None:
        for name in ("max_batch_size", "max_enqueued_batches", "num_batch_threads"):
            if getattr(self, name) < 1:
                raise InputError(f"{name}: expected at least 1, got {getattr(self, name)}")
        if self.batch_timeout_micros < 0:
            raise InputError(f"batch_timeout_micros: expected at least 0, got {self.batch_timeout_micros}")


class Batcher:
    """Runs requests in worker threads; safe to call from any thread.

    A request goes at once when a worker is free, and so does whatever has queued up meanwhile when one becomes free:
    the busier the server, the larger the batches. Queues, one for each kind of request, take turns.

    Args:
      parameters: Sizes of batches and queue.
      metrics: Where batches are counted.
    """

    def __init__(self, parameters: BatchingParameters | None = None, metrics: Metrics | None = None) -> None:
        self._parameters = parameters or BatchingParameters()
        self._metrics = metrics or Metrics()
        self._max_rows = self._parameters.max_batch_size * self._parameters.max_enqueued_batches
        self._lock = threading.Lock()
        # Wakes workers: a token each. A condition variable takes four times as long to wake a thread.
        self._tokens: SimpleQueue[None] = SimpleQueue()
        self._idle = 0
        self._queues: dict[Hashable, TaskQueue] = {}
        # Of small requests, and of large ones.
        self._waiting = {False: 0, True: 0}
        self._stopping = False
        self._threads = [
            threading.Thread(target=self._work, name=f"batch-{number}", daemon=True)
            for number in range(self._parameters.num_batch_threads)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def waiting_rows(self) -> int:
        """Rows of all requests that wait."""
        return sum(self._waiting.values())

    def submit(
        self,
        model: str,
        signature: Signature,
        arrays: Sequence[Array],
        finish: Callable[[Outputs], Any],
        deadline: float | None = None,
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> Any:
        """Queues a request.

        Args:
          model: Its name, for the metrics.
          signature: What to call.
          arrays: From `signature.check`.
          finish: Makes the answer of the outputs, in the worker.
          deadline: The `time.monotonic()` after which nobody wants the answer.
          loop: The event loop that waits; None if a thread does.

        Returns:
          The answer to come: what `finish` returned, or a ServingError. An asyncio.Future of `loop`; if it is cancelled
          before its turn, the request isn't run. Without a loop a concurrent.futures.Future.

        Raises:
          ServingError: UNAVAILABLE if the queue is full or the server stops.
        """
        kind = signature.batch_kind(arrays, self._parameters.pad_variable_length_inputs)
        rows = max([1, *(len(array) for array in arrays if array.ndim)])
        future: Any = Future() if loop is None else loop.create_future()
        task = Task(model, signature, arrays, rows, finish, deadline, loop, future)
        part_rows = min(self._parameters.max_batch_size, max(1, CALL_VALUES // task.values_per_row))
        is_large = kind is not None and rows > part_rows
        tasks = task.parts(Whole(signature, arrays, rows, part_rows, finish)) if is_large else [task]
        with self._lock:
            if self._stopping:
                raise ServingError(grpc.StatusCode.UNAVAILABLE, "the server is stopping")
            waiting = self._waiting[is_large]
            if waiting and waiting + rows > self._max_rows:
                raise ServingError(
                    grpc.StatusCode.UNAVAILABLE,
                    "The batch scheduling queue to which this task was submitted is full: "
                    f"{waiting} rows wait, {self._max_rows} may; try again later",
                )
            key = _LARGE if is_large else task if kind is None else (signature, kind)
            queue = self._queues.setdefault(key, TaskQueue())
            for one in tasks:
                queue.put(one)
            self._waiting[is_large] += rows
            self._wake(len(tasks))
        return future

    def stop(self) -> None:
        """Answers what is queued and ends the threads."""
        with self._lock:
            self._stopping = True
            self._wake(len(self._threads))
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while batch := self._take():
            wanted = [task for task in batch if not task.future.done()]
            late = [task for task in wanted if task.is_too_late()]
            for task in late:
                task.error = deadline_exceeded()
            in_time = [task for task in wanted if task.error is None]
            if in_time:
                self._run(in_time)
            resolve_all(wanted)
            # Nothing of an unloaded version may be held while the thread waits.
            del batch, wanted, late, in_time

    def _wake(self, count: int) -> None:
        """Wakes as many idle workers, if there are so many; the lock is held."""
        count = min(count, self._idle)
        self._idle -= count
        for _ in range(count):
            self._tokens.put(None)

    def _take(self) -> list[Task]:
        """Waits for a batch; empty when there will be none any more."""
        while True:
            with self._lock:
                batch, wait = self._due()
                if batch or self._stopping:
                    return batch
                self._idle += 1
            try:
                self._tokens.get(timeout=wait)
            except Empty:
                # Idle workers and tokens are together as many as the workers that wait here: one of them is this one's.
                with self._lock:
                    if self._idle:
                        self._idle -= 1
                    else:
                        self._tokens.get_nowait()

    def _due(self) -> tuple[list[Task], float | None]:
        """A batch that may run now, else an empty one and the seconds until one may; None where nothing waits."""
        patience = self._parameters.batch_timeout_micros / 1e6
        now = time.monotonic()
        wait: float | None = None
        for kind, queue in self._queues.items():
            left = queue.tasks[0].enqueued + patience - now
            if left <= 0 or queue.rows >= self._parameters.max_batch_size or self._stopping:
                return self._take_from(kind, queue), None
            wait = left if wait is None else min(wait, left)
        return [], wait

    def _take_from(self, kind: Hashable, queue: TaskQueue) -> list[Task]:
        # One part at a time: the next may be of another request.
        batch = queue.take(0 if kind == _LARGE else self._parameters.max_batch_size)
        self._waiting[kind == _LARGE] -= sum(task.rows for task in batch)
        # The next queue is next, whatever arrives in this one.
        del self._queues[kind]
        if queue.tasks:
            self._queues[kind] = queue
        return batch

    def _run(self, tasks: list[Task]) -> None:
        signature, rows = tasks[0].signature, sum(task.rows for task in tasks)
        start = time.monotonic()
        for task in tasks:
            self._metrics.queuing_latency.observe((start - task.enqueued) * 1e6, self._parameters.thread_pool_name)
        self._metrics.run_count.add()
        self._metrics.batch_size.observe(rows, tasks[0].model)
        try:
            if len(tasks) == 1:
                outputs = signature.run(tasks[0].arrays)
            else:
                outputs = signature.run([join(arrays) for arrays in zip(*(task.arrays for task in tasks))])
                _check_rows(outputs, rows)
        except Exception as error:  # A joined call may fail for the sake of one request.
            if len(tasks) == 1:
                tasks[0].error = error
            else:
                for task in tasks:
                    self._run([task])
            return
        self._metrics.runtime_latency.observe((time.monotonic() - start) * 1e6, tasks[0].model, "Predict", "TF1")
        if len(tasks) == 1:
            tasks[0].run(outputs)
            return
        end = 0
        for task in tasks:
            begin, end = end, end + task.rows
            task.run({name: array[begin:end] for name, array in outputs.items()})


def deadline_exceeded() -> ServingError:
    """The error of a request whose time was over before it was answered."""
    return ServingError(grpc.StatusCode.DEADLINE_EXCEEDED, "the deadline passed before the request was run")


def _check_rows(outputs: Outputs, rows: int) -> None:
    for name, array in outputs.items():
        if array.ndim == 0 or len(array) != rows:
            raise ValueError(f"output {name} has the shape {array.shape}, expected {rows} rows")
