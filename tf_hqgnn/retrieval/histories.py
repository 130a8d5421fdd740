"""Rows for users and items that no training has seen, from the other side's rows: one hop, then a learned map."""

from __future__ import annotations

import numpy as np
import scipy.sparse
import tensorflow as tf

from tf_hqgnn.retrieval.queries import Queries
from tf_hqgnn.retrieval.rows import RowTable
from tf_hqgnn.retrieval.sizes import size_of
from tf_hqgnn.types import Float32Array

# So many users are enough to fit d x d numbers.
_SAMPLE = 200_000
_CHUNK = 8192
_RIDGE = 1e-3


def hop(neighbours: scipy.sparse.csr_matrix, rows: Float32Array) -> Float32Array:
    """`sum of a node's neighbours' rows / sqrt(their number)`, a hop of the graph convolution.

    Args:
      neighbours: [n, m], 1 for every neighbour.
      rows: float32 [m, d].

    Returns:
      float32 [n, d]; zeros for a node without neighbours.
    """
    degree = np.maximum(np.diff(neighbours.indptr), 1).astype(np.float32)
    means: Float32Array = np.asarray(neighbours @ rows) / np.sqrt(degree)[:, np.newaxis]
    return means


def fit_hop_map(
    neighbours: scipy.sparse.csr_matrix, rows: Float32Array, targets: Float32Array, seed: int = 0
) -> Float32Array:
    """The linear map W after a hop that comes nearest to the rows that training found: `hop(neighbours, rows) W`.

    A hop alone points in a direction that all histories share; the trained rows know how to undo that, and W learns it
    from them by ridge regression.

    Args:
      neighbours: [n, m], 1 for every neighbour.
      rows: float32 [m, d], of the neighbours.
      targets: float32 [n, d], the trained rows of the nodes.
      seed: of the sample of nodes, where there are many.

    Returns:
      float32 [d, d]; the identity if no node has a neighbour.

    Example:
      >>> both = scipy.sparse.csr_matrix(np.eye(2, dtype=np.float32))
      >>> fit_hop_map(both, np.eye(2, dtype=np.float32), 2 * np.eye(2, dtype=np.float32)).round(1).tolist()
      [[2.0, 0.0], [0.0, 2.0]]
    """
    nodes = np.flatnonzero(np.diff(neighbours.indptr))
    if not len(nodes):
        return np.eye(rows.shape[1], dtype=np.float32)
    if len(nodes) > _SAMPLE:
        nodes = np.sort(np.random.default_rng(seed).choice(nodes, _SAMPLE, replace=False))
    dim = rows.shape[1]
    gram, cross = np.zeros((dim, dim)), np.zeros((dim, dim))
    for start in range(0, len(nodes), _CHUNK):
        part = nodes[start : start + _CHUNK]
        hopped = hop(neighbours[part], rows).astype(np.float64)
        gram += hopped.T @ hopped
        cross += hopped.T @ targets[part]
    ridge = _RIDGE * max(np.trace(gram) / dim, np.finfo(np.float32).tiny)
    return np.linalg.solve(gram + ridge * np.eye(dim), cross).astype(np.float32)


class HistoryEncoder(tf.Module):
    """Queries of users who are known by their history alone.

    Args:
      items: the table of N item rows.
      hop_map: float32 [d, d] of `fit_hop_map` from item rows to users.
    """

    def __init__(self, items: RowTable, hop_map: Float32Array) -> None:
        super().__init__(name="history")
        self._items = items
        self.hop_map = tf.Variable(np.asarray(hop_map, np.float32), trainable=False, name="map")

    def call(self, item_index: tf.Tensor) -> Queries:
        """The queries of histories.

        Args:
          item_index: int64 [B, H], rows of items; -1 (padding, an unknown item) counts for nothing, nor do repetitions.
        """
        total, taken = self._taken(item_index)
        return Queries(tf.matmul(tf.math.divide_no_nan(total, tf.sqrt(taken)), self.hop_map))

    def extend(self, rows: tf.Tensor, num_taken: tf.Tensor, item_index: tf.Tensor) -> Queries:
        """The queries of users who have taken more items since they were trained.

        With n items before and m new ones, whose rows are e_h, the query is

            sqrt(n / (n + m)) row + sum e_h W / sqrt(n + m).

        A row that were itself the query of its n items would become that of all n + m. Without a new item it stays.

        Args:
          rows: float32 [B, d], the trained rows; zeros where there is none.
          num_taken: int64 [B], n, the items behind each row.
          item_index: int64 [B, H], the new items, as of `call`.
        """
        total, taken = self._taken(item_index)
        before = tf.cast(num_taken, tf.float32)[:, tf.newaxis]
        all_taken = before + taken
        new = tf.matmul(tf.math.divide_no_nan(total, tf.sqrt(all_taken)), self.hop_map)
        kept = tf.where(taken > 0, tf.sqrt(tf.math.divide_no_nan(before, all_taken)), 1.0)
        return Queries(kept * rows + new)

    def _taken(self, item_index: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """The sum of the rows of each history, float32 [B, d], and how many different items it has, float32 [B, 1]."""
        ordered = tf.sort(item_index, axis=1)
        # Not tf.pad, which has no GPU kernel for int64; a row of width 0 has nothing before.
        before = tf.concat([tf.fill([size_of(ordered, 0), 1], tf.constant(-1, tf.int64)), ordered], axis=1)[:, :-1]
        counts = tf.cast((ordered >= 0) & tf.not_equal(ordered, before), tf.float32)
        rows = self._items.gather(tf.maximum(ordered, 0))
        total = tf.reduce_sum(rows * counts[..., tf.newaxis], axis=1)
        return total, tf.reduce_sum(counts, axis=1, keepdims=True)
