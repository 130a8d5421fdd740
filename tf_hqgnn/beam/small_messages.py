"""Steps whose workers send their output in small messages.

A Python worker of Beam's collects 10 MB before it sends them, and Beam's Java keeps up to a hundred messages that the
engine hasn't taken yet: 1 GB of a task manager's heap. Where that isn't there, the thread that receives them dies, and
the job waits for ever.
"""

from __future__ import annotations

import apache_beam as beam
from apache_beam.runners.worker import data_plane

_BYTES = 1 << 20
_USUAL_BYTES = 10 << 20


class SmallMessages(beam.DoFn):
    """A step with much output."""

    def setup(self) -> None:
        """Has no option in Beam, so its own default is changed in the worker, where that is what it was."""
        stream = data_plane.SizeBasedBufferingClosableOutputStream
        if getattr(data_plane, "_DEFAULT_SIZE_FLUSH_THRESHOLD", None) == _USUAL_BYTES:
            # Of what is sent at once, and of what is collected until then.
            data_plane._DEFAULT_SIZE_FLUSH_THRESHOLD = _BYTES
            of_stream = stream.__init__.__defaults__ or ()
            stream.__init__.__defaults__ = tuple(_BYTES if value == _USUAL_BYTES else value for value in of_stream)
