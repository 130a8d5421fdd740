"""The sparse product A h, the one function with which every layer walks the graph."""

from __future__ import annotations

from dataclasses import dataclass

import tensorflow as tf

# Not in TensorFlow's public names; tf.raw_ops has the op, but only this class can be captured by a tf.function.
from tensorflow.python.ops.linalg.sparse.sparse_csr_matrix_ops import CSRSparseMatrix, matmul

# Entries of A that are summed one after the other.
_GROUP = 256


class NormalizedAdjacency:
    """A = D^-p [[0, R], [R^T, 0]] D^-p over users (first) and items, held as TensorFlow's CSR matrix.

    R is 1 where a user interacted with an item, D the diagonal of degrees, p the exponent. A node without an edge has
    a row of zeros.

    Of the ways in `benchmarks/sparse_product.py`, TensorFlow's CSR product shares the fastest place on two cores with
    `tf.sparse.sparse_dense_matmul`, which runs on one core only and holds 40 bytes an edge against 16. It has kernels
    for CPU and GPU, none for XLA.

    A tf.function makes the matrix anew from its entries each time it runs, which takes less than one product and holds
    another 40 bytes an edge: a SavedModel can hold the entries, as constants, and can't hold the matrix.
    `as_constant()` avoids both for functions that are never saved, such as a training step.

    Args:
      matrix: [num_nodes, num_nodes], float32 or float64.
      norm_bound: A proven upper bound of the spectral norm |A|_2; 1 for exponents from 1/2 on.
      entries: What `matrix` was made of, if that was while a TensorFlow graph was built; None for a matrix of values.

    Raises:
      ValueError: `norm_bound` is negative or not finite.

    Example:
      >>> import numpy as np
      >>> from tf_hqgnn.graph.interaction_graph import InteractionGraph
      >>> from tf_hqgnn.types import Interactions
      >>> pairs = Interactions(np.array([0, 0]), np.array([0, 1]))
      >>> adjacency = InteractionGraph.from_interactions(pairs, num_users=1, num_items=2).normalized_adjacency()
      >>> sparse_product(adjacency, tf.constant([[1.0], [0.0], [0.0]])).numpy().round(3).ravel().tolist()
      [0.0, 0.7070000171661377, 0.7070000171661377]
    """

    def __init__(
        self, matrix: CSRSparseMatrix, norm_bound: float = 1.0, entries: tf.SparseTensor | None = None
    ) -> None:
        if not 0 <= norm_bound < float("inf"):
            raise ValueError(f"norm_bound must be a finite number from 0 on, got {norm_bound}")
        self.matrix = matrix
        self.norm_bound = norm_bound
        self._entries = entries
        self._is_constant = False

    @property
    def num_nodes(self) -> int | None:
        """Users and items together; None if that isn't known yet while a TensorFlow graph is built."""
        size: int | None = self.matrix.shape[0]
        return size

    @property
    def dtype(self) -> tf.DType:
        """Of the values."""
        return self.matrix.dtype

    def multiply(self, h: tf.Tensor) -> tf.Tensor:
        """A h, without a gradient of its own."""
        return matmul(self.here().matrix, h)

    def as_constant(self) -> NormalizedAdjacency:
        """The same matrix, which a tf.function captures as it is; such a function can't be saved."""
        constant = NormalizedAdjacency(self.matrix, self.norm_bound)
        constant._is_constant = True
        return constant

    def here(self) -> NormalizedAdjacency:
        """The same matrix as a part of the function that is being traced: made once, it serves several products.

        The gradient of a product is traced apart when a model is saved, and makes the matrix for itself.
        """
        if self._is_constant or tf.executing_eagerly():
            return self
        if self._entries is None:
            with tf.init_scope():
                self._entries = self.to_sparse_tensor()
        elif self._graph() is tf.compat.v1.get_default_graph():
            return self
        return NormalizedAdjacency.from_sparse_tensor(self._entries, self.norm_bound)

    def _graph(self) -> tf.Graph | None:
        """The TensorFlow graph that the matrix is a part of; None for a matrix of values."""
        return getattr(self.matrix._matrix, "graph", None) if self._entries is not None else None

    @staticmethod
    def from_sparse_tensor(sparse: tf.SparseTensor, norm_bound: float = 1.0) -> NormalizedAdjacency:
        """Wraps a symmetric matrix whose indices are in row-major order (`tf.sparse.reorder` sorts them).

        Symmetry and `norm_bound` are the caller's promise: the gradient and the bound of the exact solver rest on them.

        Raises:
          ValueError: The matrix isn't square, or its values aren't float32 or float64.
        """
        shape = sparse.shape
        if shape.rank != 2 or not shape[0:1].is_compatible_with(shape[1:2]):
            raise ValueError(f"the adjacency must be a square matrix, got shape {shape}")
        if sparse.dtype not in (tf.float32, tf.float64):
            raise ValueError(f"the adjacency must hold float32 or float64, got {sparse.dtype.name}")
        entries = None if tf.executing_eagerly() else sparse
        return NormalizedAdjacency(CSRSparseMatrix(sparse), norm_bound, entries)

    def to_sparse_tensor(self) -> tf.SparseTensor:
        """The same matrix as a `tf.SparseTensor`, [num_nodes, num_nodes], in row-major order."""
        return self.matrix.to_sparse_tensor()


