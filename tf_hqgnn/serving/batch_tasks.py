"""Requests as tasks of a batcher: one alone, in parts, or in a queue of those that can be joined."""

from __future__ import annotations

import asyncio
import functools
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any, Callable, Sequence

from tf_hqgnn.serving.parts import CALL_VALUES, Outputs, Whole, values_per_row
from tf_hqgnn.serving.signature import Signature
from tf_hqgnn.types import Array


@dataclass(eq=False)
class Task:
    """One request: checked arrays in the signature's order, and what makes an answer of the outputs.

    Its future belongs to `loop`, and is set there; to any thread if that is None.
    """

    model: str
    signature: Signature
    arrays: Sequence[Array]
    rows: int
    finish: Callable[[Outputs], Any]
    deadline: float | None
    loop: asyncio.AbstractEventLoop | None
    future: Any
    enqueued: float = field(default_factory=time.monotonic)
    answer: Any = None
    error: Exception | None = None
    is_answered: bool = True

    @functools.cached_property
    def values_per_row(self) -> int:
        """See `parts.values_per_row`."""
        return values_per_row(self.signature, self.arrays)

    def is_too_late(self) -> bool:
        """Whether nobody wants the answer any more."""
        return self.deadline is not None and time.monotonic() >= self.deadline

    def run(self, outputs: Outputs) -> None:
        """Makes the answer of what the model returned for this task's rows."""
        try:
            self.answer = self.finish(outputs)
        except Exception as error:  # Whatever it is, the client is told and the worker goes on.
            self.error = error

    def resolve(self) -> None:
        """Hands the answer, or the error, to who waits; in the thread of `loop`."""
        if self.future.done():
            return  # Cancelled: nobody waits any more. Or another part has failed.
        if self.error is not None:
            self.future.set_exception(self.error)
        elif self.is_answered:
            self.future.set_result(self.answer)

    def parts(self, whole: Whole) -> list[Task]:
        """The same request, in parts; the last to be done has the answer."""
        parts: list[Task] = []
        for start in whole.starts:
            inputs = whole.part(start)
            rows = min(whole.starts.step, self.rows - start)
            finish = functools.partial(whole.add, start)
            parts.append(Part(self.model, self.signature, inputs, rows, finish, self.deadline, self.loop, self.future))
        return parts


@dataclass(eq=False)
class Part(Task):
    """Some rows of a large request; its `finish` says whether it was the last, and the answer of all then."""

    def run(self, outputs: Outputs) -> None:
        """See `Task`."""
        super().run(outputs)
        if self.error is None:
            self.is_answered, self.answer = self.answer


class TaskQueue:
    """Requests that can be joined."""

    def __init__(self) -> None:
        self.tasks: deque[Task] = deque()
        self.rows = 0

    def put(self, task: Task) -> None:
        """Adds a task behind the others."""
        self.tasks.append(task)
        self.rows += task.rows

    def take(self, max_rows: int) -> list[Task]:
        """The oldest tasks that fit into a batch, at least one."""
        taken = [self.tasks.popleft()]
        rows, widest = taken[0].rows, taken[0].values_per_row
        while self.tasks and rows + self.tasks[0].rows <= max_rows:
            # Lists are padded to the widest.
            widest = max(widest, self.tasks[0].values_per_row)
            if (rows + self.tasks[0].rows) * widest > CALL_VALUES:
                break
            taken.append(self.tasks.popleft())
            rows += taken[-1].rows
        self.rows -= rows
        return taken


def resolve_all(tasks: list[Task]) -> None:
    """Wakes each event loop once, however many answers it gets."""
    for loop in {task.loop for task in tasks}:
        mine = [task for task in tasks if task.loop is loop]
        if loop is None:
            _resolve(mine)
        elif not loop.is_closed():
            loop.call_soon_threadsafe(_resolve, mine)


def _resolve(tasks: list[Task]) -> None:
    for task in tasks:
        task.resolve()
