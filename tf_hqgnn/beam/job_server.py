"""Job servers, to which the runners of Flink and Spark give a pipeline: what they take, and how they fail."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
from apache_beam.portability.api import beam_job_api_pb2, beam_job_api_pb2_grpc

from tf_hqgnn.types import InputError

# Java's SdkHarnessOptions.LogLevel. A job server parses the option, too, and refuses the whole job over any other.
JAVA_LEVELS = ("OFF", "ERROR", "WARN", "INFO", "DEBUG", "TRACE")
# Those that the workers know, which are in Python.
LEVELS = ("ERROR", "WARN", "INFO", "DEBUG")
# What a job server prints that Beam has started goes to this logger.
_PRINTED = "apache_beam.utils.subprocess_server"
_SECONDS_TO_DESCRIBE = 30.0


def check_levels(default: str | None, overrides: Mapping[str, str] | None) -> None:
    """Refuses log levels that either side doesn't know.

    Args:
      default: --default_sdk_harness_log_level.
      overrides: --sdk_harness_log_level_overrides.

    Raises:
      InputError: One is of Python alone (WARNING, CRITICAL, a number), or of Java alone.
    """
    given = {"--default_sdk_harness_log_level": default}
    given |= {f"--sdk_harness_log_level_overrides, {name}": level for name, level in (overrides or {}).items()}
    for where, level in given.items():
        if level is not None and level not in LEVELS:
            raise InputError(
                f"{where}: {level}: a job server of Java refuses every job with this level; expected one of "
                f"{', '.join(LEVELS)}"
            )


def describe_options(endpoint: str) -> dict[str, dict[str, Any]]:
    """Asks a job server which options its engine has.

    Args:
      endpoint: HOST:PORT.

    Returns:
      For each option, such as --object_reuse, how argparse takes it; empty if there is no answer.
    """
    kinds: dict[int, dict[str, Any]] = {
        beam_job_api_pb2.PipelineOptionType.BOOLEAN: {"action": "store_true"},
        beam_job_api_pb2.PipelineOptionType.INTEGER: {"type": int},
        beam_job_api_pb2.PipelineOptionType.ARRAY: {"action": "append"},
    }
    with grpc.insecure_channel(endpoint) as channel:
        service = beam_job_api_pb2_grpc.JobServiceStub(channel)
        request = beam_job_api_pb2.DescribePipelineOptionsRequest()
        try:
            options = service.DescribePipelineOptions(request, timeout=_SECONDS_TO_DESCRIBE).options
        except grpc.RpcError:
            # Whoever then gives it a job says so.
            return {}
    return {
        f"--{option.name}": {"action": "store_false"}
        if option.type == beam_job_api_pb2.PipelineOptionType.BOOLEAN and option.default_value == "true"
        else kinds.get(option.type, {})
        for option in options
    }


@contextmanager
def kept_log() -> Iterator[Path]:
    """Keeps what a job server prints that Beam starts while the block runs.

    Yields:
      A file, which is empty where Beam starts none; it stays if the block fails and there is something in it.
    """
    descriptor, name = tempfile.mkstemp(prefix="beam-job-server-", suffix=".log")
    os.close(descriptor)
    path, logger = Path(name), logging.getLogger(_PRINTED)
    handler = logging.FileHandler(path, encoding="utf-8", errors="backslashreplace")
    before = logger.level, logger.propagate
    logger.addHandler(handler)
    if not logger.isEnabledFor(logging.INFO):
        logger.setLevel(logging.INFO)
        # Whoever didn't ask for these lines doesn't get them.
        logger.propagate = False
    is_done = False
    try:
        yield path
        is_done = True
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before[0])
        logger.propagate = before[1]
        handler.close()
        if is_done or not path.stat().st_size:
            path.unlink()


def describe(error: Exception, endpoint: str | None, log: Path, is_submitted: bool) -> str:
    """A failed call of a job server in one line: what it did, and where its log is.

    Args:
      error: grpc.RpcError, or grpc.FutureTimeoutError.
      endpoint: HOST:PORT of the server; None if Beam started one.
      log: of `kept_log`.
      is_submitted: whether the server had taken the job.
    """
    server = f"the job server at {endpoint}" if endpoint else "the job server that Beam started"
    code, reason = grpc.StatusCode.UNAVAILABLE, ""
    if isinstance(error, grpc.Call):
        code, reason = error.code(), " ".join((error.details() or "").split())
    status = f"{code.name}: {reason}" if reason else f"{code.name}, without a reason"
    where = (
        f"its log is {log}" if log.stat().st_size else "its log, which the process prints that you started, says why"
    )
    if is_submitted:
        return f"{server} was lost while the job ran ({status}); the job may go on without it; {where}"
    if code == grpc.StatusCode.UNAVAILABLE:
        return f"{server} doesn't answer ({status}); {'start it, or mend --job_endpoint' if endpoint else where}"
    return f"{server} refused the job ({status}); {where}"