@dataclass(frozen=True, eq=False)
class EdgeAdjacency:
    """The same A as a list of its entries, multiplied by segment sums: for programs that XLA compiles.

    XLA has no kernel for TensorFlow's CSR product; a gather and a sum over segments it can fuse. On a CPU outside of
    XLA `NormalizedAdjacency` is seven times as fast.

    Entries are summed in groups of at most `_GROUP` of one row, then the groups of a row: a float32 sum of 300,000
    numbers, one after the other, can be off by a thousandth.

    Args:
      rows: int32 [m], the node that each entry of A sums into, in ascending order.
      columns: int32 [m], the node that it takes.
      factor: [n], degree^-p of each node, 0 without an edge. Entries of A are `factor[row] * factor[column]`, so that
        none has to be stored.
      norm_bound: as of `NormalizedAdjacency`.
      entries_at_once: how many rows of h are gathered before they are summed, which is what bounds the memory.

    Example:
      >>> factor = tf.constant([2.0**-0.5, 1.0, 1.0])
      >>> adjacency = EdgeAdjacency(tf.constant([0, 0, 1, 2]), tf.constant([1, 2, 0, 0]), factor)
      >>> sparse_product(adjacency, tf.constant([[1.0], [0.0], [0.0]])).numpy().round(3).ravel().tolist()
      [0.0, 0.7070000171661377, 0.7070000171661377]
    """

    rows: tf.Tensor
    columns: tf.Tensor
    factor: tf.Tensor
    norm_bound: float = 1.0
    entries_at_once: int = 2**22

    @property
    def num_nodes(self) -> int | None:
        """As of `NormalizedAdjacency`."""
        size: int | None = self.factor.shape[0]
        return size

    @property
    def dtype(self) -> tf.DType:
        """As of `NormalizedAdjacency`."""
        return self.factor.dtype

    def multiply(self, h: tf.Tensor) -> tf.Tensor:
        """A h, without a gradient of its own."""
        factor = self.factor[:, tf.newaxis]
        scaled, count = h * factor, self.entries_at_once
        num_entries = tf.size(self.rows) if self.rows.shape[0] is None else self.rows.shape[0]
        num_parts = num_entries // count
        num_groups = tf.shape(scaled)[0] + num_entries // _GROUP + 1

        def add(start: tf.Tensor, size: tf.Tensor, sums: tf.Tensor, owners: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            rows, columns = (tf.slice(values, [start], [size]) for values in (self.rows, self.columns))
            # Rows ascend: this number grows with the row and with every `_GROUP`th entry, and is never the same again.
            groups = (rows + (start + tf.range(size)) // _GROUP)[:, tf.newaxis]
            sums = tf.tensor_scatter_nd_add(sums, groups, tf.gather(scaled, columns))
            return sums, tf.tensor_scatter_nd_update(owners, groups, rows)

        def part(number: tf.Tensor, sums: tf.Tensor, owners: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
            return number + 1, *add(number * count, count, sums, owners)

        sums = tf.zeros([num_groups, tf.shape(scaled)[1]], scaled.dtype)
        owners = tf.zeros([num_groups], tf.int32)
        if self.rows.shape[0] is None or num_parts > 0:
            start = (tf.constant(0), sums, owners)
            _, sums, owners = tf.while_loop(lambda number, *_: number < num_parts, part, start, parallel_iterations=1)
        done = num_parts * count
        sums, owners = add(done, num_entries - done, sums, owners)
        return tf.tensor_scatter_nd_add(tf.zeros_like(scaled), owners[:, tf.newaxis], sums) * factor


# Whatever holds an A that `sparse_product` can multiply by.
Adjacency = NormalizedAdjacency | EdgeAdjacency


def sparse_product(adjacency: Adjacency, h: tf.Tensor) -> tf.Tensor:
    """A h. Its gradient is A g, since A is symmetric, and can be differentiated again.

    TensorFlow's own gradient of this product also makes the one for every edge of A, which nothing here asks for.

    Args:
      adjacency: A, over n nodes.
      h: [n, d] of the adjacency's dtype.

    Returns:
      [n, d].

    Raises:
      ValueError: `h` has another dtype or number of rows than A.
    """
    h = tf.convert_to_tensor(h)
    if h.dtype != adjacency.dtype:
        raise ValueError(f"h must be {adjacency.dtype.name} as the adjacency is, got {h.dtype.name}; tf.cast it")
    if not h.shape.is_compatible_with([adjacency.num_nodes, None]):
        raise ValueError(f"h must have shape [{adjacency.num_nodes}, d], users first then items, got {h.shape}")

    @tf.custom_gradient
    def product(x: tf.Tensor) -> tuple[tf.Tensor, object]:
        y = adjacency.multiply(x)
        y.set_shape(x.shape)
        return y, lambda gradient: sparse_product(adjacency, gradient)

    return product(h)
