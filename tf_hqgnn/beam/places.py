"""Where a job's files are: where every worker finds them, and one run at a time writes them."""

from __future__ import annotations

import uuid
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import PipelineOptions, PortableOptions

from tf_hqgnn.beam.flags import is_direct, runner_name
from tf_hqgnn.files.lock import locked_beside
from tf_hqgnn.types import InputError

# Beam's extra with the libraries of a store, and what it says without them.
_EXTRAS = {"s3": "aws", "gs": "gcp", "hdfs": "hadoop", "azfs": "azure"}
_NOT_INSTALLED = ("Unable to get filesystem", "dependencies are not installed", "Missing boto3")


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


def reach(name: str, path: str, is_output: bool = False) -> str:
    """Returns a path of this machine, or of a store that answers Beam.

    Args:
      name: of the option or setting that gave the path, for messages.
      path: a file, folder or pattern, there or not.
      is_output: whether it is written to. Then a small object beside it is written and deleted: a store says only then
        that it has no such bucket.

    Raises:
      InputError: The store is of a kind that Beam doesn't know here, or refuses.
    """
    if "://" not in path:
        return path
    try:
        FileSystems.exists(path)
        if is_output:
            beside = f"{path.rstrip('/')}.tmp-{uuid.uuid4().hex}"
            with FileSystems.create(beside, compression_type=CompressionTypes.UNCOMPRESSED) as file:
                file.write(b"check")
            FileSystems.delete([beside])
    # Beam and the stores' own libraries have no common kind of error.
    except Exception as error:
        scheme = FileSystems.get_scheme(path)
        causes = [*(getattr(error, "exception_details", None) or {}).values(), error]
        if any(text in str(causes[0]) for text in _NOT_INSTALLED):
            extra = _EXTRAS.get(str(scheme))
            why = "is no store that Beam reads here; expected s3:// or gs://"
            if extra:
                why = f'needs libraries that Beam doesn\'t bring by itself: pip install "apache-beam[{extra}]"'
            raise InputError(f"{name} {path}: {scheme}:// {why}") from error
        reason = " ".join(str(causes[0]).split())
        raise InputError(
            f"{name} {path}: the store refuses, or doesn't answer ({reason[:200]}); check the bucket, the store's "
            "address and the credentials, as Beam is told them (--s3_endpoint_url, ..) or the environment has them"
        ) from error
    return path


def for_tensorflow(name: str, path: str) -> str:
    """Returns the path of a model, if TensorFlow can load it from there.

    Args:
      name: of the option that gave the path, for messages.
      path: a folder of this machine, or of a store.

    Raises:
      InputError: TensorFlow opens no stores of that kind, or this one doesn't answer.
    """
    scheme = FileSystems.get_scheme(path)
    if scheme is not None:
        # It takes seconds to import, and local models need nothing of it here.
        import tensorflow as tf

        known = tf.io.gfile.get_registered_schemes()
        if scheme not in known:
            also = ", or put it into a bucket of gs://" if "gs" in known else ""
            raise InputError(
                f"{name} {path}: TensorFlow loads no model from {scheme}://; copy the model to where all workers see "
                f"it as a folder, or mount the bucket{also}"
            )
    return reach(name, path)


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
