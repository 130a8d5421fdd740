"""Runs a pipeline to its end; what goes wrong in a worker is told in one line."""

from __future__ import annotations

import re
from contextlib import nullcontext

import apache_beam as beam
import grpc
from apache_beam.options.pipeline_options import PortableOptions
from apache_beam.runners.runner import PipelineState

from tf_hqgnn.beam.cancelling import cancel, first_fault, is_lost, master_and_name
from tf_hqgnn.beam.flags import is_direct
from tf_hqgnn.beam.job_server import describe, kept_log
from tf_hqgnn.beam.mistakes import Notes
from tf_hqgnn.types import InputError

# Flink's answer about a job that it doesn't have.
_FORGOTTEN = "FlinkJobNotFoundException"
# What an engine says, and how to mend it.
_MENDED_BY = {
    "No space left on device": "a disk of the engine's is full: make room where its machines write shuffles and jars "
    "(Flink's io.tmp.dirs, Spark's spark.local.dir), or for the output",
    "Direct buffer memory": "a task manager of Flink's has too little direct memory for what it sends to Python: give "
    "it more (taskmanager.memory.task.off-heap.size)",
    "is no longer reachable": "a task manager of Flink's is gone, and its log says why: its machine was lost, or its "
    "memory was full (taskmanager.memory.task.heap.size)",
}


class PipelineFailed(RuntimeError):
    """The pipeline ended without all of its output."""


def run_to_end(pipeline: beam.Pipeline, folder: str | None = None) -> None:
    """Runs `pipeline`; Ctrl-C cancels it.

    Args:
      pipeline: the whole of it.
      folder: that every worker sees; where what a worker finds wrong with its input cancels the pipeline at once, and
        isn't tried again.

    Raises:
      InputError: A worker found a mistake in what it was given.
      PipelineFailed: A worker failed otherwise, or the runner.
    """
    # Beam changes the options while it runs.
    has_server = not is_direct(pipeline.options)
    endpoint = pipeline.options.view_as(PortableOptions).job_endpoint
    where = master_and_name(pipeline.options)
    notes = None
    if folder is not None and has_server:
        notes = Notes(folder)
        notes.take_from(pipeline)
    result = None
    with kept_log() as log:
        try:
            result = pipeline.run()
            try:
                with notes.watched(lambda: cancel(result, *where)) if notes else nullcontext():
                    state = result.wait_until_finish() or result.state
            except KeyboardInterrupt:
                cancel(result, *where)
                raise
        except Exception as error:
            _raise_note(notes, error)
            # A worker's exception comes as text within Beam's.
            text = f"{type(error).__name__}: {error}"
            mistake = re.search(r"InputError: (.*?)( \[while running|$)", text, re.MULTILINE)
            if mistake:
                raise InputError(mistake[1]) from error
            _raise_lost(where[0], error)
            first = first_fault(*where) or ""
            for said, mended in _MENDED_BY.items() if has_server else ():
                if said in text or said in first:
                    raise PipelineFailed(f"{mended} ({said})") from error
            if isinstance(error, (grpc.RpcError, grpc.FutureTimeoutError)) and has_server:
                if result is not None:
                    # The next run would share its output with this one.
                    cancel(result, *where)
                raise PipelineFailed(describe(error, endpoint, log, result is not None)) from error
            raise PipelineFailed(_summary(text, first)) from error
    _raise_note(notes, None)
    if state != PipelineState.DONE:
        _raise_lost(where[0], None)
        raise PipelineFailed(f"the runner says that the pipeline ended as {state}")


def _raise_lost(master: str | None, cause: Exception | None) -> None:
    """A job manager that has died took the job with it: what the job server says of that is a page of retries."""
    if _FORGOTTEN in str(cause):
        where = f" at {master}" if master else ""
        raise PipelineFailed(
            f"Flink's job manager{where} doesn't know the job any more: it was started again in the middle, and the "
            "job is lost"
        ) from cause
    if is_lost(master):
        raise PipelineFailed(
            f"Flink's job manager at {master} doesn't answer, and a job that it ran is lost; start it again, or mend "
            "--flink_master"
        ) from cause


def _raise_note(notes: Notes | None, cause: Exception | None) -> None:
    note = notes.read() if notes else None
    if notes and note is not None:
        notes.forget()
        raise InputError(note) from cause


def _summary(text: str, first: str = "") -> str:
    """The last exception that a text of tracebacks speaks of, in one line; and that of the first fault, if another.

    Example:
      >>> _summary("IllegalStateException: call is closed", "OutOfMemoryError: Metaspace")
      'IllegalStateException: call is closed; the first fault was OutOfMemoryError: Metaspace'
    """
    starts = [match.start() for match in re.finditer(r"^[\w.]+(Error|Exception)\b", text, re.MULTILINE)]
    line = " ".join(text[starts[-1] if starts else 0 :].split())[:500]
    cause = _summary(first) if first else ""
    return line if not cause or cause in line else f"{line}; the first fault was {cause}"
