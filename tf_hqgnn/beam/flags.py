"""Beam's own flags: understood by some runner, or refused."""

from __future__ import annotations

import argparse
import difflib
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import (
    DirectOptions,
    GoogleCloudOptions,
    PipelineOptions,
    PortableOptions,
    StandardOptions,
    WorkerOptions,
)
from apache_beam.portability.api import beam_provision_api_pb2
from apache_beam.runners.portability.fn_api_runner import fn_runner
from apache_beam.runners.portability.portable_runner import JobServiceHandle
from apache_beam.runners.runner import PipelineRunner, create_runner

from tf_hqgnn.beam.job_server import check_levels, describe_options
from tf_hqgnn.types import InputError

_DASK = (
    "--runner=DaskRunner loses data without an error (Beam 2.72: a pipeline's second branch never runs, and what a "
    "bundle's end emits is dropped): take DirectRunner with --direct_running_mode=multi_processing, or FlinkRunner, "
    "SparkRunner, DataflowRunner"
)
_DIRECT = ("", "directrunner", "direct", "switchingdirectrunner", "bundlebaseddirectrunner")
# Only Flink has this option. In its default mode, PIPELINED, all shuffles of a job exist at once, each with network
# buffers of its own, and a fault anywhere repeats the whole job; forced batches go to the disk, step by step.
_FLINK_MODE, _FLINK_BATCHES = "execution_mode_for_batch", "BATCH_FORCED"
# By default engines start Python anew for every step. A worker that died is given up after this time only, which must
# therefore be shorter than the pause before an engine's next attempt (Flink's default: a second).
_CACHE_MILLISECONDS = 500


def parse_flags(flags: Sequence[str]) -> PipelineOptions:
    """Returns the options that `flags` stand for; a job server is asked for those that its engine has besides.

    Defaults of Beam's that don't suit these jobs are others: Flink's batches are forced, and an engine keeps its Python
    workers for half a second.

    Args:
      flags: of Beam and of the engine. What follows `--` is passed on to the engine as it is, for options that nobody
        can be asked for beforehand: with --runner=FlinkRunner, Beam starts the job server later.

    Raises:
      InputError: A flag is none of Beam's or of the engine's, or has a value that can't be, or names a runner that
        can't be trusted.

    Example:
      >>> parse_flags(["--parallelism=4", "--runner=FlinkRunner"]).view_as(StandardOptions).runner
      'FlinkRunner'
      >>> parse_flags(["-zz"])
      Traceback (most recent call last):
      tf_hqgnn.types.InputError: -zz: not an option of this command nor of Apache Beam
    """
    return options_of(complete_flags(flags))


def options_of(given: Sequence[str]) -> PipelineOptions:
    """Returns the options of what `complete_flags` made, with the defaults that suit these jobs; see `parse_flags`.

    Raises:
      InputError: A value can't be, or a runner can't be trusted.
    """
    options = PipelineOptions([*given])
    if not is_direct(options):
        portable = options.view_as(PortableOptions)
        portable.environment_cache_millis = portable.environment_cache_millis or _CACHE_MILLISECONDS
        # By its name, a job is found where it is to be cancelled.
        cloud = options.view_as(GoogleCloudOptions)
        cloud.job_name = cloud.job_name or f"tf-hqgnn-{uuid.uuid4().hex[:12]}"
    worker = options.view_as(WorkerOptions)
    if not is_direct(options) and "dataflow" not in runner_name(options):
        check_levels(worker.default_sdk_harness_log_level, worker.sdk_harness_log_level_overrides)
    # By default workers would write a page of how they start and end, and of each error that is raised here, too. On
    # other machines that page is their log, and errors belong there; CRITICAL is no level of Java's besides.
    quiet = "CRITICAL" if is_direct(options) else "ERROR"
    worker.default_sdk_harness_log_level = worker.default_sdk_harness_log_level or quiet
    if "dask" in runner_name(options):
        raise InputError(_DASK)
    direct = options.view_as(DirectOptions)
    if is_direct(options) and direct.direct_num_workers != 1 and direct.direct_running_mode == "in_memory":
        raise InputError(
            f"--direct_num_workers={direct.direct_num_workers} has no effect in memory: add "
            "--direct_running_mode=multi_processing"
        )
    # In this process; Beam does so in its workers. Without it, stores have no credentials and no address.
    FileSystems.set_options(options)
    return options


