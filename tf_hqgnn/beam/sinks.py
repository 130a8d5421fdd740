"""Shards as files: Parquet or TFRecord, each under a temporary name until it is complete."""

from __future__ import annotations

import collections
import json
import posixpath
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq
from apache_beam.io.filesystem import BeamIOError, CompressionTypes
from apache_beam.io.filesystems import FileSystems

from tf_hqgnn.beam.model_handler import ShardOfAnswers
from tf_hqgnn.beam.shards import UNKNOWN, reject
from tf_hqgnn.beam.tf_examples import serialize_examples
from tf_hqgnn.files.durable import sync
from tf_hqgnn.types import InputError

FORMATS = {".parquet": "parquet", ".tfrecord": "tfrecord"}


def write_bytes(path: str, data: bytes) -> None:
    """Writes a file that is there complete or not at all."""
    with _created(path) as file:
        file.write(data)


@contextmanager
def _created(path: str) -> Iterator[Any]:
    """A file under a temporary name, which is renamed when the block ends well, and deleted otherwise."""
    temporary = f"{path}.{uuid.uuid4().hex}.tmp"
    try:
        with FileSystems.create(temporary, compression_type=CompressionTypes.UNCOMPRESSED) as file:
            yield file
        sync_local([temporary])
        FileSystems.rename([temporary], [path])
        sync_local([path])
    except BaseException:
        with suppress(BeamIOError, OSError):
            FileSystems.delete([temporary])
        raise


def delete_folder(folder: str) -> None:
    """Deletes the files in a folder and, where there are folders at all, the folder."""
    files = [metadata.path for metadata in FileSystems.match([f"{folder}/*"])[0].metadata_list]
    FileSystems.delete(files)
    if FileSystems.exists(folder):
        FileSystems.delete([folder])


def check_name(name: str, path: str) -> None:
    """Raises InputError for a path that Beam's file systems would take for a pattern."""
    if any(character in path for character in "*?["):
        raise InputError(f"{name} {path}: expected a name without *, ? and [")


def read_json(path: str) -> Any:
    """Reads a JSON file that `write_bytes` wrote.

    Raises:
      InputError: It is damaged.
    """
    with FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED) as file:
        content = file.read()
    try:
        return json.loads(content)
    except ValueError as error:
        raise InputError(
            f"{path}: the file is damaged ({error}); delete {posixpath.dirname(path)}, and run the command again"
        ) from error


def sync_local(paths: Sequence[str]) -> None:
    """Waits until local files and their names are on the disk; what lies elsewhere is kept by its own store."""
    local = [Path(path) for path in paths if "://" not in path]
    for path in local:
        sync(path)
    for folder in {path.parent for path in local}:
        sync(folder)


class WriteShard(beam.DoFn):
    """Writes a `ShardOfAnswers` into `folder`: answers, what was rejected, and last a manifest with the counts.

    A shard without its manifest isn't done. A bundle that a runner tries again, or at the same time on two workers,
    writes the same content under a name of its own and renames it over the other's: nothing is there twice.

    Args:
      folder: of the unfinished run.
      suffix: ".parquet" or ".tfrecord".
      reject_unknown: whether users whom the model doesn't know are rejected instead of getting popular items.
      inputs: the files of users, by which rejected rows are named.
    """

    def __init__(self, folder: str, suffix: str, reject_unknown: bool, inputs: Sequence[str]) -> None:
        self._folder = folder
        self._suffix = suffix
        self._reject_unknown = reject_unknown
        self._inputs = tuple(inputs)

    def process(self, shard: ShardOfAnswers) -> Iterator[int]:
        """Yields the number of users answered."""
        number, answers, rejected = shard.users.number, shard.answers, shard.users.rejected
        known = answers.column("known_user")
        if self._reject_unknown:
            is_unknown = pa.compute.invert(known)
            unknown = shard.users.rows.filter(is_unknown)
            rejected = pa.concat_tables([rejected, reject(unknown, [UNKNOWN] * len(unknown))])
            rejected = rejected.sort_by([("file", "ascending"), ("row", "ascending")])
            answers = answers.filter(known)
        path = shard_path(self._folder, number)
        _write(f"{path}{self._suffix}", answers)
        if len(rejected):
            rows = [{**row, "file": self._inputs[row["file"]]} for row in rejected.to_pylist()]
            lines = (json.dumps(row, ensure_ascii=False) for row in rows)
            write_bytes(f"{path}.rejected", "".join(f"{line}\n" for line in lines).encode())
        manifest = {
            "rows": len(answers),
            "known_users": pa.compute.sum(answers.column("known_user")).as_py() or 0,
            "rejected": collections.Counter(rejected.column("reason").to_pylist()),
        }
        write_bytes(f"{path}.json", json.dumps(manifest).encode())
        yield len(answers)


def shard_path(folder: str, number: int) -> str:
    """Where a shard's files are while the run isn't finished, without the suffix."""
    return FileSystems.join(folder, f"shard-{number:05d}")


def _write(path: str, answers: pa.Table) -> None:
    with _created(path) as file:
        if path.endswith(".parquet"):
            # Ids in lists come again and again, scores and the row's own user don't.
            pq.write_table(
                answers, file, use_dictionary=[name for one in answers.schema for name in _lists_of_ids(one)]
            )
        else:
            _write_examples(file, answers)


def _lists_of_ids(column: pa.Field) -> list[str]:
    """The name that Parquet has for the ids in a column of lists of them, or of lists of lists; none for others."""
    name, kind = column.name, column.type
    while pa.types.is_list(kind):
        name, kind = f"{name}.list.element", kind.value_type
    return [name] if name != column.name and pa.types.is_string(kind) else []


def _write_examples(file: Any, answers: pa.Table) -> None:
    import tensorflow as tf

    # TensorFlow frames records, but only into a file of its own.
    with tempfile.TemporaryDirectory() as folder:
        local = Path(folder, "examples")
        with tf.io.TFRecordWriter(str(local)) as writer:
            for batch in answers.to_batches(max_chunksize=4096):
                for example in serialize_examples(batch):
                    writer.write(example)
        with local.open("rb") as source:
            while block := source.read(1 << 22):
                file.write(block)
