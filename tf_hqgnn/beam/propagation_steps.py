"""The steps of `tf_hqgnn.beam.propagation`: each turns blocks that one worker can hold into others."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam
import numpy as np

from tf_hqgnn.beam.blocks import Blocks, EdgeBlock, edge_block, product, split
from tf_hqgnn.beam.graph_files import EDGE_COLUMNS, RowGroup, read_edges, read_rows, write_rows
from tf_hqgnn.beam.mistakes import noted
from tf_hqgnn.beam.much_output import MuchOutput
from tf_hqgnn.beam.sinks import write_bytes
from tf_hqgnn.graph.degrees import degree_factor
from tf_hqgnn.types import Float32Array, Float64Array, InputError

# What is sent to a block: which of these it is, and two arrays.
DEGREE, ROWS, SUM, STATE = range(4)
Tagged = tuple[int, bytes, bytes]


class ReadEdges(MuchOutput):
    """Row groups to `(pair of blocks, (users, items, weights))`: int32 rows of the blocks, and float32, maybe none."""

    def __init__(self, blocks: Blocks) -> None:
        self._blocks = blocks

    @noted
    def process(self, group: RowGroup) -> Iterator[tuple[int, tuple[bytes, bytes, bytes]]]:
        """At most one element for a pair of blocks and 65,536 edges."""
        blocks = self._blocks
        for users, items, weight in read_edges(group):
            for name, index, size in zip(EDGE_COLUMNS, (users, items), (blocks.num_users, blocks.num_items)):
                if len(index) and not 0 <= index.min() <= index.max() < size:
                    wrong = index[(index < 0) | (index >= size)][0]
                    raise InputError(f"{group.path}: {name} {wrong} isn't in [0, {size}), as the files of rows have it")
            user_rows, user_block = np.divmod(users, blocks.user_blocks)
            item_rows, item_block = np.divmod(items, blocks.item_blocks)
            for pair, places in split(user_block * blocks.item_blocks + item_block):
                ends = (rows[places].astype(np.int32).tobytes() for rows in (user_rows, item_rows))
                user_bytes, item_bytes = ends
                yield pair, (user_bytes, item_bytes, b"" if weight is None else weight[places].tobytes())


class DistinctEdges(MuchOutput):
    """The edges of a pair of blocks, each once: for both directions, to the part of the block where they start."""

    def __init__(self, blocks: Blocks) -> None:
        self._blocks = blocks

    def process(self, element: tuple[int, Iterable[tuple[bytes, bytes, bytes]]]) -> Iterator[Any]:
        """Yields edge blocks; tagged `degrees` and `count`, what they add to those."""
        pair, parts = element
        chunks, weights = [], []
        for *ends, weighed in parts:
            chunks.append(np.stack([np.frombuffer(end, np.int32) for end in ends]).astype(np.int64))
            weights.append(np.frombuffer(weighed, np.float32))
        users, items = np.concatenate(chunks, axis=1)
        width = int(items.max()) + 1
        distinct, place = np.unique(users * width + items, return_inverse=True)
        users, items = np.divmod(distinct, width)
        # As in InteractionGraph, the weights of repeated pairs are added up.
        weight: Float32Array | None = None
        if any(map(len, weights)):
            # Files without weights may be beside others.
            each = [given if len(given) else np.ones(chunk.shape[1]) for given, chunk in zip(weights, chunks)]
            weight = np.bincount(place, np.concatenate(each), len(distinct)).astype(np.float32)
        user_block, item_number = divmod(pair, self._blocks.item_blocks)
        item_block = self._blocks.user_blocks + item_number
        yield beam.pvalue.TaggedOutput("count", len(users))
        for to, rows, start, others in (
            (user_block, users, item_block, items),
            (item_block, items, user_block, users),
        ):
            block = edge_block(to, rows, others, weight)
            sums = np.bincount(rows, weight)[np.frombuffer(block[1], np.int32)].astype(np.float64)
            yield beam.pvalue.TaggedOutput("degrees", (to, (DEGREE, block[1], sums.tobytes())))
            yield (start, to % self._blocks.parts(start)), block


class ReadRows(MuchOutput):
    """Row groups to `(block, (rows of the block, values))`."""

    def __init__(self, blocks: Blocks, dim: int) -> None:
        self._blocks = blocks
        self._dim = dim

    @noted
    def process(self, element: tuple[bool, RowGroup]) -> Iterator[tuple[int, Tagged]]:
        """At most one element for a block and 65,536 rows."""
        is_users, group = element
        blocks = self._blocks
        size, number = (blocks.num_users, blocks.user_blocks) if is_users else (blocks.num_items, blocks.item_blocks)
        for index, values in read_rows(group):
            if len(index) and not 0 <= index.min() <= index.max() < size:
                raise InputError(f"{group.path}: index must be 0 to {size - 1}, each once, got {index.max()}")
            if values.shape[1] != self._dim or not np.isfinite(values).all():
                raise InputError(f"{group.path}: expected rows of {self._dim} finite numbers: did training diverge?")
            rows, block = np.divmod(index, number)
            for key, places in split(block):
                tagged = (ROWS, rows[places].astype(np.int32).tobytes(), values[places].tobytes())
                yield key + (0 if is_users else blocks.user_blocks), tagged


class Start(MuchOutput):
    """What stays of a block: `(S e, S)`, float32 [rows, d] and [rows]."""

    def __init__(self, blocks: Blocks, dim: int, normalize: bool) -> None:
        self._blocks = blocks
        self._dim = dim
        self._normalize = normalize

    @noted
    def process(self, element: tuple[int, Iterable[Tagged]]) -> Iterator[tuple[int, tuple[bytes, bytes]]]:
        """Yields `(block, (S e, S))`."""
        block, parts = element
        size = self._blocks.rows(block)
        e, degree, times = np.zeros((size, self._dim), np.float32), np.zeros(size), np.zeros(size, np.int64)
        for tag, where, values in parts:
            rows = np.frombuffer(where, np.int32)
            if tag == DEGREE:
                degree[rows] += np.frombuffer(values, np.float64)
            else:
                np.add.at(times, rows, 1)
                e[rows] = np.frombuffer(values, np.float32).reshape(len(rows), -1)
        if (times != 1).any():
            wrong = self._blocks.index(block)[times != 1][0]
            side = "user" if self._blocks.is_users(block) else "item"
            raise InputError(f"the rows of {side}s have index {wrong} {times[times != 1][0]} times; expected each once")
        if self._normalize:
            # As tf.math.l2_normalize has it.
            e /= np.sqrt(np.maximum(np.square(e).sum(1, keepdims=True), 1e-12))
        s = degree_factor(degree).astype(np.float32)
        yield block, ((e * s[:, None]).tobytes(), s.tobytes())


class Product(MuchOutput):
    """A block's values with a part of the edges that start in it: the sums where they end."""

    def __init__(self, dim: int) -> None:
        self._dim = dim

    def process(self, element: tuple[tuple[int, int], dict[str, list[Any]]]) -> Iterator[tuple[int, Tagged]]:
        """Yields `(block, (SUM, rows, sums))`."""
        _, joined = element
        edges: list[EdgeBlock] = joined["edges"]
        (values,) = joined["values"]
        values = np.frombuffer(values, np.float32).reshape(-1, self._dim)
        for one in edges:
            block, rows, sums = product(one, values)
            yield block, (SUM, rows, sums)


