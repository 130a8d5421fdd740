"""Products of the interaction matrix with tall tables that lie in files, a block of rows at a time.

A product shuffles nothing but the numbers of its parts: a worker takes a block of rows of the result, with (a part of)
the edges that end there, reads the blocks of the table that these start in, one after the other, and writes its sums.
Through a shuffle, an engine would hold a hundred of these in memory at a time. The sums of parts are added up in
float64, so that the result doesn't depend on the workers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
import numpy as np
import scipy.sparse
from apache_beam.io.filesystems import FileSystems

from tf_hqgnn.beam.blocks import Blocks
from tf_hqgnn.beam.path.work import Work, read_all, read_arrays, write_arrays, write_json
from tf_hqgnn.types import SMALLEST_WEIGHT, Float32Array, Float64Array, Int64Array

# Of each block, drawn at a time.
_DRAWN_ROWS = 1 << 10
# Stands for the parts of a block that has no edges.
_NO_PART = -1


@dataclass(frozen=True)
class Graph:
    """The training interactions in blocks, as `make_blocks` wrote them, with the exponents of a normalisation.

    Args:
      folder: that of the blocks.
      blocks: how users and items are cut.
      mean_weight: by which weights are divided; None where all count the same.
      exponents: of the degrees of users and of items, by which rows and columns are divided.
    """

    folder: str
    blocks: Blocks
    mean_weight: float | None
    exponents: tuple[float, float]

    def count(self, block: int) -> Int64Array:
        """The training interactions of each row, int64 [rows]."""
        return read_arrays(f"{self.folder}/degree-{block:05d}.npz")["count"]

    def strength(self, block: int) -> Float64Array:
        """The weighted degree of each row, float64 [rows]: the sum of the relative weights."""
        degree = read_arrays(f"{self.folder}/degree-{block:05d}.npz")
        if self.mean_weight is None:
            return degree["count"].astype(np.float64)
        strength: Float64Array = degree["strength"] / self.mean_weight
        return strength

    def factor(self, block: int) -> Float32Array:
        """Returns the factors of a block's rows, float32 [rows, 1]."""
        exponent = self.exponents[0 if self.blocks.is_users(block) else 1]
        strength = self.strength(block)
        scaled = np.where(strength > 0, strength, 1).astype(np.float32) ** np.float32(-exponent)
        return scaled.astype(np.float32)[:, np.newaxis]

    def edges(self, block: int, part: int) -> Iterator[tuple[int, scipy.sparse.csr_matrix]]:
        """The edges of a file, by the block at their other ends: float32 [rows, rows of the other block]."""
        arrays = read_arrays(f"{self.folder}/edges-{block:05d}-{part:05d}.npz")
        rows = self.blocks.rows(block)
        for place, source in enumerate(arrays["sources"].tolist()):
            some = slice(arrays["starts"][place], arrays["starts"][place + 1])
            if self.mean_weight is None:
                values = np.ones(some.stop - some.start, np.float32)
            else:
                values = np.maximum(arrays["weight"][some] / self.mean_weight, SMALLEST_WEIGHT).astype(np.float32)
            indptr = np.searchsorted(arrays["row"][some], np.arange(rows + 1))
            shape = rows, self.blocks.rows(source)
            yield source, scipy.sparse.csr_matrix((values, arrays["other"][some], indptr), shape)


@dataclass(frozen=True)
class Table:
    """The rows of one side, in the files `rows-<block>.npz` of a step, times a small matrix.

    Args:
      folder: of the step.
      rotation: float32 [columns in the files, columns].
    """

    folder: str
    rotation: Float32Array

    def block(self, blocks: Blocks, block: int) -> Float32Array:
        """float32 [rows of the block, columns]."""
        rows: Float32Array = read_arrays(f"{self.folder}/rows-{block:05d}.npz")["rows"]
        return rows @ self.rotation if blocks.rows(block) else np.zeros((0, self.rotation.shape[1]), np.float32)


