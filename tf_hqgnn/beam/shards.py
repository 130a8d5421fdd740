"""The unit of work: users whose ids have the same hash, so that one worker sees every copy of an id."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import apache_beam as beam
import numpy as np
import pyarrow as pa

from tf_hqgnn.beam.much_output import MuchOutput
from tf_hqgnn.beam.users import COLUMN, ROWS
from tf_hqgnn.data.ids import MISSING, id_faults
from tf_hqgnn.types import BoolArray, Int64Array

EMPTY = "empty id"
UNDECODABLE = "undecodable"
DUPLICATE = "duplicate"
UNKNOWN = "unknown user"

# Why a row has no answer. `user_id` is text, at most 200 characters, with \x.. for what isn't UTF-8.
REJECTED = pa.schema([("file", pa.int32()), ("row", pa.int64()), ("reason", pa.string()), (COLUMN, pa.string())])


@dataclass(frozen=True, eq=False)
class ShardOfUsers:
    """What a shard was given, sorted out.

    Args:
      number: of the shard.
      rows: of the schema `users.ROWS`, those to answer: distinct ids, in the order of the input.
      rejected: of the schema `REJECTED`, in the order of the input.
    """

    number: int
    rows: pa.Table
    rejected: pa.Table


class ToShards(MuchOutput):
    """Batches of the schema `ROWS` to `(shard, serialized batch)`; tagged "count", how many rows each batch had.

    Args:
      num_shards: over which ids are spread by their hash, the same on every worker.
      todo: the shards that are wanted; rows of others are counted and dropped.
    """

    COUNT = "count"

    def __init__(self, num_shards: int, todo: frozenset[int]) -> None:
        self._num_shards = num_shards
        self._todo = todo

    def process(self, batch: pa.RecordBatch) -> Iterator[tuple[int, bytes] | beam.pvalue.TaggedOutput[str, int]]:
        """At most one element a shard, whatever the number of users."""
        yield beam.pvalue.TaggedOutput(self.COUNT, len(batch))
        shards = shard_of(batch.column(COLUMN), self._num_shards)
        order = np.argsort(shards, kind="stable")
        ends = np.cumsum(np.bincount(shards, minlength=self._num_shards))
        batch = batch.take(pa.array(order))
        for shard, (start, end) in enumerate(zip(np.append(0, ends[:-1]), ends)):
            if end > start and shard in self._todo:
                # Taken anew: a slice would be serialized with the whole batch's buffers.
                part = batch.take(pa.array(np.arange(start, end)))
                yield shard, part.serialize().to_pybytes()


class GatherShard(beam.DoFn):
    """`(shard, serialized batches)` to a `ShardOfUsers`."""

    def process(self, element: tuple[int, Iterable[bytes]]) -> Iterator[ShardOfUsers]:
        """One for each shard; an empty batch stands for nothing."""
        number, parts = element
        batches = [pa.ipc.read_record_batch(pa.py_buffer(part), ROWS) for part in parts if part]
        yield sort_out(number, pa.Table.from_batches(batches, ROWS))


def shard_of(ids: pa.Array, num_shards: int) -> Int64Array:
    """int64 [n] in `[0, num_shards)`, by the CRC-32 of each id.

    Example:
      >>> shard_of(pa.array([b"ann", b"bob", b"ann", None], pa.binary()), 8).tolist()
      [3, 0, 3, 0]
    """
    values = ids.fill_null(b"").to_numpy(zero_copy_only=False)
    return np.fromiter(map(zlib.crc32, values), np.int64, len(ids)) % num_shards


def sort_out(number: int, rows: pa.Table) -> ShardOfUsers:
    """Which rows to answer, and what is wrong with the others; of several with one id, the first is answered.

    Example:
      >>> batch = pa.record_batch([[0] * 4, [1, 2, 3, 4], [b"ann", b"", b"bob", b"ann"], [None] * 4], schema=ROWS)
      >>> shard = sort_out(0, pa.Table.from_batches([batch]))
      >>> shard.rows.column("user_id").to_pylist(), shard.rejected.column("reason").to_pylist()
      ([b'ann', b'bob'], ['empty id', 'duplicate'])
    """
    rows = rows.combine_chunks().sort_by([("file", "ascending"), ("row", "ascending")])
    ids = rows.column(COLUMN).combine_chunks()
    ids = ids.combine_chunks() if isinstance(ids, pa.ChunkedArray) else ids
    faults = rows.column("fault").to_numpy()
    good = rows.column("fault").is_null().to_numpy()
    for fault, wrong in (*id_faults(ids).items(), (UNDECODABLE, ~_is_utf8(ids))):
        reason = EMPTY if fault == MISSING else fault
        faults[wrong & good] = reason
        good &= ~wrong
    candidates = np.flatnonzero(good)
    codes = ids.take(pa.array(candidates)).dictionary_encode().indices.to_numpy()
    repeated = np.ones(len(candidates), bool)
    repeated[np.unique(codes, return_index=True)[1]] = False
    faults[candidates[repeated]] = DUPLICATE
    good[candidates[repeated]] = False
    rejected = reject(rows.filter(pa.array(~good)), faults[~good].tolist())
    return ShardOfUsers(number, rows.filter(pa.array(good)), rejected)


def reject(rows: pa.Table, reasons: list[str]) -> pa.Table:
    """Rows of the schema `ROWS` as rows of the schema `REJECTED`."""
    ids = [(value or b"").decode("utf-8", "backslashreplace")[:200] for value in rows.column(COLUMN).to_pylist()]
    columns = [rows.column("file"), rows.column("row"), pa.array(reasons, pa.string()), pa.array(ids, pa.string())]
    return pa.table(columns, schema=REJECTED)


def _is_utf8(ids: pa.Array) -> BoolArray:
    """Bool [n]; a null is."""
    try:
        ids.cast(pa.string())
    except pa.ArrowInvalid:
        return np.array([_decodes(value or b"") for value in ids.to_pylist()], bool)
    return np.ones(len(ids), bool)


def _decodes(value: bytes) -> bool:
    try:
        value.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
