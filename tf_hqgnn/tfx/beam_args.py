"""Apache Beam's options for TFX's components: what `parse_flags` makes of them, as the strings that TFX takes."""

from __future__ import annotations

from collections.abc import Sequence

from apache_beam.options.pipeline_options import GoogleCloudOptions, PipelineOptions, PortableOptions, WorkerOptions

from tf_hqgnn.beam.cancelling import cancel_on_flink, master_and_name
from tf_hqgnn.beam.flags import complete_flags, is_direct, options_of
from tf_hqgnn.types import InputError

# Workers that have this package already: TFX would pack its own source, in seconds for each component, for others.
_INSTALLED = ("PROCESS", "EXTERNAL", "LOOPBACK")


def beam_arguments(flags: Sequence[str]) -> list[str]:
    """Returns `beam_pipeline_args` of a pipeline; none for none, which is the direct runner in this process.

    Args:
      flags: of Apache Beam and of its engine, as `parse_flags` takes them.

    Raises:
      InputError: See `parse_flags`; or the workers can't see this machine's files, where the artifacts are.
    """
    if not flags:
        return []
    given = complete_flags(flags)
    options = options_of(given)
    if is_direct(options):
        return given
    environment = (options.view_as(PortableOptions).environment_type or "").upper()
    if environment not in _INSTALLED:
        raise InputError(
            f"--environment_type={environment or 'DOCKER, the default'}: workers in containers don't see the files of "
            f"the pipeline, which are on this machine; expected {' or '.join(_INSTALLED)}"
        )
    chosen = {
        "environment_cache_millis": options.view_as(PortableOptions).environment_cache_millis,
        "default_sdk_harness_log_level": options.view_as(WorkerOptions).default_sdk_harness_log_level,
        # By its name, a job is cancelled.
        "job_name": options.view_as(GoogleCloudOptions).job_name,
        "sdk_container_image": "installed",
    }
    return [*given, *(f"--{name}={value}" for name, value in chosen.items())]


def cancel_jobs(arguments: Sequence[str]) -> None:
    """Cancels the jobs of these arguments on Flink, if they name its job manager; if it doesn't answer, nothing is."""
    cancel_on_flink(*master_and_name(PipelineOptions([*arguments])))
