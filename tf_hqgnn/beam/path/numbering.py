"""Ids to rows: dense numbers in the order of the ids' code points, as on one machine, whoever holds them."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
from apache_beam.transforms.combiners import ToList

from tf_hqgnn.beam.much_output import MuchOutput
from tf_hqgnn.beam.path.core import COUNTS, SIDES, Block, Question, distinct, shard_path
from tf_hqgnn.beam.path.work import Work, of_message, read_table, to_message, write_json, write_table
from tf_hqgnn.beam.sinks import read_json
from tf_hqgnn.types import IntArray, ObjectArray

NUMBERED = pa.schema(
    [
        ("user", pa.int32()),
        ("item", pa.int32()),
        ("timestamp", pa.float64()),
        ("weight", pa.float64()),
        ("part", pa.int8()),
        ("rank", pa.uint64()),
    ]
)
NUMBERED_SETS = pa.schema([("user", pa.int32()), ("item", pa.int32()), ("set", pa.utf8())])
# A range of ids: which side it is of, its number, and how many ids are in it.
Size = tuple[int, int, int]


def number(
    work: Work, pairs: str, sets: str, num_shards: int, cuts: Sequence[Sequence[str]], with_dislikes: bool
) -> list[int]:
    """Writes `number/pairs-*.parquet` and `number/sets-*.parquet` in rows, and `number/ids-*.parquet`, the ids.

    Args:
      work: where the files are.
      pairs: the folder with the shards of pairs.
      sets: the folder with their sets.
      num_shards: how many there are.
      cuts: of users and of items, the ids at which their ranges begin but the first.
      with_dislikes: whether a user who only dislikes gets a row.

    Returns:
      How many users there are, and how many items.
    """

    def build(pipeline: beam.Pipeline, folder: str) -> None:
        numbered = (
            pipeline
            | beam.Create(range(num_shards))
            | beam.Reshuffle()
            | "Ask" >> beam.ParDo(_Ask(pairs, sets, cuts, with_dislikes))
            | "ByRange" >> beam.GroupByKey()
            | "Number" >> beam.ParDo(_Number(folder)).with_outputs("sizes", main="answers")
        )
        every = pipeline | "EveryShard" >> beam.Create([(shard, ((0, -1), b"")) for shard in range(num_shards)])
        _ = (
            (numbered.answers, every)
            | beam.Flatten()
            | "ByShard" >> beam.GroupByKey()
            | "Place" >> beam.ParDo(_Place(pairs, sets, cuts, folder), beam.pvalue.AsList(numbered.sizes))
        )
        _ = numbered.sizes | "ToOne" >> ToList() | "WriteSizes" >> beam.Map(_write_sizes, f"{folder}/sizes.json")

    def gather(folder: str) -> list[int]:
        sizes = read_json(f"{folder}/sizes.json")
        return [sum(size for side, _, size in sizes if side == one) for one in range(len(SIDES))]

    found: list[int] = work.run("number", build, gather)
    return found


def _write_sizes(sizes: list[Size], path: str) -> None:
    write_json(path, sorted(sizes))


def _names(table: pa.Table, sets: pa.Table, side: int, with_dislikes: bool) -> tuple[ObjectArray, IntArray]:
    """A shard's ids, sorted, and for each whether it gets a row because of this shard."""
    both = pa.concat_tables([part.select([SIDES[side]]) for part in (table, sets)])
    ids, index = distinct(both, SIDES[side])
    counts = np.ones(len(index), np.int64)
    is_dislike = np.asarray(sets["set"].to_pylist(), object) == "disliked" if len(sets) else np.zeros(0, bool)
    counts[len(table) :] = is_dislike if with_dislikes and side == 0 else 0
    return ids, np.bincount(index, counts, len(ids)).astype(np.int64)


def _ranges(ids: ObjectArray, cuts: Sequence[str]) -> Iterator[tuple[int, slice]]:
    """The ranges that sorted ids fall into."""
    ends = [0, *np.searchsorted(ids, np.array(cuts, object)).tolist(), len(ids)]
    for place, (start, end) in enumerate(itertools.pairwise(ends)):
        if end > start:
            yield place, slice(start, end)


