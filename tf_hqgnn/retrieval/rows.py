"""Tables of embeddings as they are served: the interface of all, and that of float32."""

from __future__ import annotations

import abc

import numpy as np
import tensorflow as tf

from tf_hqgnn.retrieval.blocks import BLOCK_SIZE, BY_BLOCKS_FROM, best_of, over_blocks
from tf_hqgnn.retrieval.queries import Queries
from tf_hqgnn.retrieval.sizes import size_of
from tf_hqgnn.retrieval.variables import gather, read, rows_from
from tf_hqgnn.types import Array, Float32Array

# A part of a table that is multiplied at once: its scores stay in a cache.
_ROWS_AT_ONCE = 65_536


class RowTable(tf.Module, abc.ABC):
    """N rows of d numbers, held in some precision, that answer products with queries.

    Everything an index needs of its rows is here, so that an index works over any precision. All methods build graph
    operations that have GPU kernels.

    Attributes:
      num_rows: N.
      embedding_dim: d.
      num_bits: of a number of a row's code; None for float32.
      bytes_per_row: what the variables of the table take, divided by N.
      by_blocks: whether `best_of_blocks` is there and worth its while.
    """

    num_rows: int
    embedding_dim: int
    num_bits: int | None = None
    bytes_per_row: float
    by_blocks: bool

    @abc.abstractmethod
    def gather(self, index: tf.Tensor) -> tf.Tensor:
        """The rows at `index` (any shape, in range), float32 [..., d]."""

    def queries(self, index: tf.Tensor) -> Queries:
        """The rows at `index` [B] as queries to a table of the same d, in every form that this table has of them."""
        return Queries(self.gather(index))

    @abc.abstractmethod
    def score_all(self, queries: Queries, cosine: bool = False) -> tf.Tensor:
        """Products of B queries with every row, float32 [B, N]; by `cosine` with rows of length one."""

    @abc.abstractmethod
    def score_at(self, queries: Queries, index: tf.Tensor, cosine: bool = False) -> tf.Tensor:
        """Products of B queries with the rows at `index` [B, F], float32 [B, F]."""

    @abc.abstractmethod
    def best_of_blocks(self, queries: Queries, cosine: bool, allowed: tf.Tensor | None, jit_compile: bool) -> tf.Tensor:
        """The highest score of every 64 consecutive rows, without a matrix of all scores.

        Args:
          queries: B of them.
          cosine: as of `score_all`.
          allowed: bool [B or 1, N], False for rows that don't count; None if all do.
          jit_compile: whether XLA fuses the passes, where there is something to fuse.

        Returns:
          float32 [B, N // 64]; -inf for a block without an allowed row. The N % 64 rows at the end belong to none.
        """

    def likely_parts(
        self, queries: Queries, cosine: bool, allowed: tf.Tensor | None, depth: tf.Tensor, jit_compile: bool = False
    ) -> tuple[tf.Tensor, tf.Tensor] | None:
        """Parts of 8 rows that hold the best ones, by a quicker way than `best_of_blocks` that may not succeed.

        Args:
          queries: B of them.
          cosine: as of `score_all`.
          allowed: as of `best_of_blocks`.
          depth: int32 scalar, at most the number of blocks.
          jit_compile: as of `best_of_blocks`, which may then be the quicker way.

        Returns:
          `(parts, is_sure)`, int32 [B, at least depth] and bool []: if it is sure, no other part's best score reaches
          those of the `depth` best; otherwise the parts mean nothing. None if the table has no such way.
        """
        del queries, cosine, allowed, depth, jit_compile
        return None

    @abc.abstractmethod
    def to_numpy(self) -> Float32Array:
        """All rows as float32 [N, d]: what an index that wants full precision is built over."""


class Float32Rows(RowTable):
    """Rows as they are.

    Args:
      values: float32 [N, d]; a tensor is held as it is, not as a variable: what is compiled with it takes it as an
        argument.
      by_blocks: see `RowTable`; by default where there are many.

    Example:
      >>> rows = Float32Rows(np.array([[3.0, 4.0], [0.0, 1.0]], np.float32))
      >>> query = Queries(tf.constant([[1.0, 0.0]]))
      >>> rows.score_all(query).numpy().tolist()
      [[3.0, 0.0]]
      >>> np.round(rows.score_all(query, cosine=True).numpy(), 6).tolist()
      [[0.6000000238418579, 0.0]]
    """

    def __init__(self, values: Float32Array | tf.Tensor, by_blocks: bool | None = None) -> None:
        super().__init__(name="rows")
        is_tensor = isinstance(values, tf.Tensor)
        values = values if is_tensor else np.asarray(values, np.float32)
        self.num_rows, self.embedding_dim = values.shape
        self.by_blocks = self.num_rows >= BY_BLOCKS_FROM if by_blocks is None else by_blocks
        self.bytes_per_row = 4 * self.embedding_dim + 4
        if is_tensor:
            self.values = values
            self._inverse_norm = tf.math.divide_no_nan(1.0, tf.norm(values, axis=1))
        else:
            self.values = tf.Variable(values, trainable=False, name="values")
            norms = np.linalg.norm(values, axis=1)
            self._inverse_norm = tf.Variable(_inverse(norms), trainable=False, name="inverse_norm")

    def gather(self, index: tf.Tensor) -> tf.Tensor:
        """See `RowTable`."""
        return gather(self.values, index)

    def score_all(self, queries: Queries, cosine: bool = False) -> tf.Tensor:
        """See `RowTable`."""
        scores = tf.matmul(queries.rows, read(self.values), transpose_b=True)
        return scores * read(self._inverse_norm) if cosine else scores

    def best_of_blocks(self, queries: Queries, cosine: bool, allowed: tf.Tensor | None, jit_compile: bool) -> tf.Tensor:
        """See `RowTable`; a matrix product a part, which XLA wouldn't make faster."""
        del jit_compile

        def best(start: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
            first, count = start * BLOCK_SIZE, size * BLOCK_SIZE
            scores = tf.matmul(queries.rows, rows_from(self.values, first, count), transpose_b=True)
            scores = scores * rows_from(self._inverse_norm, first, count) if cosine else scores
            if allowed is None:
                return best_of(scores, None)
            return best_of(scores, tf.slice(allowed, [0, first], [size_of(allowed, 0), count]))

        batch = size_of(queries.rows, 0)
        return over_blocks(best, batch, self.num_rows // BLOCK_SIZE, tf.constant(_ROWS_AT_ONCE // BLOCK_SIZE))

    def score_at(self, queries: Queries, index: tf.Tensor, cosine: bool = False) -> tf.Tensor:
        """See `RowTable`."""
        scores = _inner(self.gather(index), queries.rows)
        return scores * gather(self._inverse_norm, index) if cosine else scores

    def to_numpy(self) -> Float32Array:
        """See `RowTable`."""
        rows: Float32Array = read(self.values).numpy()
        return rows


def _inner(rows: tf.Tensor, queries: tf.Tensor) -> tf.Tensor:
    """Products of rows [B, F, d] with queries [B, d]; equal rows get equal products, wherever they stand.

    A matrix product sums the columns at the edge of a block in another order, and ties would break at random.
    """
    return tf.reduce_sum(rows * queries[:, tf.newaxis], axis=-1)


def _inverse(values: Array) -> Array:
    """1 / values, and 0 where a value is 0: a row of zeros then has the cosine 0 with everything."""
    inverse = np.zeros(values.shape, np.float32)
    np.divide(1, values, out=inverse, where=values > 0)
    return inverse
