"""GF-CF and popularity in NumPy and SciPy: `python -m benchmarks.peers.gfcf JOB`.

With R [U, I] the training matrix, D_U and D_I the degrees, R~ = D_U^-1/2 R D_I^-1/2 and V its right singular vectors of
the `rank` largest singular values,

    scores = R R~^T R~ + weight * R D_I^-1/2 V V^T D_I^1/2

a linear filter, and an ideal low-pass filter over the item graph.

Reference:
  Shen et al., "How Powerful is Graph Convolution for Recommendation?", CIKM 2021, as its released code computes it
  (rank 256, weight .3 on Gowalla).
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import scipy.sparse
from scipy.sparse.linalg import svds

from benchmarks.peers.job import Job, Split, matrix_of, versions_of


class GFCF:
    """The fitted filter.

    Args:
      interactions: CSR float32 [U, I] of ones.
      rank: of the low-pass filter; fewer where the matrix is smaller.
      weight: of the low-pass filter.
      seed: of the vector that the solver starts from.
    """

    def __init__(self, interactions: scipy.sparse.csr_matrix, rank: int, weight: float, seed: int) -> None:
        # Users and items without an interaction keep rows and columns of zeros.
        user_root = np.sqrt(np.maximum(interactions.sum(axis=1).A1, 1)).astype(np.float32)
        self._item_root = np.sqrt(np.maximum(interactions.sum(axis=0).A1, 1)).astype(np.float32)
        self._interactions, self._weight = interactions, weight
        normalized = scipy.sparse.diags(1 / user_root) @ interactions @ scipy.sparse.diags(1 / self._item_root)
        self._normalized = normalized.tocsr().astype(np.float32)
        rank = min(rank, min(interactions.shape) - 1)
        start = np.random.default_rng(seed).normal(size=min(interactions.shape)).astype(np.float32)
        _, _, rows = svds(self._normalized, k=rank, v0=start)
        self._vectors = np.ascontiguousarray(rows.T, np.float32)

    def scores(self, users: np.ndarray) -> np.ndarray:
        """float32 [n, I] for the rows of n users."""
        of_users = self._interactions[users]
        linear = (of_users @ self._normalized.T @ self._normalized).toarray()
        low_pass = (of_users.multiply(1 / self._item_root).tocsr() @ self._vectors) @ self._vectors.T
        return linear + self._weight * low_pass * self._item_root

    @property
    def bytes_per_item(self) -> float:
        """Of the vectors, the roots and the sparse matrix of the linear filter."""
        arrays = (self._vectors, self._item_root, self._normalized.data, self._normalized.indices)
        return sum(array.nbytes for array in arrays) / len(self._vectors)


def main() -> None:
    job = Job.load(Path(sys.argv[1]))
    split = Split.load(job.split)
    if job.model == "popularity":
        with job.measure():
            degree = np.bincount(split.parts["train"][:, 1], minlength=split.num_items)
        job.save_rows(np.ones((split.num_users, 1)), degree[:, None])
        job.finish(item_bytes=4, versions=versions_of("numpy"))
        return
    with job.measure():
        model = GFCF(matrix_of(split), job.settings["rank"], job.settings["weight"], job.seed)
    job.save_lists(split, model.scores)
    job.finish(item_bytes=model.bytes_per_item, versions=versions_of("numpy", "scipy"))


if __name__ == "__main__":
    main()
