"""Approximate retrieval with ScaNN: it finds candidates, the rows themselves score them. CPU only."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import numpy as np
import tensorflow as tf

from tf_hqgnn.config import RetrievalConfig
from tf_hqgnn.retrieval.exact import ExactTopK
from tf_hqgnn.retrieval.filters import Blocked
from tf_hqgnn.retrieval.indices.index import EarlierIndex
from tf_hqgnn.retrieval.indices.scann import BRUTE_FORCE_BELOW
from tf_hqgnn.retrieval.item_filter import ItemFilter
from tf_hqgnn.retrieval.queries import Queries
from tf_hqgnn.retrieval.rows import RowTable
from tf_hqgnn.retrieval.scann_searcher import Searcher, holds_hashes, read_state
from tf_hqgnn.retrieval.sizes import size_of
from tf_hqgnn.retrieval.slices import Answer, candidate_bytes, in_slices
from tf_hqgnn.retrieval.top_k import TopK, best, pad_to
from tf_hqgnn.retrieval.variables import gather
from tf_hqgnn.types import Array, Float32Array, InputError, Int32Array, IntArray

# Hashes rank roughly: so many candidates are scored again for each answer that is wanted.
_CANDIDATES_PER_ANSWER = 4


# What is tried to reach a recall: shares of the leaves, and candidates to score again.
_SHARES_OF_LEAVES = (0.01, 0.02, 0.04, 0.07, 0.1, 0.15, 0.2, 0.3, 0.45, 0.7, 1.0)
_REORDERS = (200, 400, 800, 1600)
# A row that is gathered and scored costs about as much as so many hashes that are looked at.
_COST_OF_A_ROW = 10
_TUNED_BY = 100
# A catalogue that would by now have so many times as many leaves gets new ones.
_OUTGROWN = 2
# What is lost of the recall that an earlier version reached before the leaves are learnt anew.
_LOSS = 0.005


@dataclass(frozen=True)
class ScannSizing:
    """What the index is built and searched with.

    Args:
      num_leaves: partitions of the catalogue.
      num_leaves_to_search: partitions that a query looks into.
      reorder: the least number of candidates that are scored again with the rows themselves.
    """

    num_leaves: int
    num_leaves_to_search: int
    reorder: int

    @staticmethod
    def choose(num_items: int, config: RetrievalConfig) -> ScannSizing:
        """Sizes for a catalogue; what `config` sets is kept.

        Raises:
          InputError: More leaves than items, or more to search than there are.

        Example:
          >>> ScannSizing.choose(1_000_000, RetrievalConfig(reorder=300))
          ScannSizing(num_leaves=1000, num_leaves_to_search=100, reorder=300)
        """
        num_leaves = config.num_leaves or round(math.sqrt(num_items))
        if num_leaves > num_items:
            raise InputError(
                f"retrieval.num_leaves is {num_leaves}, but there are only {num_items} items: take about the square "
                f"root of the number of items, or leave it out"
            )
        num_leaves_to_search = config.num_leaves_to_search or math.ceil(num_leaves / 10)
        if num_leaves_to_search > num_leaves:
            raise InputError(
                f"retrieval.num_leaves_to_search is {num_leaves_to_search}, more than the {num_leaves} leaves there are"
            )
        return ScannSizing(num_leaves, num_leaves_to_search, config.reorder or 200)


class ScannTopK(TopK):
    """ScaNN's best candidates, scored again with the rows, blocked ones masked, then the k best.

    Searches k + (the most blocked items of a query of the batch) deep, and deeper where hashes rank. ScaNN pads an
    answer for which the searched leaves hold too few items with item 0 at the distance NaN; those are masked. Where a
    query of the batch doesn't get k answers that way (a rare category, a large k), all rows are scored: fewer than k
    answers mean that there are no more.

    Cosines have an index of their own, over rows of length one: the best cosines are seldom among the best inner
    products, where long rows win.

    The searchers are built from their tensors when the first request comes, which takes a while: warm them up.

    Args:
      rows: the items, in any precision; the two indices hold 4-bit hashes of them (d / 2 bytes an item each), or 8-bit
        numbers where leaves are asked for below 20,000 items, so that the rows stay the only copy that scores.
      config: overrides of the sizes.
      item_filter: which items may come back: others aren't in the index. None for all.
      sample: typical queries, by which `target_recall` is reached; None takes the sizes as they are.
      earlier: the index of an earlier version, over the first of the rows. Its leaves and hashes are kept, the other
        rows are assigned to them, and its sizes stay unless its recall is below `target_recall` now. None learns all
        anew, as does an index that the catalogue has outgrown, or that can't reach the recall any more.

    Attributes:
      recall: mean share of the exact 100 best items that the index finds for `sample`; None without.

    Raises:
      ImportError: ScaNN isn't installed.
      InputError: The sizes don't fit the catalogue.

    Reference: Guo et al., Accelerating Large-Scale Inference with Anisotropic Vector Quantization, ICML 2020.
    """

    def __init__(
        self,
        rows: RowTable,
        config: RetrievalConfig,
        item_filter: ItemFilter | None = None,
        sample: Queries | None = None,
        earlier: EarlierIndex | None = None,
    ) -> None:
        super().__init__(name="scann")
        self.rows = rows
        self._exact = ExactTopK(rows)
        self.recall: float | None = None
        indexed = None
        if item_filter is not None and item_filter.blocks_some:
            indexed = np.flatnonzero(item_filter.available).astype(np.int32)
        self._num_indexed = rows.num_rows if indexed is None else len(indexed)
        self._rows_of = None if indexed is None else tf.Variable(indexed, trainable=False, name="rows_of")
        self.sizing = ScannSizing.choose(self._num_indexed, config)
        exact = None if sample is None else self._exact_best(sample, item_filter)
        if earlier is not None and self._extend(earlier, config, sample, exact):
            return
        values = self._values_at(slice(None))
        self.searcher = Searcher.train(values, self.sizing)
        self.cosine_searcher = Searcher.train(_unit_rows(values), self.sizing)
        if sample is not None and exact is not None:
            self._reach_recall(sample, config, exact)

    def _values_at(self, place: IntArray | slice) -> Float32Array:
        """The rows at places of the index, float32 [n, d]."""
        if isinstance(place, slice):
            values = self.rows.to_numpy()
            return values if self._rows_of is None else values[self._rows_of.numpy()]
        found: Float32Array = self.rows.gather(tf.constant(self._indexed()[place], tf.int32)).numpy()
        return found

    def _indexed(self) -> Int32Array:
        """The rows that are in the index, int32, ascending."""
        rows: Int32Array = np.arange(self.rows.num_rows, dtype=np.int32)
        return rows if self._rows_of is None else self._rows_of.numpy()

    def _extend(
        self, earlier: EarlierIndex, config: RetrievalConfig, sample: Queries | None, exact: Array | None
    ) -> bool:
        """Take over what an earlier index has learnt; returns False, and changes nothing, where that doesn't do."""
        usual, described = self.sizing, earlier.described
        needed = "recall@100", *asdict(usual)
        if not earlier.has("searcher/_state/scann_config") or any(name not in described for name in needed):
            return False
        kept = ScannSizing(*(int(described[name]) for name in asdict(usual)))
        states = [read_state(earlier.read, of) for of in ("searcher", "cosine_searcher")]
        is_outgrown = usual.num_leaves > _OUTGROWN * kept.num_leaves or kept.num_leaves > self._num_indexed
        if is_outgrown or (self._num_indexed >= BRUTE_FORCE_BELOW and not holds_hashes(states[0])):
            return False
        place_of = np.full(self.rows.num_rows, -1, np.int64)
        held = earlier.read("rows_of") if earlier.has("rows_of") else np.arange(earlier.num_rows)
        place_of[held] = np.arange(len(held))
        place = place_of[self._indexed()]
        self.searcher = Searcher.extend(states[0], place, self._values_at)
        self.cosine_searcher = Searcher.extend(states[1], place, lambda new: _unit_rows(self._values_at(new)))
        self.sizing, before = kept, described["recall@100"]
        if sample is None or exact is None:
            return True
        self.recall = self._recall(sample, exact)
        if self.recall >= config.target_recall:
            return True
        self._reach_recall(sample, config, exact)
        if self.recall >= min(config.target_recall, 1.0 if before is None else before) - _LOSS:
            return True
        self.sizing = usual
        return False

    def call(
        self, queries: Queries, k: tf.Tensor, blocked: Blocked | None = None, cosine: bool = False
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """See `TopK`; a slice of the batch at a time."""

        def answer(part: tf.Tensor) -> Answer:
            return self._search(queries.at(part), k, None if blocked is None else blocked.at(part), cosine)

        bytes_per_row = tf.cast(self._depth(k, blocked), tf.int64) * candidate_bytes(self.rows.embedding_dim)
        return in_slices(answer, tf.range(size_of(queries.rows, 0)), tf.minimum(k, self.rows.num_rows), bytes_per_row)

    def _search(self, queries: Queries, k: tf.Tensor, blocked: Blocked | None, cosine: bool) -> Answer:
        searcher = self.cosine_searcher if cosine else self.searcher
        item_index, found = self._candidates(searcher, queries.rows, self._depth(k, blocked))
        scores = self.rows.score_at(queries, item_index, cosine)
        allowed = found if blocked is None else found & ~blocked.contains(item_index)
        answer = best(tf.where(allowed, scores, -np.inf), item_index, k)
        wanted = tf.minimum(k, self.rows.num_rows)
        enough = tf.reduce_all(tf.reduce_sum(tf.cast(answer[0] > -np.inf, tf.int32), axis=1) >= wanted)
        scores, item_index = tf.cond(enough, lambda: answer, lambda: self._exact.call(queries, k, blocked, cosine))
        return scores, item_index

    def is_exact(self) -> bool:
        """Never: what the searched leaves don't hold isn't found."""
        return False

    def describe(self) -> dict[str, object]:
        """The sizes, too."""
        return {**super().describe(), **asdict(self.sizing), "recall@100": self.recall}

    def _depth(self, k: tf.Tensor, blocked: Blocked | None) -> tf.Tensor:
        """How many candidates to ask for, int32, from 1 to N."""
        depth = tf.cast(k, tf.int64) * _CANDIDATES_PER_ANSWER
        depth = tf.maximum(depth, self.sizing.reorder)
        if blocked is not None:
            depth += blocked.deepest
        return tf.cast(tf.clip_by_value(depth, 1, self._num_indexed), tf.int32)

    def _candidates(self, searcher: Searcher, queries: tf.Tensor, depth: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """`(item_index, found)`, int32 and bool [B, depth], in the order of the item rows: ties go to the lower."""
        distances, item_index = searcher.search(queries, depth, self.sizing.num_leaves_to_search)
        nobody = self.rows.num_rows
        if self._rows_of is not None:
            item_index = gather(self._rows_of, item_index)
        item_index = tf.where(tf.math.is_nan(distances), nobody, item_index)
        # The answer is as wide as its fullest row, which may be less than was asked for.
        item_index = tf.sort(pad_to(item_index, depth, nobody))
        return tf.minimum(item_index, nobody - 1), item_index < nobody

    def _exact_best(self, sample: Queries, item_filter: ItemFilter | None) -> Int32Array:
        """The best items of typical queries, int32 [B, 100]; fewer where there are no more."""
        k = tf.constant(min(_TUNED_BY, self._num_indexed))
        batch = size_of(sample.rows, 0, tf.int64)
        nothing = Blocked((), tf.zeros([batch], tf.int64), self.rows.num_rows)
        blocked = nothing if item_filter is None else nothing.within(item_filter)
        items: Int32Array = self._exact.call(sample, k, blocked)[1].numpy()
        return items

    def _recall(self, sample: Queries, exact: Array) -> float:
        """The mean share of the items `exact` of each query that is found at the sizes as they are."""
        # Without the rows' own scores: what is among the candidates is found, since those are scored exactly.
        k = exact.shape[1]
        depth = tf.constant(max(self.sizing.reorder, k))
        found, valid = (values.numpy() for values in self._candidates(self.searcher, sample.rows, depth))
        hits = [len(np.intersect1d(a[b], c)) for a, b, c in zip(found, valid, exact)]
        return round(float(np.mean(hits)) / k, 4)

    def _reach_recall(self, sample: Queries, config: RetrievalConfig, exact: Array) -> None:
        """Takes the cheapest search with the recall that is wanted, or the best there is; sizes that are set stay."""
        leaves = sorted({max(1, round(share * self.sizing.num_leaves)) for share in _SHARES_OF_LEAVES})
        tried = [
            ScannSizing(self.sizing.num_leaves, searched, reorder)
            for searched in ([config.num_leaves_to_search] if config.num_leaves_to_search else leaves)
            for reorder in ([config.reorder] if config.reorder else _REORDERS)
        ]
        best_recall, best_sizing = -1.0, self.sizing
        for sizing in sorted(tried, key=self._cost):
            self.sizing = sizing
            recall = self._recall(sample, exact)
            if recall > best_recall:
                best_recall, best_sizing = recall, sizing
            if recall >= config.target_recall:
                break
        self.recall, self.sizing = best_recall, best_sizing

    def _cost(self, sizing: ScannSizing) -> float:
        """Hashes looked at, rows counted as so many of them."""
        return self._num_indexed * sizing.num_leaves_to_search / sizing.num_leaves + _COST_OF_A_ROW * sizing.reorder


def _unit_rows(values: Float32Array) -> Float32Array:
    """Rows at length one; a row of zeros stays."""
    lengths = np.linalg.norm(values, axis=1, keepdims=True)
    units: Float32Array = np.divide(values, lengths, out=np.zeros_like(values), where=lengths > 0)
    return units
