"""Approximate retrieval with ScaNN: it finds candidates, the rows themselves score them. CPU only."""

from __future__ import annotations

import math
import uuid
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from tf_hqgnn.config import RetrievalConfig
from tf_hqgnn.extras import how_to_install
from tf_hqgnn.retrieval.exact import ExactTopK
from tf_hqgnn.retrieval.filters import Blocked, ItemFilter
from tf_hqgnn.retrieval.indices.scann import BRUTE_FORCE_BELOW
from tf_hqgnn.retrieval.queries import Queries
from tf_hqgnn.retrieval.rows import RowTable
from tf_hqgnn.retrieval.slices import Answer, candidate_bytes, in_slices
from tf_hqgnn.retrieval.top_k import TopK, best, pad_to
from tf_hqgnn.retrieval.variables import gather
from tf_hqgnn.types import Float32Array, InputError

# Hashes rank roughly: so many candidates are scored again for each answer that is wanted.
_CANDIDATES_PER_ANSWER = 4


# What is tried to reach a recall: shares of the leaves, and candidates to score again.
_SHARES_OF_LEAVES = (0.01, 0.02, 0.04, 0.07, 0.1, 0.15, 0.2, 0.3, 0.45, 0.7, 1.0)
_REORDERS = (200, 400, 800, 1600)
# A row that is gathered and scored costs about as much as so many hashes that are looked at.
_COST_OF_A_ROW = 10
_TUNED_BY = 100


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
    ) -> None:
        super().__init__(name="scann")
        self.rows = rows
        self._exact = ExactTopK(rows)
        self.recall: float | None = None
        indexed = None
        if item_filter is not None and item_filter.blocks_some:
            indexed = np.flatnonzero(item_filter.available).astype(np.int32)
        self._num_indexed = rows.num_rows if indexed is None else len(indexed)
        self.sizing = ScannSizing.choose(self._num_indexed, config)
        values = rows.to_numpy() if indexed is None else rows.to_numpy()[indexed]
        self._rows_of = None if indexed is None else tf.Variable(indexed, trainable=False, name="rows_of")
        self.searcher = _Searcher(values, self.sizing)
        lengths = np.linalg.norm(values, axis=1, keepdims=True)
        values = np.divide(values, lengths, out=np.zeros_like(values), where=lengths > 0)
        self.cosine_searcher = _Searcher(values, self.sizing)
        if sample is not None:
            self._reach_recall(sample, config, item_filter)

    def call(
        self, queries: Queries, k: tf.Tensor, blocked: Blocked | None = None, cosine: bool = False
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """See `TopK`; a slice of the batch at a time."""

        def answer(part: tf.Tensor) -> Answer:
            return self._search(queries.at(part), k, None if blocked is None else blocked.at(part), cosine)

        bytes_per_row = tf.cast(self._depth(k, blocked), tf.int64) * candidate_bytes(self.rows.embedding_dim)
        return in_slices(answer, tf.range(tf.shape(queries.rows)[0]), tf.minimum(k, self.rows.num_rows), bytes_per_row)

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

    def _candidates(self, searcher: _Searcher, queries: tf.Tensor, depth: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """`(item_index, found)`, int32 and bool [B, depth], in the order of the item rows: ties go to the lower."""
        distances, item_index = searcher.search(queries, depth, self.sizing.num_leaves_to_search)
        nobody = self.rows.num_rows
        if self._rows_of is not None:
            item_index = gather(self._rows_of, item_index)
        item_index = tf.where(tf.math.is_nan(distances), nobody, item_index)
        # The answer is as wide as its fullest row, which may be less than was asked for.
        item_index = tf.sort(pad_to(item_index, depth, nobody))
        return tf.minimum(item_index, nobody - 1), item_index < nobody

    def _reach_recall(self, sample: Queries, config: RetrievalConfig, item_filter: ItemFilter | None) -> None:
        """Takes the cheapest search with the recall that is wanted, or the best there is; sizes that are set stay."""
        k = tf.constant(min(_TUNED_BY, self._num_indexed))
        batch = tf.shape(sample.rows, tf.int64)[0]
        nothing = Blocked((), tf.zeros([batch], tf.int64), self.rows.num_rows)
        blocked = nothing if item_filter is None else nothing.within(item_filter)
        exact = self._exact.call(sample, k, blocked)[1].numpy()
        leaves = sorted({max(1, round(share * self.sizing.num_leaves)) for share in _SHARES_OF_LEAVES})
        tried = [
            ScannSizing(self.sizing.num_leaves, searched, reorder)
            for searched in ([config.num_leaves_to_search] if config.num_leaves_to_search else leaves)
            for reorder in ([config.reorder] if config.reorder else _REORDERS)
        ]
        best_recall, best_sizing = -1.0, self.sizing
        for sizing in sorted(tried, key=self._cost):
            self.sizing = sizing
            # Without the rows' own scores: what is among the candidates is found, since those are scored exactly.
            depth = tf.constant(max(sizing.reorder, int(k)))
            found, valid = (values.numpy() for values in self._candidates(self.searcher, sample.rows, depth))
            hits = [len(np.intersect1d(a[b], c)) for a, b, c in zip(found, valid, exact)]
            recall = float(np.mean(hits)) / int(k)
            if recall > best_recall:
                best_recall, best_sizing = recall, sizing
            if recall >= config.target_recall:
                break
        self.recall, self.sizing = round(best_recall, 4), best_sizing

    def _cost(self, sizing: ScannSizing) -> float:
        """Hashes looked at, rows counted as so many of them."""
        return self._num_indexed * sizing.num_leaves_to_search / sizing.num_leaves + _COST_OF_A_ROW * sizing.reorder


class _Searcher(tf.Module):
    """One of ScaNN's indices, as tensors in variables; it becomes a resource of the session when it is first used.

    Args:
      values: float32 [N, d].
      sizing: its sizes.
    """

    def __init__(self, values: Float32Array, sizing: ScannSizing) -> None:
        super().__init__(name="searcher")
        self._ops = _scann_ops()
        self._state = _build(self._ops, values, sizing).serialize_to_module()
        # The resource is found again by its name. Left empty it becomes the node's, which is the same for every
        # searcher of a model, and all would answer from the one that was used first.
        self._shared_name = f"scann-{uuid.uuid4()}"

    def search(self, queries: tf.Tensor, depth: tf.Tensor, num_leaves: int) -> tuple[tf.Tensor, tf.Tensor]:
        """ScaNN's own answer, `(distances, item_index)` [B, at most depth]; NaN and 0 where there is none."""
        state = self._state
        handle = self._ops.tensors_to_scann(
            state.dataset,
            state.scann_config,
            state.serialized_partitioner,
            state.datapoint_to_token,
            state.ah_codebook,
            state.hashed_dataset,
            state.int8_dataset,
            state.int8_multipliers,
            state.dp_norms,
            shared_name=self._shared_name,
        )
        found = self._ops.ScannSearcher(handle).search_batched_parallel(
            queries, final_num_neighbors=depth, leaves_to_search=num_leaves
        )
        return tf.ensure_shape(found.distances, [None, None]), tf.ensure_shape(found.indices, [None, None])


def _scann_ops() -> Any:
    try:
        from scann.scann_ops.py import scann_ops
    except ImportError as error:
        raise ImportError(
            f"the ScaNN index needs the package scann ({error}): {how_to_install('scann')}, or export the exact model "
            "only"
        ) from error
    return scann_ops


def _build(ops: Any, values: Float32Array, sizing: ScannSizing) -> Any:
    builder = ops.builder(values, num_neighbors=10, distance_measure="dot_product")
    builder = builder.tree(num_leaves=sizing.num_leaves, num_leaves_to_search=sizing.num_leaves_to_search)
    if len(values) < BRUTE_FORCE_BELOW:
        # ScaNN was asked for all the same. Not quantized, it would hold a second copy of the rows, in float32.
        return builder.score_brute_force(quantize=True).build()
    return builder.score_ah(min(2, values.shape[1]), anisotropic_quantization_threshold=0.2).build()