class Update(MuchOutput):
    """g <- S^2 sum + c S e, for a block; sums are added as they come, never held together."""

    def __init__(self, blocks: Blocks, dim: int, coefficient: float) -> None:
        self._blocks = blocks
        self._dim = dim
        self._coefficient = np.float32(coefficient)

    def process(self, element: tuple[int, Iterable[Tagged]]) -> Iterator[tuple[int, bytes]]:
        """Yields `(block, g)`."""
        block, parts = element
        g = np.zeros((self._blocks.rows(block), self._dim), np.float32)
        state: tuple[bytes, bytes] = b"", b""
        for tag, first, second in parts:
            if tag == STATE:
                state = first, second
            else:
                rows = np.frombuffer(first, np.int32)
                g[rows] += np.frombuffer(second, np.float32).reshape(len(rows), -1)
        e, s = (np.frombuffer(part, np.float32) for part in state)
        g *= np.square(s)[:, None]
        g += self._coefficient * e.reshape(g.shape)
        yield block, g.tobytes()


class Write(beam.DoFn):
    """h = g / S, as a file for each block."""

    def __init__(self, blocks: Blocks, dim: int, out: str) -> None:
        self._blocks = blocks
        self._dim = dim
        self._out = out

    def process(self, element: tuple[int, dict[str, list[Any]]]) -> None:
        """Yields nothing."""
        block, parts = element
        (g,), ((_, s),) = parts["g"], parts["state"]
        h = np.frombuffer(g, np.float32).reshape(-1, self._dim) / np.frombuffer(s, np.float32)[:, None]
        blocks = self._blocks
        number, total, name = block, blocks.user_blocks, "users"
        if not blocks.is_users(block):
            number, total, name = block - blocks.user_blocks, blocks.item_blocks, "items"
        write_rows(f"{self._out}/{name}-{number:05d}-of-{total:05d}.parquet", blocks.index(block), h)


