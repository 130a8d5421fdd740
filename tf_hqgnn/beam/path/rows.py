"""From singular vectors to the rows that are served: the filter, the propagation, the mean user, the codes."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow.parquet as pq
from apache_beam.io.filesystems import FileSystems

from tf_hqgnn.beam.blocks import Blocks
from tf_hqgnn.beam.graph_files import write_edges, write_rows
from tf_hqgnn.beam.path.core import shard_path
from tf_hqgnn.beam.path.factorise import Factors
from tf_hqgnn.beam.path.prepare import Prepared
from tf_hqgnn.beam.path.products import Graph
from tf_hqgnn.beam.path.work import Work, read_all, read_arrays, read_bytes, read_table, write_arrays, write_json
from tf_hqgnn.beam.propagation import propagate
from tf_hqgnn.beam.series import coefficients
from tf_hqgnn.beam.sinks import delete_folder
from tf_hqgnn.config import Config, ModelConfig, PropagationConfig, QuantizationConfig
from tf_hqgnn.data.splits import TRAIN
from tf_hqgnn.graph.unit_rows import unit_rows
from tf_hqgnn.quantization.codes import Codes
from tf_hqgnn.quantization.float16 import exponent_of_lengths
from tf_hqgnn.types import SMALLEST_WEIGHT, Float32Array, Float64Array

# What a per-tensor range reaches, in standard deviations, as of LowBitQuantizer.adapt_range.
_REACH = 3.0


@dataclass(frozen=True)
class Served:
    """The rows that are served, in the files `rows-<block>.npz` of a folder.

    Args:
      folder: where they are.
      blocks: how users and items are cut.
      dim: columns.
      bits: of users and of items; None for float32.
    """

    folder: str
    blocks: Blocks
    dim: int
    bits: tuple[int | None, int | None]

    def rows(self, block: int) -> Float32Array:
        """The rows of a block in full precision, float32 [rows, dim]."""
        rows: Float32Array = self._arrays(block)["rows"]
        return rows

    def codes(self, block: int) -> Codes | None:
        """The codes of a block's rows; None where they are served in full precision."""
        bits = self.bits[0 if self.blocks.is_users(block) else 1]
        if bits is None:
            return None
        arrays = self._arrays(block)
        return Codes(arrays["packed"], arrays["scale"], arrays.get("offset"), bits, self.dim)

    def scored(self, block: int) -> Float32Array:
        """The rows that scores are made of, decoded where there are codes."""
        codes = self.codes(block)
        return self.rows(block) if codes is None else codes.dequantize()

    def _arrays(self, block: int) -> dict[str, Any]:
        return read_arrays(f"{self.folder}/rows-{block:05d}.npz")


def table_rows(folder: str, blocks: Blocks, block: int) -> Float32Array:
    """The rows of a block before they are coded, float32 [rows, dim], as `write_rows` wrote them."""
    table = pq.read_table(io.BytesIO(read_bytes(_rows_path(folder, blocks, block))))
    values: Float32Array = table["embedding"].combine_chunks().flatten().to_numpy()
    return values.reshape(len(table), -1)


def make_tables(work: Work, prepared: Prepared, factors: Factors, config: Config) -> str:
    """Writes the filtered singular vectors, as `models.initialization.spectral_embeddings` has them.

    Returns:
      The folder with a file for each block.
    """
    model, blocks = config.model, prepared.blocks
    # Relative to the first, so that a power neither over- nor underflows.
    filtered = ((factors.strength / factors.strength[:1]) ** (model.spectral_power / 2)).astype(np.float32)
    sides = [replace(side, rotation=side.rotation * filtered) for side in (factors.users, factors.items)]
    graph = Graph(work.path("blocks"), blocks, prepared.mean_weight, (0.0, 0.0))
    make = partial(_filtered, factors=replace(factors, users=sides[0], items=sides[1]), graph=graph, model=model)
    items = range(blocks.user_blocks, blocks.num_blocks)
    squares = work.run("norms", _each(items, _write_squares, make=make), lambda folder: sum(read_all(folder)))
    length = max(float(np.sqrt(squares / blocks.num_items)), float(np.finfo(np.float32).tiny))
    write = _each(range(blocks.num_blocks), _write_table, make=make, length=length, blocks=blocks)
    work.run("tables", write)
    return work.path("tables")


