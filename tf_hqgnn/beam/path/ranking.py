"""The best unseen items of a block of users, out of item blocks that are read one after the other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tf_hqgnn.beam.path.parts import DISLIKED
from tf_hqgnn.beam.path.products import Graph
from tf_hqgnn.beam.path.work import read_arrays
from tf_hqgnn.data.splits import TEST, VALID
from tf_hqgnn.types import Array, BoolArray, FloatArray, Int32Array, Int64Array

# Scores that are in memory at a time.
_SCORES = 1 << 23
# So many times k items of a block are sorted as they are.
_FEW = 4

# The rows of a block of users, or of items, from which scores are made.
Rows = Callable[[int], FloatArray]


@dataclass(frozen=True)
class Known:
    """A block of users, and what is known of them besides their training items.

    Args:
      row: the users, int32 [n].
      item: their items, int32 [n].
      part: int8 [n], VALID, TEST or DISLIKED.
    """

    row: Int32Array
    item: Int32Array
    part: Array

    @staticmethod
    def of(graph: Graph, block: int) -> Known:
        """That of a block of users."""
        return Known(**read_arrays(f"{graph.folder}/held-{block:05d}.npz"))

    def pairs(self, *parts: int) -> tuple[Int64Array, Int64Array]:
        """Users and items of some parts, int64 [m] each, by user, then item."""
        some = np.isin(self.part, parts)
        row, item = self.row[some].astype(np.int64), self.item[some].astype(np.int64)
        order = np.lexsort((item, row))
        return row[order], item[order]


def masked_parts(split: int) -> tuple[int, ...]:
    """The parts besides training whose items aren't ranked where a part is held out; of TEST + 2 all."""
    return {VALID: (DISLIKED,), TEST: (VALID, DISLIKED)}.get(split, (VALID, TEST, DISLIKED))


def rank_block(
    graph: Graph,
    block: int,
    files: tuple[tuple[int, int], ...],
    rows: Int64Array,
    users: FloatArray | None,
    item_rows: Rows,
    split: int,
    k: int,
    allowed: Callable[[int], BoolArray],
) -> tuple[Int64Array, FloatArray]:
    """The k best unseen items of some users of a block, best first; equal scores go by the lower item row.

    Memory: one block of items with its rows, 2^23 scores, and the k best so far of each user.

    Args:
      graph: the training items, which are never returned.
      block: of users.
      files: block and part of the files with edges.
      rows: the users, ascending rows of the block, int64 [n].
      users: their rows, float [n, d]; None where the scores are the items' own, the same for all.
      item_rows: the rows of a block of items, [rows, d], or [rows, 1] of scores.
      split: VALID or TEST, the part that is held out; TEST + 1 for none.
      k: at least 1.
      allowed: of a block of items, bool [rows], which of them may be returned.

    Returns:
      int64 [n, k], item rows, -1 where there is none, and their scores, minus infinity there.
    """
    blocks = graph.blocks
    place = np.full(blocks.rows(block), -1, np.int64)
    place[rows] = np.arange(len(rows))
    held_row, held_item = Known.of(graph, block).pairs(*masked_parts(split))
    seen: dict[int, list[tuple[Int64Array, Int64Array]]] = {}
    for _, part in (file for file in files if file[0] == block):
        for source, matrix in graph.edges(block, part):
            entries = matrix.tocoo()
            seen.setdefault(source, []).append((entries.row.astype(np.int64), entries.col.astype(np.int64)))
    best = np.full((len(rows), k), -1, np.int64)
    scores = np.full((len(rows), k), -np.inf, np.float64 if users is None else users.dtype)
    for source in range(blocks.user_blocks, blocks.num_blocks):
        here = held_item % blocks.item_blocks == source - blocks.user_blocks
        pairs = [*seen.get(source, ()), (held_row[here], held_item[here] // blocks.item_blocks)]
        row, item = (np.concatenate(ends) for ends in zip(*pairs))
        row, item = place[row][place[row] >= 0], item[place[row] >= 0]
        items, columns = item_rows(source), np.flatnonzero(allowed(source))
        if users is None:
            # The same order for all: nobody sees what is behind the first k and what is hidden of these.
            order = np.argsort(-items[columns, 0], kind="stable")
            columns = np.sort(columns[order][: k + np.bincount(row, minlength=1).max()])
        column_of = np.full(blocks.rows(source), -1, np.int64)
        column_of[columns] = np.arange(len(columns))
        row, item = row[column_of[item] >= 0], column_of[item][column_of[item] >= 0]
        order = np.argsort(row, kind="stable")
        row, item = row[order], item[order]
        index, items = blocks.index(source)[columns], items[columns]
        step = max(1, _SCORES // max(len(index), 1))
        for start in range(0, len(rows), step):
            size = min(step, len(rows) - start)
            of_items = np.repeat(items.T, size, axis=0) if users is None else users[start : start + size] @ items.T
            first, end = np.searchsorted(row, [start, start + size])
            of_items[row[first:end] - start, item[first:end]] = -np.inf
            some = slice(start, start + size)
            best[some], scores[some] = _merged(best[some], scores[some], index, of_items)
    return best, scores


def _merged(
    best: Int64Array, scores: FloatArray, index: Int64Array, of_items: FloatArray
) -> tuple[Int64Array, FloatArray]:
    """The best of those so far and of the scores of one more block; `index` ascends.

    Few items reach the k-th best so far, once there are k; only where many do, the k-th of the block is looked for.
    """
    k = best.shape[1]
    wanted = (of_items >= scores[:, -1:]) & (of_items > -np.inf)
    many = np.flatnonzero(wanted.sum(axis=1) > _FEW * k)
    if len(many):
        wanted[many] &= of_items[many] >= np.partition(of_items[many], -k, axis=1)[:, [-k]]
    row, column = np.nonzero(wanted)
    count = np.bincount(row, minlength=len(best))
    place = np.arange(len(row)) - np.repeat(np.cumsum(count) - count, count)
    found = np.full((len(best), count.max(initial=0)), -np.inf, scores.dtype)
    items = np.full(found.shape, -1, np.int64)
    found[row, place], items[row, place] = of_items[row, column], index[column]
    all_scores, all_items = np.concatenate([scores, found], axis=1), np.concatenate([best, items], axis=1)
    order = np.lexsort((all_items, -all_scores), axis=1)[:, :k]
    return np.take_along_axis(all_items, order, axis=1), np.take_along_axis(all_scores, order, axis=1)
