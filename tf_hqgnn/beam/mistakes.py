"""Mistakes in the input that a worker finds are told at once: an engine would try the step again and again first."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import apache_beam as beam
from apache_beam.io.filesystem import BeamIOError, CompressionTypes
from apache_beam.io.filesystems import FileSystems
from apache_beam.pipeline import PipelineVisitor

from tf_hqgnn.types import InputError

_NOTE = "mistake.txt"
_POLL_SECONDS = 1.0


def noted(process: Callable[..., Any]) -> Callable[..., Any]:
    """Decorates `process` of a DoFn: its InputError is left as a note where the pipeline's driver looks for it."""

    @functools.wraps(process)
    def wrapped(self: Any, element: Any) -> Iterator[Any]:
        try:
            yield from process(self, element)
        except InputError as error:
            folder = getattr(self, "folder_of_notes", None)
            if folder is not None:
                # Imported late, since it reads users, whose reader is one of those steps.
                from tf_hqgnn.beam.sinks import write_bytes

                write_bytes(f"{folder}/{_NOTE}", str(error).encode())
            raise

    return wrapped


class Notes:
    """The note of one run.

    Args:
      folder: that the driver and every worker see.
    """

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._path = f"{folder}/{_NOTE}"

    def take_from(self, pipeline: beam.Pipeline) -> None:
        """Tells every step where to leave a note; one of an earlier run is deleted."""
        self.forget()
        pipeline.visit(_Visitor(self._folder))

    def read(self) -> str | None:
        """Returns what a worker noted; None if nothing is wrong so far."""
        with suppress(BeamIOError, OSError):
            if FileSystems.exists(self._path):
                with FileSystems.open(self._path, compression_type=CompressionTypes.UNCOMPRESSED) as file:
                    return str(file.read().decode())
        return None

    def forget(self) -> None:
        """Deletes the note."""
        with suppress(BeamIOError, OSError):
            if FileSystems.exists(self._path):
                FileSystems.delete([self._path])

    @contextmanager
    def watched(self, cancel: Callable[[], None]) -> Iterator[None]:
        """Calls `cancel` as soon as there is a note, while the block runs."""
        stop = threading.Event()

        def watch() -> None:
            while not stop.wait(_POLL_SECONDS):
                if self.read() is not None:
                    cancel()
                    return

        thread = threading.Thread(target=watch, daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()


class _Visitor(PipelineVisitor):
    def __init__(self, folder: str) -> None:
        self._folder = folder

    def visit_transform(self, transform_node: Any) -> None:
        fn = getattr(transform_node.transform, "fn", None)
        if isinstance(fn, beam.DoFn):
            vars(fn)["folder_of_notes"] = self._folder