def scaled(element: tuple[int, tuple[bytes, bytes]], coefficient: float) -> tuple[int, bytes]:
    """The highest term of the series: c S e."""
    block, (e, _) = element
    return block, (np.float32(coefficient) * np.frombuffer(e, np.float32)).tobytes()


def tag_state(element: tuple[int, tuple[bytes, bytes]]) -> tuple[int, Tagged]:
    """What stays of a block, to be told from sums."""
    block, (e, s) = element
    return block, (STATE, e, s)


def to_parts(element: tuple[int, bytes], blocks: Blocks) -> Iterator[tuple[tuple[int, int], bytes]]:
    """A block's values to every part of its edges."""
    block, values = element
    for part in range(blocks.parts(block)):
        yield (block, part), values


def write_count(count: int, path: str) -> None:
    """Writes how many distinct edges there are."""
    write_bytes(path, json.dumps(count).encode())


def build(
    pipeline: beam.Pipeline,
    edge_groups: list[RowGroup],
    row_groups: list[tuple[bool, RowGroup]],
    blocks: Blocks,
    dim: int,
    series: Float64Array,
    normalize: bool,
    out: str,
) -> None:
    """Adds all steps to `pipeline`; arguments as of `propagation.propagate`."""
    pairs = (
        pipeline
        | "EdgeFiles" >> beam.Create(edge_groups)
        | "SpreadEdges" >> beam.Reshuffle()
        | "ReadEdges" >> beam.ParDo(ReadEdges(blocks))
        | "ByPairOfBlocks" >> beam.GroupByKey()
        | "Distinct" >> beam.ParDo(DistinctEdges(blocks)).with_outputs("degrees", "count", main="edges")
    )
    counted = pairs["count"] | "CountEdges" >> beam.CombineGlobally(sum)
    _ = counted | "WriteCount" >> beam.Map(write_count, path=f"{out}/edges.json")
    rows = (
        pipeline
        | "RowFiles" >> beam.Create(row_groups)
        | "SpreadRows" >> beam.Reshuffle()
        | "ReadRows" >> beam.ParDo(ReadRows(blocks, dim))
    )
    every = pipeline | "EveryBlock" >> beam.Create([(block, (DEGREE, b"", b"")) for block in range(blocks.num_blocks)])
    state = (
        (rows, pairs["degrees"], every)
        | "RowsAndDegrees" >> beam.Flatten()
        | "ByBlock" >> beam.GroupByKey()
        | "Start" >> beam.ParDo(Start(blocks, dim, normalize))
    )
    tagged = state | "State" >> beam.Map(tag_state)
    g = state | "Last" >> beam.Map(scaled, float(series[-1]))
    for k in range(len(series) - 2, -1, -1):
        values = g | f"Send{k}" >> beam.FlatMap(to_parts, blocks)
        joined = {"values": values, "edges": pairs.edges} | f"Join{k}" >> beam.CoGroupByKey()
        sums = joined | f"Product{k}" >> beam.ParDo(Product(dim))
        # Not CombinePerKey: its first stage would keep a sum for every block in every worker, which is all of h.
        g = (
            (sums, tagged)
            | f"SumsAndState{k}" >> beam.Flatten()
            | f"Sum{k}" >> beam.GroupByKey()
            | f"Update{k}" >> beam.ParDo(Update(blocks, dim, float(series[k])))
        )
    final = {"g": g, "state": state} | "Finish" >> beam.CoGroupByKey()
    _ = final | "Write" >> beam.ParDo(Write(blocks, dim, out))
