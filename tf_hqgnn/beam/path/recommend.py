"""The best items of all users where no worker holds all items: blocks of users against blocks of items."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
from apache_beam.io.filesystems import FileSystems

from tf_hqgnn.beam.blocks import Blocks, split
from tf_hqgnn.beam.model_handler import ANSWERS
from tf_hqgnn.beam.path.core import SIDES
from tf_hqgnn.beam.path.prepare import Prepared
from tf_hqgnn.beam.path.products import Graph
from tf_hqgnn.beam.path.ranking import rank_block
from tf_hqgnn.beam.path.rows import Served
from tf_hqgnn.beam.path.work import Work, read_bytes, read_table, write_table
from tf_hqgnn.beam.sinks import read_json, write_bytes
from tf_hqgnn.data.splits import TEST
from tf_hqgnn.types import BoolArray, FloatArray, InputError, Int64Array, ObjectArray

# Nothing is held out: what a user took in any part doesn't come back.
_NOTHING = TEST + 1


def check_recommendations(out: str) -> None:
    """Raises InputError if a folder of recommendations can't be written, so that a caller learns it before training."""
    if FileSystems.match([f"{out}/*"])[0].metadata_list:
        raise InputError(
            f"--recommendations {out} isn't empty, and nothing is overwritten: delete it, or choose another"
        )


def recommend(work: Work, prepared: Prepared, served: Served, k: int, out: str) -> None:
    """Writes `OUT/recommendations-*.parquet`, as `tf-hqgnn batch` has its rows, and last `OUT/report.json`.

    A user that nothing has taught gets the most popular items, with how much they weigh in the log for scores.

    Args:
      work: where the files are.
      prepared: the log in blocks.
      served: the rows.
      k: items of a user, at most.
      out: an empty folder, or one that isn't there.

    Raises:
      InputError: What was taken isn't what is learnt from, which is masked by a served model only.
    """
    if prepared.has_taken:
        raise InputError(
            "--recommendations: by these settings of the log a user has taken other items than those that are learnt "
            "from; leave it out, and recommend by export and batch"
        )
    blocks = prepared.blocks
    graph = Graph(work.path("blocks"), blocks, prepared.mean_weight, (0.0, 0.0))
    _name_blocks(work, blocks)
    setting = _Setting(graph, served, prepared.edges, k, work.path("names"))

    def build(pipeline: beam.Pipeline, folder: str) -> None:
        _ = pipeline | beam.Create(range(blocks.user_blocks)) | beam.Reshuffle() | beam.Map(_write, folder, setting)

    name = f"recommend-{k}"
    work.run(name, build)
    if not FileSystems.exists(out):
        FileSystems.mkdirs(out)
    for block in range(blocks.user_blocks):
        path = f"{out}/recommendations-{block:05d}-of-{blocks.user_blocks:05d}.parquet"
        write_bytes(path, read_bytes(work.path(name, f"block-{block:05d}.parquet")))
    write_bytes(f"{out}/report.json", json.dumps({"rows": blocks.num_users, "k": k}).encode())


@dataclass(frozen=True)
class _Setting:
    graph: Graph
    served: Served
    files: tuple[tuple[int, int], ...]
    k: int
    names: str


def _name_blocks(work: Work, blocks: Blocks) -> None:
    """Writes the ids of each block, which lie in the ranges of their order."""
    sizes = read_json(work.path("number", "sizes.json"))
    starts, total = [], [0, 0]
    for side, place, size in sizes:
        starts.append((side, place, total[side]))
        total[side] += size

    def build(pipeline: beam.Pipeline, folder: str) -> None:
        _ = (
            pipeline
            | beam.Create(starts)
            | beam.Reshuffle()
            | beam.FlatMap(_names_of_range, work.path("number"), blocks)
            | beam.GroupByKey()
            | beam.Map(_write_names, folder)
        )

    work.run("names", build)


def _names_of_range(
    element: tuple[int, int, int], numbered: str, blocks: Blocks
) -> Iterator[tuple[int, tuple[int, list[str]]]]:
    side, place, start = element
    ids = read_table(f"{numbered}/ids-{SIDES[side]}-{place:05d}.parquet")[SIDES[side]].to_pylist()
    first, number = (0, blocks.user_blocks) if side == 0 else (blocks.user_blocks, blocks.item_blocks)
    for block, places in split((start + np.arange(len(ids))) % number):
        yield first + block, (start, [ids[row] for row in places])


def _write_names(element: tuple[int, Iterable[tuple[int, list[str]]]], folder: str) -> None:
    block, parts = element
    names = [name for _, part in sorted(parts) for name in part]
    write_table(f"{folder}/names-{block:05d}.parquet", pa.table({"name": pa.array(names, pa.utf8())}))


def _write(block: int, folder: str, setting: _Setting) -> None:
    """The answers of a block of users, as rows of the schema ANSWERS."""
    graph, served, blocks = setting.graph, setting.served, setting.graph.blocks
    strangers = graph.count(block) == 0
    best = np.full((len(strangers), setting.k), -1, np.int64)
    scores = np.zeros(best.shape)

    def answer(rows: Int64Array, users: FloatArray | None, items: Any) -> None:
        if not len(rows):
            return
        shared = setting.files, rows, users, items, _NOTHING, setting.k, _known(graph)
        best[rows], scores[rows] = rank_block(graph, block, *shared)

    answer(np.flatnonzero(~strangers), served.scored(block)[~strangers], served.scored)
    answer(np.flatnonzero(strangers), None, lambda source: graph.strength(source)[:, np.newaxis])
    names = np.full(best.shape, None, object)
    for number in np.unique(best[best >= 0] % blocks.item_blocks).tolist():
        here = (best >= 0) & (best % blocks.item_blocks == number)
        names[here] = _names(setting.names, blocks.user_blocks + number)[best[here] // blocks.item_blocks]
    ends = np.append(0, np.cumsum((best >= 0).sum(axis=1)))
    lists = [
        pa.ListArray.from_arrays(pa.array(ends, pa.int32()), pa.array(values[best >= 0], kind))
        for values, kind in ((names, pa.utf8()), (scores, pa.float32()))
    ]
    columns = [pa.array(_names(setting.names, block), pa.utf8()), pa.array(~strangers), *lists]
    write_table(f"{folder}/block-{block:05d}.parquet", pa.table(columns, schema=ANSWERS))


def _names(folder: str, block: int) -> ObjectArray:
    names: ObjectArray = read_table(f"{folder}/names-{block:05d}.parquet")["name"].to_numpy()
    return names


def _known(graph: Graph) -> Any:
    """Which items of a block may be recommended."""

    def known(source: int) -> BoolArray:
        return graph.count(source) > 0

    return known
