"""EASE in columns: the closed form that scores an item by its weights with the items that a user took."""

from __future__ import annotations

import numpy as np
import scipy.linalg
import scipy.sparse

from tf_hqgnn.graph.csr import CSR
from tf_hqgnn.graph.truncated_svd import OVERSAMPLING
from tf_hqgnn.types import Float32Array

# With more, a matrix of all pairs of items has more than 3.2 GB in float64, and there are two.
MOST_ITEMS = 20_000
# Of the subspace of the first singular vectors.
_ITERATIONS = 4


def ease_rows(
    seen: CSR, num_items: int, columns: int, regularization: float, seed: int
) -> tuple[Float32Array, Float32Array]:
    """Rows whose dot products are the best approximation of EASE's scores by so many columns.

    Takes 16 bytes and about I floating point operations for each pair of items.

    Args:
      seen: what each of U users took.
      num_items: I.
      columns: k; less come back where there are fewer users or items.
      regularization: lambda, what is added to the diagonal of the Gram matrix.
      seed: of the random start of the singular vectors.

    Returns:
      float32 [U, k] and [I, k]: singular vectors of X B, the left ones times the singular values.

    Reference: Steck, WWW 2019 (arXiv 1905.03375), equation 8: B = I - P diag(1 / diag P), P = (X'X + lambda I)^-1.

    Example:
      >>> taken = np.array([0, 2, 4, 6]), np.array([0, 1, 0, 1, 1, 2])  # items 0 and 1 by two users, 1 and 2 by one
      >>> users, items = ease_rows(taken, num_items=3, columns=3, regularization=1.0, seed=0)
      >>> (users @ items.T)[2].astype(float).round(1).tolist()  # 2/7, 3/6 and 3/8
      [0.3, 0.5, 0.4]
    """
    indptr, indices = seen
    num_users = len(indptr) - 1
    taken = scipy.sparse.csr_matrix((np.ones(len(indices), np.float32), indices, indptr), (num_users, num_items))
    gram = (taken.T @ taken).toarray().astype(np.float64)
    gram[np.diag_indices(num_items)] += regularization
    factor = scipy.linalg.cho_factor(gram, overwrite_a=True, check_finite=False)
    inverse = scipy.linalg.cho_solve(factor, np.eye(num_items), overwrite_b=True, check_finite=False)
    weights = (inverse / -np.diag(inverse)).astype(np.float32)
    np.fill_diagonal(weights, 0.0)
    most = min(columns + OVERSAMPLING, num_users, num_items)
    basis = np.random.default_rng(seed).standard_normal((num_items, most), np.float32)
    for _ in range(_ITERATIONS):
        left = np.linalg.qr(taken @ (weights @ basis))[0]
        basis = np.linalg.qr(weights.T @ (taken.T @ left))[0]
    left, strength, right = np.linalg.svd(taken @ (weights @ basis), full_matrices=False)
    kept = slice(min(columns, most))
    users = left[:, kept] * strength[kept]
    return users.astype(np.float32), np.ascontiguousarray(basis @ right.T[:, kept], np.float32)
