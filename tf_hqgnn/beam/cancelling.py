"""Cancels jobs, and finds how their faults began, by asking Flink's job manager besides Beam's job server.

The job server only stops watching a job, which then goes on, and tells the fault of the last attempt alone.
"""

from __future__ import annotations

import json
import urllib.request
from contextlib import suppress
from typing import Any

import grpc
from apache_beam.options.pipeline_options import FlinkRunnerOptions, GoogleCloudOptions, PipelineOptions

_SECONDS = 30.0
_ENDED = ("FINISHED", "CANCELED", "FAILED")


def cancel(result: Any, master: str | None, name: str | None) -> None:
    """Cancels a running pipeline, as well as can be: what doesn't answer any more is left alone.

    Args:
      result: of `Pipeline.run`.
      master: HOST:PORT of Flink's job manager, where the job is cancelled, too; None if it isn't known.
      name: of the job.
    """
    with suppress(grpc.RpcError):
        result.cancel()
    cancel_on_flink(master, name)


def master_and_name(options: PipelineOptions) -> tuple[str | None, str | None]:
    """Returns what `cancel` takes; the master is known if --flink_master names it."""
    master = options.view_as(FlinkRunnerOptions).flink_master
    return None if not master or master.startswith("[") else master, options.view_as(GoogleCloudOptions).job_name


def cancel_on_flink(master: str | None, name: str | None) -> None:
    """Asks Flink to cancel its jobs of a name; nothing is done if either isn't known, or it doesn't answer."""
    if not master or not name:
        return
    address = _address(master)
    with suppress(OSError, ValueError):
        for job in _jobs(address, name):
            if job["state"] not in _ENDED:
                _ask(f"{address}/jobs/{job['jid']}?mode=cancel", "PATCH")


def is_lost(master: str | None) -> bool:
    """Whether Flink's job manager, HOST:PORT, doesn't answer; False if it isn't known."""
    if master is None:
        return False
    try:
        _ask(f"{_address(master)}/overview")
    except (OSError, ValueError):
        return True
    return False


def first_fault(master: str | None, name: str | None) -> str | None:
    """Java's text of the first fault of a job; what comes after it is often no more than its consequence.

    Args:
      master: HOST:PORT of Flink's job manager; None if it isn't known.
      name: of the job.

    Returns:
      None where there was no fault, or the job manager doesn't answer.
    """
    if not master or not name:
        return None
    address = _address(master)
    # ValueError where there is no such job, IndexError where it has had no fault.
    with suppress(OSError, ValueError, LookupError):
        newest = max(_jobs(address, name), key=lambda job: job["start-time"])
        return str(_ask(f"{address}/jobs/{newest['jid']}/exceptions")["exceptionHistory"]["entries"][-1]["stacktrace"])
    return None


def _jobs(address: str, name: str) -> list[Any]:
    """Flink's jobs of a name."""
    return [job for job in _ask(f"{address}/jobs/overview")["jobs"] if job["name"] == name]


def _address(master: str) -> str:
    return master if "://" in master else f"http://{master}"


def _ask(url: str, method: str = "GET") -> Any:
    with urllib.request.urlopen(urllib.request.Request(url, method=method), timeout=_SECONDS) as answer:
        return json.loads(answer.read() or b"{}")
