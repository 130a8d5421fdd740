"""Pairs in rows to train, valid and test, and to the blocks that products, rankings and codes read."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tf_hqgnn.beam.blocks import Blocks, split
from tf_hqgnn.beam.much_output import MuchOutput
from tf_hqgnn.beam.path.core import shard_path
from tf_hqgnn.beam.path.work import (
    Work,
    of_message,
    read_all,
    read_table,
    to_message,
    write_arrays,
    write_json,
    write_table,
)
from tf_hqgnn.data.splits import TEST, TRAIN, VALID, last_parts, random_parts
from tf_hqgnn.types import Int32Array, IntArray

SPLIT = pa.schema(
    [
        ("user_index", pa.int32()),
        ("item_index", pa.int32()),
        ("timestamp", pa.float64()),
        ("weight", pa.float64()),
        ("part", pa.int8()),
    ]
)
# What a user's block holds of its users besides their training items: those held out, and those never recommended.
DISLIKED = TEST + 1
_ASKED = pa.schema([("row", pa.int32()), ("rank", pa.uint64()), ("timestamp", pa.float64())])
_EDGES = pa.schema([("row", pa.int32()), ("source", pa.int32()), ("other", pa.int32()), ("weight", pa.float64())])
_HELD = pa.schema([("row", pa.int32()), ("item", pa.int32()), ("part", pa.int8())])


@dataclass(frozen=True)
class Rule:
    """A rule that divides pairs into training, validation and test.

    Args:
      method: random, leave_last_out or temporal; given, where the files say it.
      valid: the share of each user's pairs, or of the training pairs where the split is given; 0 leaves those.
      test: the share.
      times: with temporal, the last times of training and of validation.
    """

    method: str
    valid: float = 0.0
    test: float = 0.0
    times: tuple[float, float] = (0.0, 0.0)

    @property
    def asks(self) -> bool:
        """Whether a pair's part depends on the other pairs of its user."""
        return self.method in ("random", "leave_last_out") or (self.method == "given" and self.valid > 0)


def make_blocks(work: Work, numbered: str, num_shards: int, blocks: Blocks, rule: Rule) -> dict[str, Any]:
    """Writes `blocks/pairs-*.parquet` (all pairs with their parts), and for each block of users and of items

    * `edges-<block>-<part>.npz`: its training pairs, by the block at their other ends;
    * `degree-<block>.npz`: how many there are of each row (`count`), and the sum of their weights (`strength`);
    * `held-<block>.npz` of a block of users: what else is known of its rows, by part.

    Returns:
      The sizes of the parts, sums over the weights of training, and the numbers of the files with edges.
    """
    # A block of users may have more pairs than an engine should send as one piece.
    groups = max(1, math.ceil(blocks.num_edges / blocks.block_edges))

    def build(pipeline: beam.Pipeline, folder: str) -> None:
        shards = pipeline | beam.Create(range(num_shards)) | beam.Reshuffle()
        every = pipeline | "EveryShard" >> beam.Create([(shard, (-1, b"")) for shard in range(num_shards)])
        answers: tuple[Any, ...] = (every,)
        if rule.asks:
            asked = shards | "Ask" >> beam.ParDo(_Ask(numbered, groups, rule))
            answers = (every, asked | "ByUser" >> beam.GroupByKey() | "Divide" >> beam.ParDo(_Divide(rule)))
        divided = (
            answers
            | beam.Flatten()
            | "ByShard" >> beam.GroupByKey()
            | "Part" >> beam.ParDo(_Part(numbered, blocks, groups, rule, folder)).with_outputs("held", main="edges")
        )
        degrees = (
            divided.edges | "ByBlocks" >> beam.GroupByKey() | "WriteEdges" >> beam.ParDo(_WriteEdges(blocks, folder))
        )
        all_blocks = range(blocks.num_blocks)
        nothing = pipeline | "EveryBlock" >> beam.Create([(block, (-1, b"", b"")) for block in all_blocks])
        _ = (
            (degrees, nothing)
            | "Degrees" >> beam.Flatten()
            | "ByBlock" >> beam.GroupByKey()
            | "WriteDegree" >> beam.ParDo(_WriteDegree(blocks, folder))
        )
        nobody = pipeline | "EveryUserBlock" >> beam.Create([(block, b"") for block in range(blocks.user_blocks)])
        _ = (
            (divided.held, nobody)
            | "Held" >> beam.Flatten()
            | "ByUserBlock" >> beam.GroupByKey()
            | "WriteHeld" >> beam.ParDo(_WriteHeld(folder))
        )

    def gather(folder: str) -> dict[str, Any]:
        shards = read_all(folder, "shard-")
        weights = [shard["weights"] for shard in shards if shard["sizes"][TRAIN]]
        low, high = (choose((pair[place] for pair in weights), default=1.0) for place, choose in ((0, min), (1, max)))
        return {
            "sizes": [sum(shard["sizes"][part] for shard in shards) for part in (TRAIN, VALID, TEST)],
            "weights": [low, high, sum(pair[2] for pair in weights)],
            "edges": [one["file"] for one in read_all(folder, "edges-")],
            "targets": [sum(one[part] for one in read_all(folder, "held-")) for part in ("valid", "test")],
        }

    found: dict[str, Any] = work.run("blocks", build, gather)
    return found


