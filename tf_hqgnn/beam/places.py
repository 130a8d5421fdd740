"""Where a job's files are: where every worker finds them, and one run at a time writes them."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import PipelineOptions, PortableOptions

from tf_hqgnn.beam.flags import is_direct, runner_name
from tf_hqgnn.files.lock import locked_beside
from tf_hqgnn.types import InputError


def for_workers(options: PipelineOptions, name: str, path: str) -> str:
    """Returns a path as workers must be told it: an absolute one, whatever folders they run in.

    Args:
      options: of the job.
      name: of the option that gave the path, for messages.
      path: of this machine, or of a store, such as gs://.

    Raises:
      InputError: The workers can't see this machine's files.

    Example:
      >>> for_workers(PipelineOptions(), "--out", "out.parquet")
      'out.parquet'
      >>> for_workers(PipelineOptions(["--runner=DataflowRunner"]), "--out", "gs://bucket/out.parquet")
      'gs://bucket/out.parquet'
    """
    if "://" in path or is_direct(options):
        return path
    if "dataflow" in runner_name(options):
        raise InputError(
            f"{name} {path}: Dataflow's workers don't see this machine's files; name a place of a store, such as "
            "gs://BUCKET/NAME"
        )
    kind = options.view_as(PortableOptions).environment_type
    if (kind or "").upper() == "DOCKER" or (kind is None and runner_name(options) == "portablerunner"):
        raise InputError(
            f"{name} {path}: workers in containers (--environment_type=DOCKER, the default) don't see this machine's "
            "files; name a place of a store, such as s3://BUCKET/NAME, or give --environment_type=PROCESS or EXTERNAL"
        )
    return str(Path(path).absolute())


def find(pattern: str) -> list[Any]:
    """Return Beam's metadata of the files that a pattern finds, each with its `path`.

    Beam itself finds nothing by a pattern that names no folder, such as `edges-*.parquet`.
    """
    return list(FileSystems.match([pattern if "/" in pattern else f"./{pattern}"])[0].metadata_list)


def alone(out: str) -> AbstractContextManager[None]:
    """Keeps a second run from the same output on this machine, or on what mounts its folder; buckets have no locks."""
    path = Path(out)
    if "://" in out or not path.absolute().parent.is_dir():
        return nullcontext()
    refusal = f"--out {out}: another run is writing it; wait until it is done, or choose another name"
    return locked_beside(path, refusal)
