"""A bipartite graph cut into blocks of nodes: which block a node is in, and the sparse product of two blocks.

Node n of P blocks is row `n // P` of block `n % P`: so popular items are spread over all of them. Everything that goes
from one worker to another is a tuple of integers and bytes (of int32 and float32 arrays), which Beam sends as it is.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import scipy.sparse

from tf_hqgnn.types import Float32Array, Int64Array, IntArray

# A block, its rows that have an edge, where the edges of each begin, the rows at their other ends, and their weights,
# which are empty where all are 1.
EdgeBlock = tuple[int, bytes, bytes, bytes, bytes]


@dataclass(frozen=True)
class Blocks:
    """How a graph is cut.

    Args:
      num_users: U.
      num_items: I.
      num_edges: pairs in the files, repeated ones counted.
      block_rows: rows of a block at most.
      block_edges: edges that meet a block at a time, about.

    Example:
      >>> blocks = Blocks(num_users=10, num_items=3, num_edges=40, block_rows=4, block_edges=5)
      >>> blocks.user_blocks, blocks.item_blocks, [blocks.rows(block) for block in range(4)]
      (3, 1, [4, 3, 3, 3])
    """

    num_users: int
    num_items: int
    num_edges: int
    block_rows: int
    block_edges: int

    @staticmethod
    def choose(num_users: int, num_items: int, num_edges: int, block_rows: int, block_edges: int) -> Blocks:
        """Blocks of `block_rows`, or less where so many nodes would have too many edges between two blocks.

        Example:
          >>> Blocks.choose(1_000, 1_000, num_edges=100_000, block_rows=1_000, block_edges=10_000).block_rows
          250
        """
        while True:
            blocks = Blocks(num_users, num_items, num_edges, block_rows, block_edges)
            if block_rows == 1 or num_edges <= block_edges * blocks.user_blocks * blocks.item_blocks:
                return blocks
            block_rows //= 2

    @property
    def user_blocks(self) -> int:
        """Blocks of users; those of items come after them."""
        return max(1, math.ceil(self.num_users / self.block_rows))

    @property
    def item_blocks(self) -> int:
        """Blocks of items."""
        return max(1, math.ceil(self.num_items / self.block_rows))

    @property
    def num_blocks(self) -> int:
        """Blocks of users and of items."""
        return self.user_blocks + self.item_blocks

    def rows(self, block: int) -> int:
        """How many nodes a block has."""
        total, number, blocks = self._side(block)
        return max(0, (total - number + blocks - 1) // blocks)

    def index(self, block: int) -> Int64Array:
        """int64: the users or items of a block, in the order of its rows."""
        _, number, blocks = self._side(block)
        return number + blocks * np.arange(self.rows(block))

    def is_users(self, block: int) -> bool:
        """Whether it is of users."""
        return block < self.user_blocks

    def parts(self, block: int) -> int:
        """In how many parts the edges of a block meet it, each with whole blocks at the other end."""
        mine, other = self.user_blocks, self.item_blocks
        if not self.is_users(block):
            mine, other = other, mine
        return max(1, min(other, math.ceil(self.num_edges / mine / self.block_edges)))

    def _side(self, block: int) -> tuple[int, int, int]:
        if self.is_users(block):
            return self.num_users, block, self.user_blocks
        return self.num_items, block - self.user_blocks, self.item_blocks


def split(keys: IntArray) -> Iterator[tuple[int, IntArray]]:
    """Every distinct key, with the places where it is.

    Example:
      >>> [(key, places.tolist()) for key, places in split(np.array([5, 3, 5]))]
      [(3, [1]), (5, [0, 2])]
    """
    order = np.argsort(keys, kind="stable")
    starts = np.flatnonzero(np.diff(keys[order], prepend=-1))
    for start, end in zip(starts, np.append(starts[1:], len(keys))):
        yield int(keys[order[start]]), order[start:end]


def edge_block(block: int, rows: Int64Array, others: Int64Array, weight: Float32Array | None = None) -> EdgeBlock:
    """The edges between `rows` of a block and rows of another, int64 [n >= 1], in any order, no pair twice.

    Where they have weights, float32 [n], these are the last part; else that is empty.
    """
    order = np.argsort(rows, kind="stable")
    rows = rows[order]
    starts = np.flatnonzero(np.diff(rows, prepend=-1))
    ends = np.append(starts, len(rows))
    weights = b"" if weight is None else weight[order].astype(np.float32).tobytes()
    return block, _int32(rows[starts]), _int32(ends), _int32(others[order]), weights


def product(edges: EdgeBlock, values: Float32Array) -> tuple[int, bytes, bytes]:
    """The sums of the values at the other ends: block, its rows int32 [m], and float32 [m, d].

    Args:
      edges: between the block that gets the sums and that of `values`.
      values: float32 [rows of the other block, d].

    Example:
      >>> block, rows, sums = product(edge_block(7, np.array([2, 0, 2]), np.array([0, 1, 1])), np.eye(2, dtype="f"))
      >>> block, np.frombuffer(rows, "i4").tolist(), np.frombuffer(sums, "f").reshape(2, 2).tolist()
      (7, [0, 2], [[0.0, 1.0], [1.0, 1.0]])
    """
    block, rows, ends, others, weights = edges
    indptr, indices = np.frombuffer(ends, np.int32), np.frombuffer(others, np.int32)
    entries = np.frombuffer(weights, np.float32) if weights else np.ones(len(indices), np.float32)
    matrix = scipy.sparse.csr_matrix((entries, indices, indptr), (len(indptr) - 1, len(values)), copy=False)
    return block, rows, (matrix @ values).astype(np.float32, copy=False).tobytes()


def _int32(values: IntArray) -> bytes:
    return values.astype(np.int32).tobytes()