def complete_flags(flags: Sequence[str]) -> list[str]:
    """Returns `flags` as Beam takes them, without `--`, and with the mode of Flink's batches.

    Raises:
      InputError: A flag is none of Beam's or of the engine's.
    """
    flags, passed = split_passed(flags)
    parser = _Parser(allow_abbrev=False, add_help=False)
    for group in PipelineOptions.__subclasses__():
        if group.__module__ == PipelineOptions.__module__:
            add_arguments: Any = group._add_argparse_args
            add_arguments(parser)
    known = {name for action in parser._actions for name in action.option_strings}
    endpoint = parser.parse_known_args(list(flags))[0].job_endpoint
    theirs = describe_options(endpoint) if endpoint and ":" in endpoint else {}
    for name, arguments in theirs.items():
        if name not in known:
            parser.add_argument(name, **arguments)
    given, unknown = parser.parse_known_args(list(flags))
    runner = (given.runner or "").rpartition(".")[2].lower()
    if unknown:
        close = difflib.get_close_matches(unknown[0].partition("=")[0], [*known, *theirs], n=1)
        hint = f"; do you mean {close[0]}?" if close else ""
        asked = f", nor of the engine behind {endpoint}" if theirs else ""
        if endpoint and not theirs:
            asked = f", and no job server at {endpoint} says which options its engine has"
        elif not theirs and runner not in _DIRECT:
            hint += f"; options of the engine come last, after --, as in `-- {unknown[0]}`"
        raise InputError(f"{unknown[0]}: not an option of this command nor of Apache Beam{asked}{hint}")
    if passed and runner in _DIRECT:
        raise InputError(f"-- {' '.join(passed)}: the direct runner has no engine to pass this on to")
    # The last one counts.
    return [*_flink_defaults(given, theirs), *flags, *passed]


def split_passed(flags: Sequence[str]) -> tuple[list[str], list[str]]:
    """Returns what stands before the first `--`, and what follows it.

    Example:
      >>> split_passed(["--runner=FlinkRunner", "--", "--object_reuse"])
      (['--runner=FlinkRunner'], ['--object_reuse'])
    """
    given = [*flags]
    where = given.index("--") if "--" in given else len(given)
    return given[:where], given[where + 1 :]


def is_direct(options: PipelineOptions) -> bool:
    """Whether the pipeline runs on this machine, under this process."""
    return runner_name(options) in _DIRECT


def has_worker_processes(options: PipelineOptions) -> bool:
    """Whether it is the direct runner with processes of its own."""
    return is_direct(options) and options.view_as(DirectOptions).direct_running_mode == "multi_processing"


def is_prism(options: PipelineOptions) -> bool:
    """Whether Beam starts prism on this machine for the pipeline."""
    return runner_name(options) == "prismrunner" and not options.view_as(PortableOptions).job_endpoint


def hangs_without_workers(options: PipelineOptions) -> bool:
    """Whether the runner waits for ever for a worker process that has died, so that the job has to be supervised."""
    return has_worker_processes(options) or is_prism(options)


def make_runner(options: PipelineOptions) -> PipelineRunner:
    """The runner that `options` name.

    Raises:
      InputError: There is none of that name.
    """
    if is_direct(options):
        # What DirectRunner ends up with for a batch pipeline, after it tried to download another runner's binary.
        provision = beam_provision_api_pb2.ProvisionInfo(
            pipeline_options=JobServiceHandle.encode_pipeline_options(options.get_all_options())
        )
        return fn_runner.FnApiRunner(provision_info=fn_runner.ExtendedProvisionInfo(provision))
    name = options.view_as(StandardOptions).runner
    try:
        return create_runner(name)
    except (AttributeError, ImportError, RuntimeError, ValueError) as error:
        raise InputError(f"--runner={name}: {' '.join(str(error).split())}") from error


def _flink_defaults(given: argparse.Namespace, theirs: Mapping[str, Any]) -> list[str]:
    is_flink = f"--{_FLINK_MODE}" in theirs or (given.runner or "").rpartition(".")[2].lower() == "flinkrunner"
    return [f"--{_FLINK_MODE}={_FLINK_BATCHES}"] if is_flink and getattr(given, _FLINK_MODE, None) is None else []


def runner_name(options: PipelineOptions) -> str:
    """Returns the name of the runner's class in small letters, empty for the default."""
    return (options.view_as(StandardOptions).runner or "").rpartition(".")[2].lower()


class _Parser(argparse.ArgumentParser):
    """Raises where argparse would print its usage, which here is Beam's, and end the process."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"Beam: {message}")
