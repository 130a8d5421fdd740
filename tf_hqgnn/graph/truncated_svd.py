"""The first singular vectors of a sparse matrix, on all cores."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import scipy.sparse

from tf_hqgnn.types import Float32Array, Float64Array, FloatArray

# More vectors than are wanted, so that the last of these are found as well (Halko et al. advise 5 to 10).
OVERSAMPLING = 10
# Of what a piece of a product writes: the allocator gives it the same memory again instead of new pages.
PIECE_BYTES = 1 << 22
# Of the rows that a tile reads in any order: as many as stay in the last level of the processor's cache.
TILE_BYTES = 1 << 24
# Below this share of the largest eigenvalue, those of a product of float32 columns are rounding.
_ROUNDING = 1e-6

# The rows that a piece has, and the rows themselves.
_Piece = tuple[slice, scipy.sparse.csr_matrix]


def truncated_svd(
    matrix: scipy.sparse.csr_matrix, rank: int, num_iterations: int, seed: int
) -> tuple[Float32Array, Float32Array, Float32Array]:
    """`matrix ~ P diag(s) Q'` by randomised subspace iteration.

    About 1.6 times as fast on two cores as scikit-learn's `randomized_svd` with as good vectors: the products take all
    cores, and a basis is made orthonormal by the eigenvectors of its Gram matrix where that takes LU, QR and a wide
    SVD. For a matrix too large for the cache (100 million entries) also because the rows that a product reads come tile
    by tile.

    Args:
      matrix: float32 [n, m], without repeated entries.
      rank: k; less come back where the matrix has no more, up to float32's rounding.
      num_iterations: power iterations: each is a product with the matrix and one with its transpose.
      seed: of the random start.

    Returns:
      P float32 [n, k] and Q float32 [m, k] with orthonormal columns, and s float32 [k], descending: (P, s, Q).

    Reference: Halko, Martinsson and Tropp, SIAM Review 2011, algorithm 4.4.

    Example:
      >>> left, strength, right = truncated_svd(scipy.sparse.csr_matrix(np.diag(np.float32([3, 1, 2]))), 2, 8, seed=0)
      >>> strength.round(3).tolist(), np.abs(left[:, 0]).round(3).tolist()
      ([3.0, 2.0], [1.0, 0.0, 0.0])
    """
    if matrix.shape[0] < matrix.shape[1]:
        # The basis is of the longer side, as scikit-learn has it; the shorter side's vectors have one product more. On
        # Gowalla, with two power iterations, validation NDCG@20 is .1211 after 4 epochs instead of .1204.
        right, strength, left = truncated_svd(matrix.T.tocsr(), rank, num_iterations, seed)
        return left, strength, right
    columns = min(rank + OVERSAMPLING, *matrix.shape)
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        products = _Products(matrix, columns, threads)
        basis = np.random.default_rng(seed).standard_normal((matrix.shape[1], columns), np.float32)
        for _ in range(num_iterations):
            basis = _orthonormal(products.transposed(_orthonormal(products.forward(basis))))
        left = _orthonormal(products.forward(basis))
        right = products.transposed(left)  # Q diag(s) of the matrix in this basis, but for a rotation
    eigenvalues, rotation = _eigen(right)
    strength = np.sqrt(eigenvalues[:rank])
    rotation = rotation[:, :rank]
    return left @ rotation.astype(np.float32), strength.astype(np.float32), _scaled(right, rotation, strength)


class _Products:
    """A sparse matrix's products with dense rows, and its transpose's, in pieces shared among threads.

    A piece writes rows of its own, and the tiles of a sum follow each other, so a product's bits don't depend on the
    threads' order.

    Args:
      matrix: float32 [n, m].
      num_columns: of the dense rows.
      threads: to share the pieces among.
    """

    def __init__(self, matrix: scipy.sparse.csr_matrix, num_columns: int, threads: ThreadPoolExecutor) -> None:
        row_bytes = 4 * max(num_columns, 1)
        self._threads = threads
        self._shape = matrix.shape
        piece_rows, tile_rows = PIECE_BYTES // row_bytes, TILE_BYTES // row_bytes
        self._pieces = _pieces(matrix, _shared(matrix.shape[0], piece_rows))
        self._tiles = [
            (rows, _pieces(tile.T.tocsr(), _shared(matrix.shape[1], piece_rows)))
            for rows, tile in _pieces(matrix, tile_rows)
        ]

    def forward(self, dense: Float32Array) -> Float32Array:
        """float32 [m, c] to [n, c]."""
        product = np.empty((self._shape[0], dense.shape[1]), np.float32)

        def write(rows: slice, piece: scipy.sparse.csr_matrix) -> None:
            product[rows] = piece @ dense

        self._share(write, self._pieces)
        return product

    def transposed(self, dense: Float32Array) -> Float32Array:
        """float32 [n, c] to [m, c]."""
        product = np.zeros((self._shape[1], dense.shape[1]), np.float32)
        for read, pieces in self._tiles:
            tile = dense[read]

            def add(rows: slice, piece: scipy.sparse.csr_matrix, tile: Float32Array = tile) -> None:
                product[rows] += piece @ tile

            self._share(add, pieces)
        return product

    def _share(self, work: Callable[[slice, scipy.sparse.csr_matrix], None], pieces: list[_Piece]) -> None:
        for _ in self._threads.map(work, *zip(*pieces)):
            pass


def _shared(num_rows: int, most: int) -> int:
    """Rows of a piece: at most `most`, and few enough for every processor to get several pieces."""
    return max(1, min(most, num_rows // (4 * (os.cpu_count() or 1))))


def _pieces(matrix: scipy.sparse.csr_matrix, size: int) -> list[_Piece]:
    """The matrix's rows in pieces of `size`, which share its memory."""
    pieces = []
    for start in range(0, matrix.shape[0], size):
        indptr = matrix.indptr[start : start + size + 1]
        entries = slice(indptr[0], indptr[-1])
        arrays = matrix.data[entries], matrix.indices[entries], indptr - indptr[0]
        piece = scipy.sparse.csr_matrix(arrays, (len(indptr) - 1, matrix.shape[1]))
        pieces.append((slice(start, start + size), piece))
    return pieces


def _orthonormal(columns: Float32Array) -> Float32Array:
    """An orthonormal basis of the space of float32 columns [n, c]; fewer columns where that has fewer dimensions."""
    eigenvalues, rotation = _eigen(columns)
    return _scaled(columns, rotation, np.sqrt(eigenvalues))


def _eigen(columns: Float32Array) -> tuple[Float64Array, Float64Array]:
    """As `gram_eigen`, of the Gram matrix of float32 columns [n, c]."""
    return gram_eigen((columns.T @ columns).astype(np.float64))


def gram_eigen(gram: Float64Array) -> tuple[Float64Array, Float64Array]:
    """Eigenvalues, descending, and eigenvectors of a Gram matrix of float32 columns, without those that are rounding.

    Args:
      gram: float64 [c, c].

    Example:
      >>> gram_eigen(np.diag([1.0, 4.0, 1e-9]))[0].tolist()
      [4.0, 1.0]
    """
    eigenvalues, vectors = np.linalg.eigh(gram)
    kept = np.flatnonzero(eigenvalues > _ROUNDING * eigenvalues.max(initial=0))[::-1]
    return eigenvalues[kept], vectors[:, kept]


def _scaled(columns: Float32Array, rotation: FloatArray, lengths: FloatArray) -> Float32Array:
    """The rotated columns, divided by their lengths."""
    return columns @ (rotation / lengths).astype(np.float32)
