"""Steps with much output, whose workers send it in small messages and wait while it isn't taken.

A Python worker of Beam's collects 10 MB before it sends them, and Beam's Java keeps up to a hundred messages that the
engine hasn't taken yet: 1 GB of a task manager's heap. Where that isn't there, the thread that receives them dies. What
Java doesn't take, Python keeps without a limit: at worst all that a step makes of a file of the log.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any

import apache_beam as beam
from apache_beam.runners.worker import data_plane

_BYTES = 1 << 20
_USUAL_BYTES = 10 << 20
# Messages that may wait to be sent, of all steps of a worker.
_WAITING = 16
_PAUSE_SECONDS = 0.01


class SmallMessages(beam.DoFn):
    """A step with much output."""

    def setup(self) -> None:
        """Has no option in Beam, so its own defaults are changed in the worker, where they are what they were."""
        stream = data_plane.SizeBasedBufferingClosableOutputStream
        if getattr(data_plane, "_DEFAULT_SIZE_FLUSH_THRESHOLD", None) == _USUAL_BYTES:
            # Of what is sent at once, and of what is collected until then.
            data_plane._DEFAULT_SIZE_FLUSH_THRESHOLD = _BYTES
            of_stream = stream.__init__.__defaults__ or ()
            stream.__init__.__defaults__ = tuple(_BYTES if value == _USUAL_BYTES else value for value in of_stream)
            channel = data_plane._GrpcDataChannel
            channel.output_stream = _patient(channel.output_stream)


def _patient(output_stream: Callable[..., Any]) -> Callable[..., Any]:
    """`_GrpcDataChannel.output_stream` whose stream waits while much waits to be sent, unless the channel is closed."""

    @functools.wraps(output_stream)
    def patient(channel: Any, *arguments: Any) -> Any:
        stream = output_stream(channel, *arguments)
        flush = stream._flush_callback

        def flush_when_taken(data: bytes) -> None:
            while channel._to_send.qsize() > _WAITING and not channel._closed:
                time.sleep(_PAUSE_SECONDS)
            flush(data)

        stream._flush_callback = flush_when_taken
        return stream

    return patient