def propagate_tables(work: Work, prepared: Prepared, tables: str, config: PropagationConfig) -> str:
    """Propagates the tables by `tf_hqgnn.beam.propagation`, unless the settings leave them; returns their folder."""
    solver = config.make_solver()
    propagates = solver.propagates and config.t1 > 0
    if not propagates and not config.normalize:
        return tables
    shards = range(prepared.num_shards)
    work.run("edges", _each(shards, _write_train, work=work.folder, mean=prepared.mean_weight))
    out = work.path("propagated")
    if not work.is_done("propagated"):
        series = coefficients(config.solver if propagates else "none", config.t1, config.num_steps, config.tolerance)
        files = work.path("edges", "*.parquet"), f"{tables}/users-*.parquet", f"{tables}/items-*.parquet"
        cut = prepared.blocks.block_rows, prepared.blocks.block_edges
        if FileSystems.exists(out):
            # Of a run that was killed before it noted that this step is done.
            delete_folder(out)
        propagate(*files, out, series, config.normalize, work.flags, *cut, say=work.say)
        work.finish("propagated", None)
    return out


def serve_rows(work: Work, prepared: Prepared, tables: str, config: QuantizationConfig) -> Served:
    """Writes the rows that are served: users that nothing has taught get the mean of the others, and all get codes."""
    blocks = prepared.blocks
    graph = Graph(work.path("blocks"), blocks, prepared.mean_weight, (0.0, 0.0))
    every = range(blocks.num_blocks)
    found = work.run("stats", _each(every, _write_stats, tables=tables, graph=graph), read_all)
    bits = (None, None) if config.bits is None else (config.user_bits, config.bits)
    taught = sum(one["taught"] for one in found[: blocks.user_blocks])
    mean: Float64Array | None = None
    if 0 < taught < blocks.num_users:
        mean = np.sum([one["sum"] for one in found[: blocks.user_blocks]], axis=0) / taught
    sides: list[_Coding] = []
    for own, number in ((found[: blocks.user_blocks], bits[0]), (found[blocks.user_blocks :], bits[1])):
        is_users = not sides
        sides.append(_Coding.of(own, number, config, blocks, mean if is_users else None, is_users))
    served = Served(work.path("served"), blocks, int(found[0]["dim"]), bits)
    write = _each(every, _write_served, tables=tables, graph=graph, sides=tuple(sides), coded=config.bits is not None)
    work.run("served", write)
    return served


def _each(numbers: Iterable[int], write: Callable[..., None], **settings: Any) -> Callable[[beam.Pipeline, str], None]:
    """A step that calls `write(number, folder, **settings)` for each number, on any worker."""

    def build(pipeline: beam.Pipeline, folder: str) -> None:
        _ = pipeline | beam.Create(list(numbers)) | beam.Reshuffle() | beam.Map(write, folder, **settings)

    return build


def _filtered(block: int, factors: Factors, graph: Graph, model: ModelConfig) -> Float32Array:
    """The rows of a block; those of items without the factor that all have in common."""
    blocks = graph.blocks
    is_users = blocks.is_users(block)
    table = factors.users if is_users else factors.items
    rows = table.block(blocks, block)
    # Rounding leaves something of a row without interactions.
    rows[graph.count(block) == 0] = 0
    if is_users:
        rows = unit_rows(rows)
    else:
        strength = graph.strength(block)
        factor = np.where(strength > 0, strength, 1).astype(np.float32) ** np.float32(model.spectral_popularity)
        rows = rows * factor[:, np.newaxis]
    missing = model.embedding_dim - rows.shape[1]
    padded: Float32Array = np.pad(rows, ((0, 0), (0, missing))) if missing else rows
    return padded


def _write_squares(block: int, folder: str, make: Callable[[int], Float32Array]) -> None:
    write_json(f"{folder}/squares-{block:05d}.json", float(np.square(make(block), dtype=np.float64).sum()))


def _write_table(block: int, folder: str, make: Callable[[int], Float32Array], length: float, blocks: Blocks) -> None:
    rows = make(block) if blocks.is_users(block) else make(block) / np.float32(length)
    write_rows(_rows_path(folder, blocks, block), blocks.index(block), rows)


def _rows_path(folder: str, blocks: Blocks, block: int) -> str:
    """As the files of a propagation are called."""
    if blocks.is_users(block):
        return f"{folder}/users-{block:05d}-of-{blocks.user_blocks:05d}.parquet"
    return f"{folder}/items-{block - blocks.user_blocks:05d}-of-{blocks.item_blocks:05d}.parquet"


