"""An event loop in a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Callable, Coroutine, TypeVar

T = TypeVar("T")


class EventLoopThread:
    """Runs coroutines for other threads.

    Args:
      name: Of the thread.
      report: Told what goes wrong in the loop's own callbacks; None leaves it to asyncio, which logs it.
    """

    def __init__(
        self, name: str, report: Callable[[asyncio.AbstractEventLoop, dict[str, Any]], object] | None = None
    ) -> None:
        self._loop = asyncio.new_event_loop()
        # What asyncio.to_thread runs in; of this class, so that the end needn't wait for it.
        self._workers = ThreadPoolExecutor(thread_name_prefix=f"{name}-worker")
        self._loop.set_default_executor(self._workers)
        self._loop.set_exception_handler(report)
        self._thread = threading.Thread(target=self._loop.run_forever, name=name, daemon=True)
        self._thread.start()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """What the coroutine returns."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    def end(self) -> None:
        """Ends the thread. Work given to `asyncio.to_thread` that still goes on isn't waited for."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        # A task that is dropped unfinished writes pages of log when it is collected.
        self._loop.run_until_complete(_cancel_tasks())
        self._workers.shutdown(wait=False, cancel_futures=True)
        self._loop.close()


async def _cancel_tasks() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
