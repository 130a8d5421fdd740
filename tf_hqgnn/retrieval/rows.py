"""Tables of embeddings as they are served: float32, or 8-bit codes with a scale per row."""

from __future__ import annotations

import abc
from typing import Literal

import numpy as np
import tensorflow as tf

_LARGEST_CODE = 127


class RowTable(tf.Module, abc.ABC):
    """N rows of d numbers, held in some precision, that answer products with queries.

    Everything an index needs of its rows is here, so that an index works over any precision. All methods build graph
    operations that have GPU kernels.

    Attributes:
      num_rows: N.
      embedding_dim: d.
      bytes_per_row: what a row takes in memory, its share of the vectors beside the codes included.
    """

    num_rows: int
    embedding_dim: int
    bytes_per_row: int

    @abc.abstractmethod
    def gather(self, index: tf.Tensor) -> tf.Tensor:
        """The rows at `index` (any shape, in range), float32 [..., d]."""

    @abc.abstractmethod
    def score_all(self, queries: tf.Tensor, cosine: bool = False) -> tf.Tensor:
        """Products of `queries` [B, d] with every row, float32 [B, N]; by `cosine` with rows of length one."""

    @abc.abstractmethod
    def score_at(self, queries: tf.Tensor, index: tf.Tensor, cosine: bool = False) -> tf.Tensor:
        """Products of queries [B, d] with the rows at `index` [B, F], float32 [B, F]."""

    @abc.abstractmethod
    def to_numpy(self) -> np.ndarray:
        """All rows as float32 [N, d]: what an index that wants full precision is built over."""


class Float32Rows(RowTable):
    """Rows as they are.

    Args:
      values: float32 [N, d].

    Example:
      >>> rows = Float32Rows(np.array([[3.0, 4.0], [0.0, 1.0]], np.float32))
      >>> rows.score_all(tf.constant([[1.0, 0.0]])).numpy().tolist()
      [[3.0, 0.0]]
      >>> np.round(rows.score_all(tf.constant([[1.0, 0.0]]), cosine=True).numpy(), 6).tolist()
      [[0.6000000238418579, 0.0]]
    """

    def __init__(self, values: np.ndarray) -> None:
        super().__init__(name="rows")
        values = np.asarray(values, np.float32)
        self.num_rows, self.embedding_dim = values.shape
        self.bytes_per_row = 4 * self.embedding_dim + 4
        self._values = tf.Variable(values, trainable=False, name="values")
        self._inverse_norm = tf.Variable(_inverse(np.linalg.norm(values, axis=1)), trainable=False, name="inverse_norm")

    def gather(self, index: tf.Tensor) -> tf.Tensor:
        """See `RowTable`."""
        return tf.gather(self._values, index)

    def score_all(self, queries: tf.Tensor, cosine: bool = False) -> tf.Tensor:
        """See `RowTable`."""
        scores = tf.matmul(queries, self._values, transpose_b=True)
        return scores * self._inverse_norm if cosine else scores

    def score_at(self, queries: tf.Tensor, index: tf.Tensor, cosine: bool = False) -> tf.Tensor:
        """See `RowTable`."""
        scores = _inner(self.gather(index), queries)
        return scores * tf.gather(self._inverse_norm, index) if cosine else scores

    def to_numpy(self) -> np.ndarray:
        """See `RowTable`."""
        return self._values.numpy()


class Int8Rows(RowTable):
    """Symmetric 8-bit codes c with a scale s per row: x ~ s c, s = max|x| / 127, c = round(x / s).

    The error of an element is at most s / 2, so that of a product with a query q at most |q|_1 s / 2. The scale is the
    row's own: the popularity of an item lives in the length of its row, which a shared range would destroy. The float
    rows are never stored; a product dequantizes its result, not the table.

    Args:
      values: float32 [N, d].

    Example:
      >>> rows = Int8Rows(np.array([[1.0, -0.5], [0.0, 0.0]], np.float32))
      >>> np.round(rows.to_numpy(), 3).tolist(), rows.bytes_per_row
      ([[1.0, -0.5040000081062317], [0.0, 0.0]], 10)
    """

    def __init__(self, values: np.ndarray) -> None:
        super().__init__(name="rows")
        values = np.asarray(values, np.float32)
        self.num_rows, self.embedding_dim = values.shape
        self.bytes_per_row = self.embedding_dim + 8
        scale = np.abs(values).max(axis=1) / np.float32(_LARGEST_CODE)
        steps = np.divide(values, scale[:, None], out=np.zeros_like(values), where=scale[:, None] > 0)
        codes = np.rint(steps).clip(-_LARGEST_CODE, _LARGEST_CODE).astype(np.int8)
        self._codes = tf.Variable(codes, trainable=False, name="codes")
        self._scale = tf.Variable(scale, trainable=False, name="scale")
        # Of the codes, not of the values: a cosine needs no scale at all.
        norm = np.sqrt(np.einsum("nd,nd->n", codes, codes, dtype=np.float32))
        self._inverse_norm = tf.Variable(_inverse(norm), trainable=False, name="inverse_norm")

    def gather(self, index: tf.Tensor) -> tf.Tensor:
        """See `RowTable`."""
        return self._codes_at(index) * tf.gather(self._scale, index)[..., tf.newaxis]

    def score_all(self, queries: tf.Tensor, cosine: bool = False) -> tf.Tensor:
        """See `RowTable`."""
        products = tf.matmul(queries, tf.cast(self._codes, tf.float32), transpose_b=True)
        return products * (self._inverse_norm if cosine else self._scale)

    def score_at(self, queries: tf.Tensor, index: tf.Tensor, cosine: bool = False) -> tf.Tensor:
        """See `RowTable`."""
        products = _inner(self._codes_at(index), queries)
        return products * tf.gather(self._inverse_norm if cosine else self._scale, index)

    def to_numpy(self) -> np.ndarray:
        """See `RowTable`."""
        return self._codes.numpy().astype(np.float32) * self._scale.numpy()[:, None]

    def _codes_at(self, index: tf.Tensor) -> tf.Tensor:
        return tf.cast(tf.gather(self._codes, index), tf.float32)


def make_rows(values: np.ndarray, precision: Literal["float32", "int8"]) -> RowTable:
    """A table of `values` (float32 [N, d]) in the wanted precision.

    Raises:
      ValueError: `precision` isn't known.
    """
    if precision == "float32":
        return Float32Rows(values)
    if precision == "int8":
        return Int8Rows(values)
    raise ValueError(f"rows must be float32 or int8, got {precision!r}")


def _inner(rows: tf.Tensor, queries: tf.Tensor) -> tf.Tensor:
    """Products of rows [B, F, d] with queries [B, d]; equal rows get equal products, wherever they stand.

    A matrix product sums the columns at the edge of a block in another order, and ties would break at random.
    """
    return tf.reduce_sum(rows * queries[:, tf.newaxis], axis=-1)


def _inverse(values: np.ndarray) -> np.ndarray:
    """1 / values, and 0 where a value is 0: a row of zeros then has the cosine 0 with everything."""
    inverse = np.zeros(values.shape, np.float32)
    np.divide(1, values, out=inverse, where=values > 0)
    return inverse