def _write_train(shard: int, folder: str, work: str, mean: float | None) -> None:
    table = read_table(shard_path(f"{work}/blocks", shard))
    train = table["part"].to_numpy() == TRAIN
    user, item, weight = (table[name].to_numpy()[train] for name in ("user_index", "item_index", "weight"))
    relative = None if mean is None else np.maximum(weight / mean, SMALLEST_WEIGHT).astype(np.float32)
    write_edges(shard_path(folder, shard), user, item, relative)


def _write_stats(block: int, folder: str, tables: str, graph: Graph) -> None:
    """Sums over rows, from which the mean user and the ranges of codes follow."""
    rows = table_rows(tables, graph.blocks, block)
    taught = rows[graph.count(block) > 0]
    lengths = np.abs(rows if not graph.blocks.is_users(block) else taught).max(axis=1, initial=0)
    lengths = lengths[lengths > 0]
    exact = taught.astype(np.float64)
    found = {
        "dim": rows.shape[1],
        "taught": len(taught),
        "sum": exact.sum(axis=0).tolist(),
        "squares": float(np.square(exact).sum()),
        "longest": float(lengths.max(initial=0)),
        "shortest": float(lengths.min(initial=np.inf)),
    }
    write_json(f"{folder}/stats-{block:05d}.json", found)


@dataclass(frozen=True)
class _Coding:
    """A rule that makes codes of the rows of one side.

    Args:
      bits: None for none.
      symmetric: whether ranges are centred on 0.
      exponent: of 2, by which all rows are multiplied first; 0 where they aren't.
      ends: of the one range of all rows; None where each row has its own.
      mean: the row of those that nothing has taught; None leaves them.
    """

    bits: int | None
    symmetric: bool
    exponent: int
    ends: tuple[float, float] | None
    mean: Float32Array | None

    @staticmethod
    def of(
        found: list[dict[str, Any]],
        bits: int | None,
        config: QuantizationConfig,
        blocks: Blocks,
        mean: Float64Array | None,
        is_users: bool,
    ) -> _Coding:
        """Makes the rule from the statistics of all blocks of one side."""
        longest, shortest = (choose(one[key] for one in found) for choose, key in ((max, "longest"), (min, "shortest")))
        size = blocks.num_users if is_users else blocks.num_items
        total, squares = sum(sum(one["sum"]) for one in found), sum(one["squares"] for one in found)
        if mean is not None:
            untaught = size - sum(one["taught"] for one in found)
            total, squares = total + untaught * mean.sum(), squares + untaught * np.square(mean).sum()
            # Of rounded rows, as on one machine.
            length = float(np.abs(mean.astype(np.float32)).max())
            longest, shortest = max(longest, length), min(shortest, length or shortest)
        exponent = exponent_of_lengths(longest, shortest) if config.bits is not None and longest else 0
        ends = None
        if config.mode == "per_tensor" and bits is not None:
            values = size * int(found[0]["dim"])
            middle = 0.0 if config.symmetric else total / values
            reach = _REACH * float(np.sqrt(max(squares / values - 2 * middle * total / values + middle**2, 0.0)))
            ends = (middle - reach) * 2.0**exponent, (middle + reach) * 2.0**exponent
        return _Coding(bits, config.symmetric, exponent, ends, None if mean is None else mean.astype(np.float32))

    def codes(self, rows: Float32Array) -> Codes:
        """The codes of rows that are multiplied already."""
        assert self.bits is not None
        ranges = None if self.ends is None else (np.array(self.ends[:1]), np.array(self.ends[1:]))
        return Codes.quantize(rows, self.bits, symmetric=self.symmetric, ranges=ranges)


def _write_served(
    block: int, folder: str, tables: str, graph: Graph, sides: tuple[_Coding, _Coding], coded: bool
) -> None:
    is_users = graph.blocks.is_users(block)
    coding = sides[0 if is_users else 1]
    rows = table_rows(tables, graph.blocks, block)
    untaught = graph.count(block) == 0
    if not is_users:
        rows = np.where(untaught[:, np.newaxis], np.float32(0), rows)
    elif coding.mean is not None:
        rows = np.where(untaught[:, np.newaxis], coding.mean, rows)
    arrays: dict[str, Any] = {"rows": rows}
    if coded:
        fitted = np.ldexp(rows, coding.exponent)
        if coding.bits is None:
            arrays["fitted"] = fitted
        else:
            codes = coding.codes(fitted)
            arrays |= {"packed": codes.packed, "scale": codes.scale}
            arrays |= {} if codes.offset is None else {"offset": codes.offset}
    write_arrays(f"{folder}/rows-{block:05d}.npz", **arrays)
