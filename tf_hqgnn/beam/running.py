"""Runs a pipeline to its end; what goes wrong in a worker is told in one line."""

from __future__ import annotations

import re

import apache_beam as beam
from apache_beam.runners.runner import PipelineState

from tf_hqgnn.types import InputError


class PipelineFailed(RuntimeError):
    """The pipeline ended without all of its output."""


def run_to_end(pipeline: beam.Pipeline) -> None:
    """Runs `pipeline`; Ctrl-C cancels it.

    Raises:
      InputError: A worker found a mistake in what it was given.
      PipelineFailed: A worker failed otherwise, or the runner.
    """
    try:
        result = pipeline.run()
        try:
            state = result.wait_until_finish() or result.state
        except KeyboardInterrupt:
            result.cancel()
            raise
    except Exception as error:
        # A worker's exception comes as text within Beam's.
        mistake = re.search(r"InputError: (.*?)( \[while running|$)", f"{type(error).__name__}: {error}", re.MULTILINE)
        if mistake:
            raise InputError(mistake[1]) from error
        raise PipelineFailed(_summary(error)) from error
    if state != PipelineState.DONE:
        raise PipelineFailed(f"the runner says that the pipeline ended as {state}")


def _summary(error: Exception) -> str:
    """The last exception that a text of tracebacks speaks of, in one line."""
    text = f"{type(error).__name__}: {error}"
    starts = [match.start() for match in re.finditer(r"^[\w.]+(Error|Exception)\b", text, re.MULTILINE)]
    return " ".join(text[starts[-1] if starts else 0 :].split())[:500]
