"""Approximate retrieval with ScaNN: it finds candidates, the rows themselves score them. CPU only."""

from __future__ import annotations

import math
import uuid
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from tf_hqgnn.config import RetrievalConfig
from tf_hqgnn.retrieval.exact import ExactTopK
from tf_hqgnn.retrieval.filters import Blocked
from tf_hqgnn.retrieval.queries import Queries
from tf_hqgnn.retrieval.rows import RowTable
from tf_hqgnn.retrieval.top_k import TopK, best, pad_to
from tf_hqgnn.types import InputError

# ScaNN's own advice: below this many points brute force wins, and partitions are worth it above.
BRUTE_FORCE_BELOW = 20_000
# Hashes rank roughly: so many candidates are scored again for each answer that is wanted.
_CANDIDATES_PER_ANSWER = 4


@dataclass(frozen=True)
class ScannSizing:
    """What the index is built with; `num_leaves` 0 is no index: every item is scored.

    Args:
      num_leaves: partitions of the catalogue.
      num_leaves_to_search: partitions that a query looks into.
      reorder: at least so many candidates are scored again with the rows themselves.
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
          >>> ScannSizing.choose(1_000, RetrievalConfig())
          ScannSizing(num_leaves=0, num_leaves_to_search=0, reorder=0)
          >>> ScannSizing.choose(1_000_000, RetrievalConfig(reorder=300))
          ScannSizing(num_leaves=1000, num_leaves_to_search=100, reorder=300)
        """
        if num_items < BRUTE_FORCE_BELOW and config.num_leaves is None:
            return ScannSizing(0, 0, 0)
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
    answer for which the searched leaves hold too few items with item 0 at the distance NaN; those are masked.

    Cosines have an index of their own, over rows of length one: the best cosines are seldom among the best inner
    products, where long rows win. Below 20,000 items nothing is gained by searching: all rows are scored, exactly.

    The searchers are built from their tensors when the first request comes, which takes a while: warm them up.

    Args:
      rows: the items, in any precision; the two indices hold 4-bit hashes of them (d / 2 bytes an item each), or 8-bit
        numbers where leaves are asked for below 20,000 items, so that the rows stay the only copy that scores.
      config: overrides of the sizes.

    Raises:
      ImportError: ScaNN isn't installed.
      InputError: The sizes don't fit the catalogue.

    Reference: Guo et al., Accelerating Large-Scale Inference with Anisotropic Vector Quantization, ICML 2020.
    """

    def __init__(self, rows: RowTable, config: RetrievalConfig) -> None:
        super().__init__(name="scann")
        self.rows = rows
        self.sizing = ScannSizing.choose(rows.num_rows, config)
        if self.is_exact():
            self._exact = ExactTopK(rows)
            return
        values = rows.to_numpy()
        self._searcher = _Searcher(values, self.sizing)
        lengths = np.linalg.norm(values, axis=1, keepdims=True)
        values = np.divide(values, lengths, out=np.zeros_like(values), where=lengths > 0)
        self._cosine_searcher = _Searcher(values, self.sizing)

    def call(
        self, queries: Queries, k: tf.Tensor, blocked: Blocked | None = None, cosine: bool = False
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """See `TopK`."""
        if self.is_exact():
            return self._exact.call(queries, k, blocked, cosine)
        searcher = self._cosine_searcher if cosine else self._searcher
        item_index, found = self._candidates(searcher, queries.rows, self._depth(k, blocked))
        scores = self.rows.score_at(queries, item_index, cosine)
        allowed = found if blocked is None else found & ~blocked.contains(item_index)
        return best(tf.where(allowed, scores, -np.inf), item_index, k)

    def is_exact(self) -> bool:
        """Whether the catalogue is so small that every item is scored."""
        return self.sizing.num_leaves == 0

    def describe(self) -> dict[str, object]:
        """The sizes, too."""
        return {**super().describe(), **asdict(self.sizing)}

    def _depth(self, k: tf.Tensor, blocked: Blocked | None) -> tf.Tensor:
        """How many candidates to ask for, int32, from 1 to N."""
        depth = tf.cast(k, tf.int64) * _CANDIDATES_PER_ANSWER
        depth = tf.maximum(depth, self.sizing.reorder)
        if blocked is not None:
            depth += tf.reduce_max(tf.concat([[tf.constant(0, tf.int64)], blocked.counts], axis=0))
        return tf.cast(tf.clip_by_value(depth, 1, self.rows.num_rows), tf.int32)

    def _candidates(self, searcher: _Searcher, queries: tf.Tensor, depth: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """`(item_index, found)`, int32 and bool [B, depth], in the order of the item rows: ties go to the lower."""
        distances, item_index = searcher.search(queries, depth)
        nobody = self.rows.num_rows
        item_index = tf.where(tf.math.is_nan(distances), nobody, item_index)
        # The answer is as wide as its fullest row, which may be less than was asked for.
        item_index = tf.sort(pad_to(item_index, depth, nobody))
        return tf.minimum(item_index, nobody - 1), item_index < nobody


class _Searcher(tf.Module):
    """One of ScaNN's indices, as tensors in variables; it becomes a resource of the session when it is first used.

    Args:
      values: float32 [N, d].
      sizing: its sizes.
    """

    def __init__(self, values: np.ndarray, sizing: ScannSizing) -> None:
        super().__init__(name="searcher")
        self._ops = _scann_ops()
        self._state = _build(self._ops, values, sizing).serialize_to_module()
        # The resource is found again by its name. Left empty it becomes the node's, which is the same for every
        # searcher of a model, and all would answer from the one that was used first.
        self._shared_name = f"scann-{uuid.uuid4()}"

    def search(self, queries: tf.Tensor, depth: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
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
        found = self._ops.ScannSearcher(handle).search_batched_parallel(queries, final_num_neighbors=depth)
        return tf.ensure_shape(found.distances, [None, None]), tf.ensure_shape(found.indices, [None, None])


def _scann_ops() -> Any:
    try:
        from scann.scann_ops.py import scann_ops
    except ImportError as error:
        raise ImportError(
            f"the ScaNN index needs the package scann ({error}): install tf_hqgnn[serving], or "
            "export the exact model only"
        ) from error
    return scann_ops


def _build(ops: Any, values: np.ndarray, sizing: ScannSizing) -> Any:
    builder = ops.builder(values, num_neighbors=10, distance_measure="dot_product")
    builder = builder.tree(num_leaves=sizing.num_leaves, num_leaves_to_search=sizing.num_leaves_to_search)
    if len(values) < BRUTE_FORCE_BELOW:
        # Leaves were asked for; hashes need more points than this to be trained on. Not quantized, ScaNN would hold a
        # second copy of the rows, in float32.
        return builder.score_brute_force(quantize=True).build()
    return builder.score_ah(min(2, values.shape[1]), anisotropic_quantization_threshold=0.2).build()
