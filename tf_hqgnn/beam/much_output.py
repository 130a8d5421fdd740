"""Steps with much output, whose workers send it in small messages, and keep on disk what isn't taken yet.

A Python worker of Beam's collects 10 MB before it sends them, and Beam's Java keeps up to a hundred messages that the
engine hasn't taken yet: 1 GB of a task manager's heap. Where that isn't there, the thread that receives them dies.

Flink and Spark take more than these only when a worker has done all of its part of a step, so whatever the step makes
until then waits in the worker. Beam keeps it in memory: half of a log, where there are two workers.
"""

from __future__ import annotations

import functools
import os
import tempfile
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import apache_beam as beam
from apache_beam.portability.api import beam_fn_api_pb2
from apache_beam.runners.worker import data_plane

_BYTES = 1 << 20
_USUAL_BYTES = 10 << 20
# Messages of a worker that wait in memory, at most; and bytes of one that can't wait there as well as on disk.
_IN_MEMORY, _LARGE = 16, 1 << 12


class MuchOutput(beam.DoFn):
    """A step with much output."""

    def setup(self) -> None:
        """Has no option in Beam, so its own defaults are changed in the worker, where they are what they were."""
        stream = data_plane.SizeBasedBufferingClosableOutputStream
        if getattr(data_plane, "_DEFAULT_SIZE_FLUSH_THRESHOLD", None) == _USUAL_BYTES:
            # Of what is sent at once, and of what is collected until then.
            data_plane._DEFAULT_SIZE_FLUSH_THRESHOLD = _BYTES
            of_stream = stream.__init__.__defaults__ or ()
            stream.__init__.__defaults__ = tuple(_BYTES if value == _USUAL_BYTES else value for value in of_stream)
            channel: Any = data_plane._GrpcDataChannel
            channel.output_stream = _spilling(channel.output_stream)


class _Spilled(NamedTuple):
    """Where a message is in the file."""

    start: int
    size: int


class MessageQueue:
    """Messages, first in, first out, of which most wait in a file that nobody else sees: what `queue.Queue` keeps.

    Args:
      messages: that wait already.

    Example:
      >>> data = beam_fn_api_pb2.Elements.Data(data=bytes(10_000))
      >>> messages = MessageQueue([data] * 100)
      >>> len(messages), messages.popleft() == data, len(messages)
      (100, True, 99)
    """

    def __init__(self, messages: Iterable[Any] = ()) -> None:
        self._waiting: deque[Any] = deque()
        self._in_memory = self._end = 0
        # A file of its own, which goes with the worker, however that ends.
        self._file: Any = None
        for message in messages:
            self.append(message)

    def __len__(self) -> int:
        return len(self._waiting)

    def append(self, message: Any) -> None:
        """Puts a message at the end. Raises OSError where the disk is full."""
        # Others have no data: timers, and what marks an end.
        data = getattr(message, "data", b"")
        if self._in_memory >= _IN_MEMORY and len(data) >= _LARGE:
            content = message.SerializeToString()
            if self._file is None:
                self._file = tempfile.TemporaryFile(prefix="tf_hqgnn-")  # noqa: SIM115
                weakref.finalize(self, self._file.close)
            self._file.seek(self._end)
            self._file.write(content)
            message = _Spilled(self._end, len(content))
            self._end += len(content)
        else:
            self._in_memory += 1
        self._waiting.append(message)

    def popleft(self) -> Any:
        """Takes the first message."""
        message = self._waiting.popleft()
        if not isinstance(message, _Spilled):
            self._in_memory -= 1
            return message
        self._file.seek(message.start)
        content = self._file.read(message.size)
        if message.start + message.size == self._end:
            # Nothing is in the file any more.
            self._file.truncate(0)
            self._end = 0
        return beam_fn_api_pb2.Elements.Data.FromString(content)


def _spilling(output_stream: Callable[..., Any]) -> Callable[..., Any]:
    """`_GrpcDataChannel.output_stream`, whose channel keeps a `MessageQueue` of what is to be sent."""

    @functools.wraps(output_stream)
    def spilling(channel: Any, *arguments: Any) -> Any:
        to_send = channel._to_send
        with to_send.mutex:
            is_new = not isinstance(to_send.queue, MessageQueue)
            if is_new:
                to_send.queue = MessageQueue(to_send.queue)
        if is_new:
            threading.Thread(target=_end_with, args=(channel,), daemon=True).start()
        return output_stream(channel, *arguments)

    return spilling


def _end_with(channel: Any) -> None:
    """Ends the worker when its channel has failed, since the rest of its output will never arrive.

    The engine then tries again, if it hasn't heard yet that the worker's part is done; else it waits for ever.
    """
    channel.wait()
    if channel._exception is not None:
        os._exit(1)
