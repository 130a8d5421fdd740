"""The leaf and the hash that ScaNN would give a row, by the leaves and the codebook of an index that it has trained."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tf_hqgnn.types import Array, Float32Array, Int32Array, IntArray

# Rows whose distances to all leaves are held at once.
_AT_ONCE = 4096
# Rounds after which ScaNN takes a hash as it is.
_MOST_ROUNDS = 10


@dataclass(frozen=True, eq=False)
class LeafCodes:
    """What ScaNN has learnt of a catalogue: the centres of its leaves, and the centres that hashes are made of.

    A row x belongs to the leaf of the nearest centre c. Its hash names, for each block s of its numbers, one of 16
    centres, whose concatenation stands for x - c. With the error r of that, the hash keeps small

        h (r . x / |x|)^2 + (|r|^2 - (r . x / |x|)^2),  h = (d - 1) (T^2 / |x|^2) / (1 - T^2 / |x|^2),

    since an error along x changes the best products most. From the nearest centre of each block, one block after the
    other takes the centre that lowers the sum most, but none that makes the error along x larger.

    Args:
      centres: float32 [L, d], of the leaves.
      tokens: int32 [L], the number of each leaf.
      codebook: a float32 [16, width] for each block; the widths add up to d. Empty where rows aren't hashed.
      threshold: T.

    Reference: Guo et al., Accelerating Large-Scale Inference with Anisotropic Vector Quantization, ICML 2020, theorem
    3.4; the descent is that of the ScaNN package.

    Example:
      >>> codebook = [np.eye(16, 1, dtype=np.float32)] * 2
      >>> learnt = LeafCodes(np.array([[0, 0], [9, 9]], np.float32), np.arange(2, dtype=np.int32), codebook, 0.2)
      >>> rows = np.array([[1, 0], [9, 9.8]], np.float32)
      >>> learnt.leaves(rows).tolist()
      [0, 1]
      >>> learnt.hashes(rows, learnt.leaves(rows)).tolist()
      [[0, 1], [1, 0]]
    """

    centres: Float32Array
    tokens: Int32Array
    codebook: list[Float32Array]
    threshold: float

    @staticmethod
    def parse(partitioner: bytes, codebook: bytes, threshold: float) -> LeafCodes:
        """Read the messages that ScaNN keeps; an empty `codebook` is that of rows that aren't hashed."""
        from scann.partitioning.partitioner_pb2 import SerializedPartitioner
        from scann.proto.centers_pb2 import CentersForAllSubspaces

        root = SerializedPartitioner.FromString(partitioner).kmeans.kmeans_tree.root
        blocks = CentersForAllSubspaces.FromString(codebook).subspace_centers
        return LeafCodes(
            np.array([centre.dimension for centre in root.centers], np.float32),
            np.array([child.leaf_id for child in root.children], np.int32),
            [np.array([one.feature_value_float for one in block.center], np.float32) for block in blocks],
            threshold,
        )

    def leaves(self, rows: Float32Array) -> Int32Array:
        """The numbers of the leaves of `rows` float32 [n, d], int32 [n]."""
        return self.tokens[self._nearest(rows)]

    def _nearest(self, rows: Float32Array) -> IntArray:
        lengths = np.square(self.centres).sum(axis=1) / 2
        parts = [rows[start : start + _AT_ONCE] @ self.centres.T for start in range(0, len(rows), _AT_ONCE)]
        return np.concatenate([np.zeros(0, np.int64), *((part - lengths).argmax(axis=1) for part in parts)])

    def hashes(self, rows: Float32Array, leaves: Int32Array) -> Array:
        """The hashes of `rows` float32 [n, d] in `leaves` int32 [n], uint8 [n, blocks]."""
        place = np.zeros(self.tokens.max() + 1, np.int64)
        place[self.tokens] = np.arange(len(self.tokens))
        left = (rows - self.centres[place[leaves]]).astype(np.float64)
        norms = np.sqrt(np.square(rows.astype(np.float64)).sum(axis=1))
        along = np.divide(rows, norms[:, None], out=np.zeros_like(left), where=norms[:, None] > 0)
        ends = np.cumsum([block.shape[1] for block in self.codebook])
        square, parallel = np.empty((2, len(rows), len(ends), len(self.codebook[0])))
        for number, (block, end) in enumerate(zip(self.codebook, ends)):
            part = slice(end - block.shape[1], end)
            error = left[:, None, part] - block
            square[:, number] = np.square(error).sum(axis=2)
            parallel[:, number] = np.einsum("ncw,nw->nc", error, along[:, part])
        return self._descend(square, parallel, self._parallel_cost(norms))

    def _parallel_cost(self, norms: Array) -> Array:
        """What an error along each row costs, one across being 1."""
        share = np.divide(self.threshold**2, norms**2, out=np.full(len(norms), np.inf), where=norms > 0)
        with np.errstate(divide="ignore", invalid="ignore"):
            cost = (self.centres.shape[1] - 1) * share / (1 - share)
        # A row without a direction, and one dimension, have no such errors.
        return np.where(np.isfinite(cost), cost, 1.0)

    @staticmethod
    def _descend(square: Array, parallel: Array, cost: Array) -> Array:
        """The choice of a centre for each block that the descent ends with, uint8 [n, blocks].

        Args:
          square: float64 [n, blocks, centres], the squared error of each choice.
          parallel: likewise, the error along the row.
          cost: float64 [n], of the latter.
        """
        every = np.arange(len(square))
        chosen = square.argmin(axis=2)
        order = np.argsort(-square.min(axis=2), axis=1, kind="stable")
        total = np.take_along_axis(parallel, chosen[:, :, None], axis=2)[:, :, 0].sum(axis=1)
        for _ in range(_MOST_ROUNDS):
            before = chosen.copy()
            for block in order.T:
                old = chosen[every, block]
                sums = total[:, None] - parallel[every, block, old][:, None] + parallel[every, block]
                longer = np.square(sums) - np.square(total)[:, None]
                across = square[every, block] - square[every, block, old][:, None] - longer
                change = np.where(longer > 0, np.inf, cost[:, None] * longer + across)
                new = change.argmin(axis=1)
                new = np.where(change[every, new] < 0, new, old)
                total, chosen[every, block] = sums[every, new], new
            if (before == chosen).all():
                break
        codes: Array = chosen.astype(np.uint8)
        return codes