class _Ask(MuchOutput):
    """A shard's ids to the ranges of ids."""

    def __init__(self, pairs: str, sets: str, cuts: Sequence[Sequence[str]], with_dislikes: bool) -> None:
        self._pairs = pairs
        self._sets = sets
        self._cuts = cuts
        self._with_dislikes = with_dislikes

    def process(self, shard: int) -> Iterator[Question]:
        table, sets = read_table(shard_path(self._pairs, shard)), read_table(_sets_path(self._sets, shard))
        for side, cuts in enumerate(self._cuts):
            ids, counts = _names(table, sets, side, self._with_dislikes)
            for place, some in _ranges(ids, cuts):
                columns = [pa.array(ids[some], pa.utf8()), pa.array(counts[some])]
                yield (side, place), (shard, to_message(pa.table(columns, schema=COUNTS)))


class _Number(MuchOutput):
    """All that shards ask about a range to its ids' places in the range, int32, -1 for an id that gets no row."""

    def __init__(self, folder: str) -> None:
        self._folder = folder

    def process(self, element: tuple[Block, Iterable[tuple[int, bytes]]]) -> Iterator[Any]:
        (side, place), questions = element
        asked = [(shard, of_message(message)) for shard, message in questions]
        both = pa.concat_tables([table for _, table in asked]).combine_chunks()
        ids, index = distinct(both, "id")
        counted = np.bincount(index, both["count"].to_numpy(), len(ids)) > 0
        rows = np.where(counted, np.cumsum(counted) - 1, -1).astype(np.int32)
        path = f"{self._folder}/ids-{SIDES[side]}-{place:05d}.parquet"
        write_table(path, pa.table({SIDES[side]: pa.array(ids[counted], pa.utf8())}))
        yield beam.pvalue.TaggedOutput("sizes", (side, place, int(counted.sum())))
        told, start = rows[index], 0
        for shard, table in asked:
            yield shard, ((side, place), told[start : start + len(table)].tobytes())
            start += len(table)


class _Place(beam.DoFn):
    """A shard's pairs and sets in rows; of the sets, what has both ends."""

    def __init__(self, pairs: str, sets: str, cuts: Sequence[Sequence[str]], folder: str) -> None:
        self._pairs = pairs
        self._sets = sets
        self._cuts = cuts
        self._folder = folder

    def process(self, element: tuple[int, Iterable[tuple[Block, bytes]]], sizes: Sequence[Size]) -> None:
        shard, answers = element[0], dict(element[1])
        starts: dict[Block, int] = {}
        total = [0, 0]
        for side, place, size in sorted(sizes):
            starts[side, place] = total[side]
            total[side] += size
        table, sets = read_table(shard_path(self._pairs, shard)), read_table(_sets_path(self._sets, shard))
        rows: list[list[IntArray]] = [[], []]
        for side, cuts in enumerate(self._cuts):
            ids, _ = _names(table, sets, side, False)
            of_id = np.full(len(ids), -1, np.int32)
            for place, some in _ranges(ids, cuts):
                local = np.frombuffer(answers[side, place], np.int32)
                of_id[some] = np.where(local < 0, -1, local + np.int32(starts[side, place]))
            both = pa.concat_tables([part.select([SIDES[side]]) for part in (table, sets)])
            _, index = distinct(both, SIDES[side])
            placed = of_id[index]
            rows[0].append(placed[: len(table)])
            rows[1].append(placed[len(table) :])
        rest = [table[name].combine_chunks() for name in NUMBERED.names[2:]]
        columns = [*map(pa.array, rows[0]), *rest]
        write_table(shard_path(self._folder, shard), pa.table(columns, schema=NUMBERED))
        found = pa.table([*map(pa.array, rows[1]), sets["set"].combine_chunks()], schema=NUMBERED_SETS)
        write_table(_sets_path(self._folder, shard), found.filter(pa.array((rows[1][0] >= 0) & (rows[1][1] >= 0))))


def _sets_path(folder: str, shard: int) -> str:
    return f"{folder}/sets-{shard:05d}.parquet"