class _Ask(MuchOutput):
    """The pairs that are to be divided to the groups of their users."""

    def __init__(self, numbered: str, groups: int, rule: Rule) -> None:
        self._numbered = numbered
        self._groups = groups
        self._rule = rule

    def process(self, shard: int) -> Iterator[tuple[int, tuple[int, bytes]]]:
        table = read_table(shard_path(self._numbered, shard))
        for group, places in split(_asked_groups(table, self._groups, self._rule)):
            if group == self._groups:
                continue
            some = table.take(pa.array(places))
            row = some["user"].to_numpy() // self._groups
            columns = [pa.array(row), *(some[name].combine_chunks() for name in _ASKED.names[1:])]
            yield group, (shard, to_message(pa.table(columns, schema=_ASKED)))


def _asked_groups(table: pa.Table, groups: int, rule: Rule) -> IntArray:
    """The group of users that divides each pair, int [n]; behind the last one for those that are divided already."""
    group: IntArray = table["user"].to_numpy() % groups
    if rule.method == "given":
        group = np.where(table["part"].to_numpy() == TRAIN, group, groups)
    return group


class _Divide(MuchOutput):
    """All pairs of a group of users to their parts. A user has as many pairs here as there are items at most."""

    def __init__(self, rule: Rule) -> None:
        self._rule = rule

    def process(self, element: tuple[int, Iterable[tuple[int, bytes]]]) -> Iterator[tuple[int, tuple[int, bytes]]]:
        group, questions = element
        asked = [(shard, of_message(message)) for shard, message in questions]
        table = pa.concat_tables([part for _, part in asked])
        rows, rank, time = (table[name].to_numpy() for name in _ASKED.names)
        order = np.lexsort((rank, rows))
        count = np.bincount(rows)
        parts = np.empty(len(rows), np.int8)
        if self._rule.method == "leave_last_out":
            parts[order] = last_parts(rows[order], count, rank[order], time[order])
        else:
            parts[order] = random_parts(rows[order], count, rank[order], self._rule.valid, self._rule.test)
        start = 0
        for shard, part in asked:
            yield shard, (group, parts[start : start + len(part)].tobytes())
            start += len(part)


