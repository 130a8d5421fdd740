"""The folder of a path: each step is a Beam job that leaves files there, and a marker once it is done."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems

from tf_hqgnn.beam.flags import make_runner, parse_flags
from tf_hqgnn.beam.running import run_to_end
from tf_hqgnn.beam.sinks import read_json, write_bytes
from tf_hqgnn.types import Array

# Messages of at least so many bytes are compressed.
_COMPRESSED_BYTES = 1 << 13
Build = Callable[[beam.Pipeline, str], None]


@dataclass(frozen=True)
class Work:
    """Runs steps, and passes over those that an earlier run has finished.

    Args:
      folder: where every worker sees it: a shared file system, or a bucket.
      flags: of Apache Beam.
      say: shows a line of progress.
    """

    folder: str
    flags: tuple[str, ...] = ()
    say: Callable[[str], None] = print

    def path(self, *names: str) -> str:
        """A path within the folder."""
        return "/".join([self.folder, *names])

    def run(self, name: str, build: Build, gather: Callable[[str], Any] | None = None) -> Any:
        """Runs one step as a Beam job, unless it is done, and returns what `gather` made of its files.

        Args:
          name: of the step, its folder and its marker.
          build: adds the step to a pipeline; the second argument is the folder for its files.
          gather: reads from that folder what later steps must know, as plain values, when the job is done; None for
            nothing.

        Raises:
          InputError: A worker found a mistake in what it was given.
          PipelineFailed: A worker failed otherwise, or the runner.
        """
        folder = self.path(name)
        if self.is_done(name):
            return read_json(self._marker(name))
        if not FileSystems.exists(folder):
            FileSystems.mkdirs(folder)
        options = parse_flags(self.flags)
        pipeline = beam.Pipeline(runner=make_runner(options), options=options)
        build(pipeline, folder)
        run_to_end(pipeline, self.folder)
        found = None if gather is None else gather(folder)
        self.finish(name, found)
        return found

    def is_done(self, name: str) -> bool:
        """Whether a step has been finished."""
        return bool(FileSystems.exists(self._marker(name)))

    def finish(self, name: str, found: Any) -> None:
        """Marks a step as finished."""
        write_bytes(self._marker(name), json.dumps(found).encode())
        self.say(f"beam: {name} is done")

    def forget(self, name: str) -> None:
        """Deletes the files of a finished step that nothing needs any more; its marker stays."""
        if FileSystems.exists(self.path(name)):
            FileSystems.delete([self.path(name)])

    def _marker(self, name: str) -> str:
        return self.path(f"{name}.json")


def read_all(folder: str, start: str = "") -> list[Any]:
    """The content of all JSON files in a folder whose names begin with `start`, in the order of their names."""
    found = FileSystems.match([f"{folder}/{start}*.json"])[0].metadata_list
    return [read_json(path) for path in sorted(metadata.path for metadata in found)]


def write_json(path: str, values: Any) -> None:
    """Writes plain values to a file that is there complete or not at all."""
    write_bytes(path, json.dumps(values).encode())


def write_table(path: str, table: pa.Table) -> None:
    """Writes Parquet to a file that is there complete or not at all."""
    buffer = pa.BufferOutputStream()
    pq.write_table(table, buffer)
    write_bytes(path, buffer.getvalue().to_pybytes())


def read_table(path: str) -> pa.Table:
    """Reads what `write_table` wrote."""
    return pq.read_table(io.BytesIO(read_bytes(path)))


def write_arrays(path: str, **arrays: Array) -> None:
    """Writes arrays by their names to a file that is there complete or not at all."""
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    write_bytes(path, buffer.getvalue())


def read_arrays(path: str) -> dict[str, Array]:
    """Reads what `write_arrays` wrote."""
    with np.load(io.BytesIO(read_bytes(path)), allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


def read_bytes(path: str) -> bytes:
    """The content of a file."""
    with FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED) as file:
        content: bytes = file.read()
    return content


def to_message(batch: pa.RecordBatch | pa.Table) -> bytes:
    """Rows of a table as bytes, which every runner sends as they are; compressed where they are many.

    That is a third or a quarter of the bytes for 100 ns a row; for few rows it would take longer than they are worth.
    """
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression="zstd" if batch.nbytes >= _COMPRESSED_BYTES else None)
    with pa.ipc.new_stream(sink, batch.schema, options=options) as writer:
        writer.write(batch)
    message: bytes = sink.getvalue().to_pybytes()
    return message


def of_message(message: bytes) -> pa.Table:
    """The rows that `to_message` was given."""
    return pa.ipc.open_stream(pa.py_buffer(message)).read_all()