def start(work: Work, name: str, blocks: Blocks, of_users: bool, num_columns: int, seed: int) -> Table:
    """Writes the random rows that one machine would start from, of users or of items, and returns them as a table.

    Their numbers come one after the other from one generator, so each block's worker draws all of them, 10 ns each, and
    keeps its own.
    """
    mine = [block for block in range(blocks.num_blocks) if blocks.is_users(block) == of_users]

    def build(pipeline: beam.Pipeline, folder: str) -> None:
        draw = pipeline | beam.Create(mine) | beam.Reshuffle()
        _ = draw | beam.Map(_write_start, folder, blocks, num_columns, seed)

    work.run(name, build)
    return Table(work.path(name), np.eye(num_columns, dtype=np.float32))


def _write_start(block: int, folder: str, blocks: Blocks, num_columns: int, seed: int) -> None:
    size, number = blocks.num_items, blocks.item_blocks
    place = block - blocks.user_blocks
    if blocks.is_users(block):
        size, number, place = blocks.num_users, blocks.user_blocks, block
    generator = np.random.default_rng(seed)
    step = _DRAWN_ROWS * number
    parts = [np.zeros((0, num_columns), np.float32)]
    for first in range(0, size, step):
        drawn = generator.standard_normal((min(step, size - first), num_columns), np.float32)
        parts.append(drawn[place::number])
    write_arrays(f"{folder}/rows-{block:05d}.npz", rows=np.concatenate(parts))


def multiply(
    work: Work, name: str, graph: Graph, table: Table, to_users: bool, files: Sequence[tuple[int, int]]
) -> Float64Array:
    """Writes `<name>/rows-<block>.npz`: the normalised matrix, or its transpose, times a table.

    Args:
      work: where the files are.
      name: of the step.
      graph: whose matrix it is.
      table: rows of the other side.
      to_users: whether the result has the rows of users.
      files: block and part of each file of edges.

    Returns:
      The Gram matrix of the result, float64 [columns, columns].
    """
    blocks = graph.blocks
    mine = [block for block in range(blocks.num_blocks) if blocks.is_users(block) == to_users]

    def build(pipeline: beam.Pipeline, folder: str) -> None:
        parts = (
            pipeline
            | beam.Create([file for file in files if blocks.is_users(file[0]) == to_users])
            | beam.Reshuffle()
            | "Multiply" >> beam.Map(_multiply, graph, table, folder)
        )
        every = pipeline | "EveryBlock" >> beam.Create([(block, _NO_PART) for block in mine])
        _ = (
            (parts, every)
            | beam.Flatten()
            | "ByBlock" >> beam.GroupByKey()
            | "Write" >> beam.Map(_write_rows, graph, table.rotation.shape[1], folder)
        )

    def gather(folder: str) -> list[list[float]]:
        gram: list[list[float]] = np.sum(read_all(folder, "gram-"), axis=0).tolist()
        FileSystems.delete([_part_path(folder, *file) for file in files if blocks.is_users(file[0]) == to_users])
        return gram

    return np.array(work.run(name, build, gather))


def _multiply(file: tuple[int, int], graph: Graph, table: Table, folder: str) -> tuple[int, int]:
    """Writes the sums of a file of edges, float32 [rows of its block, columns]; returns the block and the part."""
    block, part = file
    sums = np.zeros((graph.blocks.rows(block), table.rotation.shape[1]), np.float32)
    for source, matrix in graph.edges(block, part):
        sums += matrix @ (table.block(graph.blocks, source) * graph.factor(source))
    write_arrays(_part_path(folder, block, part), sums=sums)
    return block, part


def _write_rows(element: tuple[int, Iterable[int]], graph: Graph, num_columns: int, folder: str) -> None:
    """Adds up the parts of a block to its rows of the product, and makes their Gram matrix."""
    block, parts = element
    # Sums in float64 give the same float32 in whatever order the parts come.
    sums = np.zeros((graph.blocks.rows(block), num_columns))
    for part in parts:
        if part != _NO_PART:
            sums += read_arrays(_part_path(folder, block, part))["sums"]
    rows = sums.astype(np.float32) * graph.factor(block)
    write_arrays(f"{folder}/rows-{block:05d}.npz", rows=rows)
    exact: Any = rows.astype(np.float64)
    write_json(f"{folder}/gram-{block:05d}.json", (exact.T @ exact).tolist())


def _part_path(folder: str, block: int, part: int) -> str:
    return f"{folder}/part-{block:05d}-{part:05d}.npz"