class _Part(MuchOutput):
    """A shard's pairs with their parts to the file of the shard, and to the blocks."""

    def __init__(self, numbered: str, blocks: Blocks, groups: int, rule: Rule, folder: str) -> None:
        self._numbered = numbered
        self._blocks = blocks
        self._groups = groups
        self._rule = rule
        self._folder = folder

    def process(self, element: tuple[int, Iterable[tuple[int, bytes]]]) -> Iterator[Any]:
        shard, answers = element
        table = read_table(shard_path(self._numbered, shard))
        user, item = table["user"].to_numpy(), table["item"].to_numpy()
        weight, part = table["weight"].to_numpy(), self._parts(table, dict(answers))
        columns = [pa.array(user), pa.array(item), table["timestamp"].combine_chunks(), pa.array(weight)]
        write_table(shard_path(self._folder, shard), pa.table([*columns, pa.array(part)], schema=SPLIT))
        train = part == TRAIN
        yield from self._edges(user[train], item[train], weight[train])
        sets = read_table(f"{self._numbered}/sets-{shard:05d}.parquet")
        kind = np.asarray(sets["set"].to_pylist(), object)
        disliked = kind == "disliked" if len(sets) else np.zeros(0, bool)
        held_user = np.concatenate([user[~train], sets["user"].to_numpy()[disliked]])
        held_item = np.concatenate([item[~train], sets["item"].to_numpy()[disliked]])
        held_part = np.concatenate([part[~train], np.full(int(disliked.sum()), DISLIKED, np.int8)])
        row, block = np.divmod(held_user, self._blocks.user_blocks)
        for number, places in split(block):
            held = [pa.array(values[places]) for values in (row, held_item, held_part)]
            yield beam.pvalue.TaggedOutput("held", (number, to_message(pa.table(held, schema=_HELD))))
        sizes = np.bincount(part, minlength=3).tolist()
        own = weight[train]
        weights = [float(own.min(initial=np.inf)), float(own.max(initial=-np.inf)), float(own.sum())]
        write_json(f"{self._folder}/shard-{shard:05d}.json", {"sizes": sizes, "weights": weights})

    def _parts(self, table: pa.Table, told: dict[int, bytes]) -> npt.NDArray[np.int8]:
        rule = self._rule
        parts = np.full(len(table), TEST, np.int8)
        if rule.method == "temporal":
            time = table["timestamp"].to_numpy()
            parts[time <= rule.times[1]] = VALID
            parts[time <= rule.times[0]] = TRAIN
        elif rule.method == "given":
            parts = table["part"].to_numpy().copy()
        if rule.asks:
            for group, places in split(_asked_groups(table, self._groups, rule)):
                if group < self._groups:
                    parts[places] = np.frombuffer(told[group], np.int8)
        return parts

    def _edges(self, user: Int32Array, item: Int32Array, weight: IntArray) -> Iterator[Any]:
        """Each training pair to the block of its user and to that of its item."""
        blocks = self._blocks
        sides = (user, blocks.user_blocks, 0), (item, blocks.item_blocks, blocks.user_blocks)
        for (mine, number, first), (theirs, other_number, other_first) in (sides, sides[::-1]):
            row, place = np.divmod(mine, number)
            other, other_place = np.divmod(theirs, other_number)
            parts = blocks.parts(first)
            for key, places in split(place.astype(np.int64) * parts + other_place % parts):
                source = (other_place + other_first).astype(np.int32)
                columns = [pa.array(values[places]) for values in (row, source, other, weight)]
                yield (first + key // parts, key % parts), to_message(pa.table(columns, schema=_EDGES))


class _WriteEdges(beam.DoFn):
    """The training pairs of a block with some of the blocks at their other ends, as one file."""

    def __init__(self, blocks: Blocks, folder: str) -> None:
        self._blocks = blocks
        self._folder = folder

    def process(
        self, element: tuple[tuple[int, int], Iterable[bytes]]
    ) -> Iterator[tuple[int, tuple[int, bytes, bytes]]]:
        (block, part), messages = element
        table = pa.concat_tables(map(of_message, messages)).combine_chunks()
        row, source, other, weight = (table[name].to_numpy() for name in _EDGES.names)
        order = np.lexsort((other, row, source))
        sources, starts = np.unique(source[order], return_index=True)
        name = f"edges-{block:05d}-{part:05d}"
        write_arrays(
            f"{self._folder}/{name}.npz",
            sources=sources,
            starts=np.append(starts, len(order)),
            row=row[order],
            other=other[order],
            weight=weight[order],
        )
        write_json(f"{self._folder}/{name}.json", {"file": [block, part], "edges": len(order)})
        rows = self._blocks.rows(block)
        count, strength = np.bincount(row, minlength=rows), np.bincount(row[order], weight[order], rows)
        yield block, (part, count.astype(np.int64).tobytes(), strength.tobytes())


class _WriteDegree(beam.DoFn):
    """The degrees of a block's rows, from those of the files with its edges."""

    def __init__(self, blocks: Blocks, folder: str) -> None:
        self._blocks = blocks
        self._folder = folder

    def process(self, element: tuple[int, Iterable[tuple[int, bytes, bytes]]]) -> None:
        block, found = element
        count, strength = np.zeros(self._blocks.rows(block), np.int64), np.zeros(self._blocks.rows(block))
        for part, counts, strengths in sorted(found):
            if part >= 0:
                count += np.frombuffer(counts, np.int64)
                strength += np.frombuffer(strengths)
        write_arrays(f"{self._folder}/degree-{block:05d}.npz", count=count, strength=strength)


class _WriteHeld(beam.DoFn):
    """Reads what is known of a block's users besides their training items."""

    def __init__(self, folder: str) -> None:
        self._folder = folder

    def process(self, element: tuple[int, Iterable[bytes]]) -> None:
        block, messages = element
        tables: Sequence[pa.Table] = [of_message(message) for message in messages if message]
        table = pa.concat_tables([_HELD.empty_table(), *tables]).combine_chunks()
        row, item, part = (table[name].to_numpy() for name in _HELD.names)
        order = np.lexsort((item, row, part))
        write_arrays(f"{self._folder}/held-{block:05d}.npz", row=row[order], item=item[order], part=part[order])
        users = {name: len(np.unique(row[part == code])) for name, code in (("valid", VALID), ("test", TEST))}
        write_json(f"{self._folder}/held-{block:05d}.json", users)
