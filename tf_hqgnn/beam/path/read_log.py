"""Files of a log to rows by their pair's hash: the readers are those of one machine, a file for each worker."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tf_hqgnn.beam.blocks import split
from tf_hqgnn.beam.mistakes import noted
from tf_hqgnn.beam.much_output import MuchOutput
from tf_hqgnn.beam.path.log_files import LogFile, local_copy
from tf_hqgnn.beam.path.work import to_message, write_json
from tf_hqgnn.data.anomalies import FileProfile, id_types
from tf_hqgnn.data.chunks import ID_COLUMNS, NUMBER_COLUMNS, Chunk
from tf_hqgnn.data.column_names import ColumnNames
from tf_hqgnn.data.detect import detect_format
from tf_hqgnn.data.formats.input_format import INPUT_FORMATS
from tf_hqgnn.data.interaction_table import kinds_of_ids
from tf_hqgnn.data.report import BadRowLog
from tf_hqgnn.data.splits import mix
from tf_hqgnn.data.time_units import time_unit
from tf_hqgnn.types import InputError, Int64Array

# A row of the log on its way to the shard of its pair; columns that the log lacks are null.
ROWS = pa.schema(
    [
        *((name, pa.utf8()) for name in ID_COLUMNS),
        *((name, pa.float64()) for name in NUMBER_COLUMNS),
        ("event", pa.utf8()),
        ("part", pa.int8()),
    ]
)


class ReadLog(MuchOutput):
    """Files to `(shard, rows of the schema ROWS)`, and tagged `files`, what each file looks like.

    All rows of a (user, item) pair go to one shard, and a user or an item of many rows to all of them.

    Args:
      columns: what columns are called.
      format: of the files, or auto.
      num_shards: of the pairs.
      folder: gets `file-<number>.json`: the same as `files`, with the bad rows.
    """

    FILES = "files"

    def __init__(self, columns: ColumnNames, format: str, num_shards: int, folder: str) -> None:
        self._columns = columns
        self._format = format
        self._num_shards = num_shards
        self._folder = folder

    @noted
    def process(self, file: LogFile) -> Iterator[Any]:
        """At most one element for a shard and a block of the file."""
        with local_copy(file.path) as path:
            try:
                yield from self._read(file, path)
            except InputError as error:
                raise InputError(str(error).replace(str(path), file.path)) from error

    def _read(self, file: LogFile, path: Path) -> Iterator[Any]:
        kind = detect_format(path, self._columns) if self._format == "auto" else self._format
        try:
            reader = INPUT_FORMATS[kind](self._columns)
        except ValueError as error:
            raise InputError(f"format {kind!r}: expected one of auto, {', '.join(INPUT_FORMATS.names())}") from error
        log = BadRowLog()
        ends: list[Chunk] = []
        num_good, times, events = 0, list[float](), set[str]()
        for chunk in reader.read(path, log):
            if not len(chunk.user_id):
                continue
            ends = [ends[0] if ends else chunk, chunk]
            num_good += len(chunk.user_id)
            if chunk.timestamp is not None:
                time_unit(str(path), [chunk.timestamp])
                times += [float(chunk.timestamp.min()), float(chunk.timestamp.max())]
            if chunk.event is not None:
                events.update(chunk.event.dictionary.to_pylist())
            yield from self._spread(chunk, file.part)
        noted = log.noted(str(path))
        num_bad = sum(rows.count for _, rows, _ in noted)
        if num_bad and not num_good:
            raise InputError(
                f"{path}: no interactions in {num_bad:,} rows (read as {kind}): {log.explain_all(str(path), num_bad)}"
            )
        found: dict[str, Any] = {"file": file.to_json(), "good": num_good, "kind": kind, "profile": None}
        if num_good:
            present = tuple(name for name in Chunk._fields if getattr(ends[0], name) is not None)
            unit = time_unit(str(path), [np.array(times)])
            types, kinds = id_types(path, kind, self._columns), kinds_of_ids(ends)
            profile = FileProfile(file.path, file.span, num_good + num_bad, present, types, kinds, unit, file.is_first)
            found["profile"] = profile.to_json()
        found |= {"last_time": max(times, default=None), "events": sorted(events)}
        found["bad"] = [[kind, rows.count, list(rows.first_lines), example] for kind, rows, example in noted]
        found["unused"] = list(log.unused)
        write_json(f"{self._folder}/file-{file.number:06d}.json", found)
        yield beam.pvalue.TaggedOutput(self.FILES, found)

    def _spread(self, chunk: Chunk, part: int) -> Iterator[tuple[int, bytes]]:
        size = len(chunk.user_id)
        ids = [chunk.user_id.cast(pa.utf8()), chunk.item_id.cast(pa.utf8())]
        numbers = [
            pa.nulls(size, pa.float64()) if values is None else pa.array(values)
            for values in (chunk.timestamp, chunk.rating, chunk.weight)
        ]
        event = pa.nulls(size, pa.utf8()) if chunk.event is None else chunk.event.cast(pa.utf8())
        batch = pa.record_batch([*ids, *numbers, event, pa.array(np.full(size, part, np.int8))], schema=ROWS)
        for shard, rows in split(_shards(chunk, self._num_shards)):
            yield shard, to_message(batch.take(pa.array(rows)))


def _shards(chunk: Chunk, num_shards: int) -> Int64Array:
    """The shard of each row's pair, int64 [n]: by both ids, the same in every run and on every worker."""
    user, item = (_checksums(getattr(chunk, name)) for name in ID_COLUMNS)
    shards: Int64Array = (mix(mix(user) + item) % np.uint64(num_shards)).astype(np.int64)
    return shards


def _checksums(ids: pa.DictionaryArray) -> npt.NDArray[np.uint64]:
    """The CRC-32 of each id, uint64 [n]."""
    names = ids.dictionary.cast(pa.binary()).to_pylist()
    found: npt.NDArray[np.uint64] = np.fromiter(map(zlib.crc32, names), np.uint64, len(names))
    of_row: npt.NDArray[np.uint64] = found[ids.indices.to_numpy()]
    return of_row
