"""Metrics of a full ranking, users by blocks and items by blocks: those of one machine, added up over the blocks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
import numpy as np

from tf_hqgnn.beam.much_output import MuchOutput
from tf_hqgnn.beam.path.prepare import Prepared
from tf_hqgnn.beam.path.products import Graph
from tf_hqgnn.beam.path.ranking import Known, rank_block
from tf_hqgnn.beam.path.rows import Served
from tf_hqgnn.beam.path.work import Work, read_all, write_json
from tf_hqgnn.data.splits import VALID, mix
from tf_hqgnn.evaluation.metrics import RankingMetrics, user_sums
from tf_hqgnn.types import Array, BoolArray, Float64Array, Int64Array

# What is ranked: the rows that are served, those before they were coded, and popularity.
RANKINGS = ("served", "full_precision", "popularity")
_SAMPLE = 1 << 32


@dataclass(frozen=True)
class _Setting:
    graph: Graph
    served: Served
    files: tuple[tuple[int, int], ...]
    split: int
    ks: tuple[int, ...]
    share: float
    rankings: tuple[str, ...]


def evaluate(
    work: Work, prepared: Prepared, served: Served, split: int, ks: Sequence[int], most_users: int | None = None
) -> dict[str, RankingMetrics]:
    """Metrics of the rows that are served, of full precision where they are coded, and of popularity.

    Args:
      work: where the files are.
      prepared: the log in blocks.
      served: the rows.
      split: VALID or TEST.
      ks: cut-offs.
      most_users: about how many users are judged by, a sample by the hash of their numbers; None for all.
    """
    blocks = prepared.blocks
    graph = Graph(work.path("blocks"), blocks, prepared.mean_weight, (0.0, 0.0))
    num_users = prepared.targets[0 if split == VALID else 1]
    share = 1.0 if most_users is None else min(1.0, most_users / max(num_users, 1))
    rankings = RANKINGS if any(served.bits) else tuple(name for name in RANKINGS if name != "full_precision")
    setting = _Setting(graph, served, prepared.edges, split, tuple(sorted(set(ks))), share, rankings)
    name = "evaluate-valid" if split == VALID else "evaluate-test"

    def build(pipeline: beam.Pipeline, folder: str) -> None:
        _ = (
            pipeline
            | beam.Create(range(blocks.user_blocks))
            | beam.Reshuffle()
            | "Rank" >> beam.ParDo(_Rank(setting, folder))
            | "ByItems" >> beam.GroupByKey()
            | "Cover" >> beam.ParDo(_Cover(setting, folder))
        )

    def gather(folder: str) -> dict[str, Any]:
        return {"users": read_all(folder, "users-"), "items": read_all(folder, "items-")}

    found = work.run(name, build, gather)
    return {ranking: _total(found, ranking, setting, blocks.num_users) for ranking in rankings}


def _total(found: dict[str, Any], ranking: str, setting: _Setting, num_users: int) -> RankingMetrics:
    judged = sum(one["judged"] for one in found["users"])
    parts = [one["sums"][ranking] for one in found["users"] if one["judged"]]
    values = {name: sum(part[name] for part in parts) / judged for name in (parts[0] if parts else ())}
    covered: list[list[int]] = [one[1] for one in found["items"] if one[0] == ranking]
    for place, k in enumerate(setting.ks):
        recommended = sum(one["popular"][ranking][place][0] for one in found["users"])
        popular = sum(one["popular"][ranking][place][1] for one in found["users"])
        values[f"coverage@{k}"] = sum(counts[place] for counts in covered) / setting.graph.blocks.num_items
        values[f"popularity@{k}"] = popular / max(recommended, 1)
    return RankingMetrics(values, judged, num_users - judged)


class _Rank(MuchOutput):
    """A block of users to sums of their metrics, and `((ranking, block of items), (rows, best ranks))`."""

    def __init__(self, setting: _Setting, folder: str) -> None:
        self._setting = setting
        self._folder = folder

    def process(self, block: int) -> Iterator[Any]:
        setting = self._setting
        graph, ks = setting.graph, setting.ks
        blocks = graph.blocks
        target_row, target_item = Known.of(graph, block).pairs(setting.split)
        rows = _sampled(np.unique(target_row), blocks.index(block), setting.share)
        kept = np.isin(target_row, rows)
        target_row, target_item = target_row[kept], target_item[kept]
        indptr = np.append(np.searchsorted(target_row, rows), len(target_row))
        found: dict[str, Any] = {"judged": len(rows), "sums": {}, "popular": {}}
        strangers = graph.count(block)[rows] == 0
        popularity = np.zeros(0)
        for ranking in setting.rankings if len(rows) else ():
            top = self._top(ranking, block, rows, strangers)
            found["sums"][ranking] = user_sums(top, (indptr, target_item), ks, blocks.num_items)
            popularity = np.zeros(top.shape)
            # A missing item is in no block.
            item_block = np.where(top >= 0, top % blocks.item_blocks, -1)
            for number in np.unique(item_block[item_block >= 0]).tolist():
                here = item_block == number
                strength = graph.strength(blocks.user_blocks + number)
                items = top[here] // blocks.item_blocks
                popularity[here] = strength[items]
                ranks = np.nonzero(here)[1]
                first = np.full(len(strength), ks[-1], np.int64)
                np.minimum.at(first, items, ranks)
                once = np.flatnonzero(first < ks[-1])
                yield (ranking, number), (once.tobytes(), first[once].tobytes())
            found["popular"][ranking] = [[int((top[:, :k] >= 0).sum()), float(popularity[:, :k].sum())] for k in ks]
        for ranking in setting.rankings:
            found["popular"].setdefault(ranking, [[0, 0.0] for _ in ks])
        write_json(f"{self._folder}/users-{block:05d}.json", found)

    def _top(self, ranking: str, block: int, rows: Int64Array, strangers: BoolArray) -> Int64Array:
        """The best items of users by one ranking, int64 [n, k]."""
        setting, graph = self._setting, self._setting.graph
        top = np.empty((len(rows), setting.ks[-1]), np.int64)
        # As in what is served, users that nothing has taught get the most popular items.
        by_popularity = np.ones(len(rows), bool) if ranking == "popularity" else strangers
        read = setting.served.scored if ranking == "served" else setting.served.rows
        for some, make in ((by_popularity, None), (~by_popularity, read)):
            if not some.any():
                continue
            users = None if make is None else make(block)[rows[some]]

            def items(source: int, make: Any = make) -> Float64Array | Array:
                return graph.strength(source)[:, np.newaxis] if make is None else make(source)

            settings = setting.split, setting.ks[-1], lambda source: graph.count(source) > 0
            top[some], _ = rank_block(graph, block, setting.files, rows[some], users, items, *settings)
        return top


def _sampled(rows: Int64Array, index: Int64Array, share: float) -> Int64Array:
    """The users that are judged by."""
    if share >= 1:
        return rows
    return rows[mix(index[rows].astype(np.uint64)) >> np.uint64(32) < np.uint64(share * _SAMPLE)]


class _Cover(beam.DoFn):
    """Counts, for each cut-off, the items of a block that are recommended to anyone."""

    def __init__(self, setting: _Setting, folder: str) -> None:
        self._setting = setting
        self._folder = folder

    def process(self, element: tuple[tuple[str, int], Iterable[tuple[bytes, bytes]]]) -> None:
        (ranking, number), parts = element
        blocks, ks = self._setting.graph.blocks, self._setting.ks
        first = np.full(blocks.rows(blocks.user_blocks + number), ks[-1], np.int64)
        for items, ranks in parts:
            np.minimum.at(first, np.frombuffer(items, np.int64), np.frombuffer(ranks, np.int64))
        counts = [int((first < k).sum()) for k in ks]
        write_json(f"{self._folder}/items-{ranking}-{number:05d}.json", [ranking, counts])
