"""The k-core of pairs that no machine holds: one round a job, until a round removes nothing."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa

from tf_hqgnn.beam.blocks import split
from tf_hqgnn.beam.much_output import MuchOutput
from tf_hqgnn.beam.path.settle import encode
from tf_hqgnn.beam.path.sketch import sketch
from tf_hqgnn.beam.path.work import Work, of_message, read_all, read_table, to_message, write_json, write_table
from tf_hqgnn.types import Int32Array, Int64Array, ObjectArray

SIDES = ("user_id", "item_id")
# Ids of a shard that fall to a block of ids, and how many pairs of the shard each has.
COUNTS = pa.schema([("id", pa.utf8()), ("count", pa.int64())])
# Which shard asks about which ids, and what it is told of them.
Block = tuple[int, int]
Question = tuple[Block, tuple[int, bytes]]
Answer = tuple[int, tuple[Block, bytes]]


def one_round(work: Work, number: int, before: str, num_shards: int, k: int) -> list[dict[str, Any]]:
    """Removes the pairs of users and of items with fewer than `k`; what each shard has left, and what it lost."""

    def build(pipeline: beam.Pipeline, folder: str) -> None:
        shards = pipeline | beam.Create(range(num_shards)) | beam.Reshuffle()
        kept = (
            shards
            | "Ask" >> beam.ParDo(_Ask(before, num_shards))
            | "ByBlock" >> beam.GroupByKey()
            | "Judge" >> beam.ParDo(_Judge(k))
        )
        every = pipeline | "EveryShard" >> beam.Create([(shard, ((0, -1), b"")) for shard in range(num_shards)])
        _ = (
            (kept, every)
            | beam.Flatten()
            | "ByShard" >> beam.GroupByKey()
            | "Keep" >> beam.ParDo(_Keep(before, num_shards, folder))
        )

    found: list[dict[str, Any]] = work.run(f"core-{number}", build, lambda folder: read_all(folder, "shard-"))
    return found


def shard_path(folder: str, shard: int) -> str:
    """The file of a shard's pairs."""
    return f"{folder}/pairs-{shard:05d}.parquet"


class _Ask(MuchOutput):
    """A shard's ids to the blocks of ids, with their counts: a user of many pairs is one row of each shard."""

    def __init__(self, before: str, num_blocks: int) -> None:
        self._before = before
        self._num_blocks = num_blocks

    def process(self, shard: int) -> Iterator[Question]:
        table = read_table(shard_path(self._before, shard))
        for side, name in enumerate(SIDES):
            ids, index = distinct(table, name)
            counts = np.bincount(index, minlength=len(ids))
            for block, places in split(_blocks(ids, self._num_blocks)):
                columns = [pa.array(ids[places], pa.utf8()), pa.array(counts[places])]
                yield (side, block), (shard, to_message(pa.table(columns, schema=COUNTS)))


class _Judge(MuchOutput):
    """The counts of a block's ids in all shards, to whether each of those that a shard asked about stays."""

    def __init__(self, k: int) -> None:
        self._k = k

    def process(self, element: tuple[Block, Iterable[tuple[int, bytes]]]) -> Iterator[Answer]:
        block, questions = element
        asked = [(shard, of_message(message)) for shard, message in questions]
        ids = pa.concat_tables([table for _, table in asked]).combine_chunks()
        _, index = distinct(ids, "id")
        stays = np.bincount(index, ids["count"].to_numpy())[index] >= self._k
        start = 0
        for shard, table in asked:
            yield shard, (block, stays[start : start + len(table)].tobytes())
            start += len(table)


class _Keep(beam.DoFn):
    """The pairs of a shard of which both ends stay."""

    def __init__(self, before: str, num_blocks: int, folder: str) -> None:
        self._before = before
        self._num_blocks = num_blocks
        self._folder = folder

    def process(self, element: tuple[int, Iterable[tuple[Block, bytes]]]) -> None:
        shard, answers = element
        table = read_table(shard_path(self._before, shard))
        told = dict(answers)
        stays = np.ones(len(table), bool)
        for side, name in enumerate(SIDES):
            ids, index = distinct(table, name)
            of_id = np.zeros(len(ids), bool)
            for block, places in split(_blocks(ids, self._num_blocks)):
                of_id[places] = np.frombuffer(told[side, block], bool)
            stays &= of_id[index]
        left = table.filter(pa.array(stays)).combine_chunks()
        write_table(shard_path(self._folder, shard), left)
        samples = [sketch(pa.concat_arrays([pa.array([], pa.utf8()), *left[name].chunks])) for name in SIDES]
        found = {"kept": len(left), "removed": len(table) - len(left), "users": samples[0], "items": samples[1]}
        write_json(f"{self._folder}/shard-{shard:05d}.json", found)


def distinct(table: pa.Table, name: str) -> tuple[ObjectArray, Int32Array]:
    """The distinct ids of a column, sorted (object [m]), and each row's place among them (int32 [n])."""
    return encode(pa.concat_arrays([pa.array([], pa.utf8()), *table[name].chunks]))


def _blocks(ids: ObjectArray, num_blocks: int) -> Int64Array:
    """The block of each id by its hash, int64 [m]."""
    return np.fromiter((zlib.crc32(name.encode()) for name in ids), np.int64, len(ids)) % num_blocks
