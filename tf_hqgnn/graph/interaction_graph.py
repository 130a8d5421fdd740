"""The bipartite graph of who interacted with what, as one immutable CSR."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary, WeakValueDictionary

import numpy as np
import scipy.sparse
import tensorflow as tf

from tf_hqgnn.files.durable import staged_file
from tf_hqgnn.files.reading import read_arrays
from tf_hqgnn.graph.degrees import degree_factor
from tf_hqgnn.graph.propagation import NormalizedAdjacency
from tf_hqgnn.types import (
    Array,
    Float32Array,
    Float64Array,
    InputError,
    Int32Array,
    Int64Array,
    IntArray,
    Interactions,
    concatenate,
)

# Filled into the matrix together: bounds the temporary arrays.
EDGES_AT_ONCE = 1 << 20
_ALIGNMENT = 64
_CURE = "train again, or name another graph"
_ARRAYS = ("num_users", "num_items", "num_repeated", "indptr", "indices")
_DISLIKED = "disliked"


@dataclass(frozen=True, eq=False)
class InteractionGraph:
    """Users, items and the distinct pairs between them; the arrays can't be written to.

    Memory: 4 bytes an edge, 12 a user and 4 an item. `normalized_adjacency` makes a second structure of 16 bytes an
    edge and 4 a node (float32), and needs another 40 bytes an edge and up to 60 MB while it is built. For 100 million
    edges of 2 million users and 500,000 items that is 0.4 GB, 1.6 GB and 4 GB.

    Args:
      num_users: Rows of users, those without an edge included.
      num_items: Rows of items, those without an interaction included.
      indptr: int64 [num_users + 1]; the items of user u are `indices[indptr[u]:indptr[u + 1]]`.
      indices: int32 [num_edges], strictly ascending within a user.
      num_repeated: How many repeated pairs were dropped when the graph was made.
      weight: float32 [num_edges], above 0, of mean 1: how much each edge counts; None where all count the same.
      disliked: Distinct pairs that are no edges, but dislikes, which nothing walks along; None where there is none.

    Attributes:
      user_degree: int32 [num_users], the items of each user.
      item_degree: int32 [num_items], the users of each item.
      user_strength: float64 [num_users], the weighted degree: the sum of the weights of each user's edges.
      item_strength: float64 [num_items], that of each item, which is its popularity.

    Raises:
      ValueError: The arrays aren't such a CSR.

    Example:
      >>> pairs = Interactions(np.array([0, 0, 1, 0]), np.array([2, 0, 2, 2]))
      >>> graph = InteractionGraph.from_interactions(pairs, num_users=2, num_items=3)
      >>> graph.num_edges, graph.num_repeated, graph.indices.tolist(), graph.item_degree.tolist()
      (3, 1, [0, 2, 2], [1, 0, 2])
    """

    num_users: int
    num_items: int
    indptr: Int64Array
    indices: Int32Array
    num_repeated: int = 0
    weight: Float32Array | None = None
    disliked: Interactions | None = None
    user_degree: Int32Array = field(init=False, repr=False)
    item_degree: Int32Array = field(init=False, repr=False)
    user_strength: Float64Array = field(init=False, repr=False)
    item_strength: Float64Array = field(init=False, repr=False)

    def __post_init__(self) -> None:
        _check_sizes(self.num_users, self.num_items)
        indptr, indices = np.array(self.indptr, np.int64), np.array(self.indices, np.int32)
        if indptr.shape != (self.num_users + 1,) or indices.ndim != 1:
            raise ValueError(
                f"indptr must have num_users + 1 = {self.num_users + 1} entries and indices one axis, got shapes "
                f"{indptr.shape} and {indices.shape}"
            )
        if indptr[0] != 0 or indptr[-1] != len(indices) or np.any(np.diff(indptr) < 0):
            raise ValueError(f"indptr must ascend from 0 to the number of edges, {len(indices)}")
        _check_range("item_index", indices, self.num_items, "num_items")
        descends = indices[1:] <= indices[:-1]
        first_of_row = indptr[1:-1]
        descends[first_of_row[(first_of_row > 0) & (first_of_row < len(indices))] - 1] = False
        if descends.any():
            raise ValueError("indices must ascend strictly within each user; from_interactions sorts them")
        user_degree = np.diff(indptr).astype(np.int32)
        item_degree = np.bincount(indices, minlength=self.num_items).astype(np.int32)
        arrays: dict[str, Array] = {
            "indptr": indptr,
            "indices": indices,
            "user_degree": user_degree,
            "item_degree": item_degree,
        }
        if self.weight is None:
            arrays |= {"user_strength": user_degree.astype(np.float64), "item_strength": item_degree.astype(np.float64)}
        else:
            weight = np.array(self.weight, np.float32)
            if weight.shape != indices.shape or not np.isfinite(weight).all() or (weight <= 0).any():
                raise ValueError(f"weight must be a finite number above 0 for each of the {len(indices)} edges")
            users = np.repeat(np.arange(self.num_users), user_degree)
            arrays |= {
                "weight": weight,
                "user_strength": np.bincount(users, weight, self.num_users),
                "item_strength": np.bincount(indices, weight, self.num_items),
            }
        for name, array in arrays.items():
            array.setflags(write=False)
            object.__setattr__(self, name, array)

    @staticmethod
    def from_interactions(
        interactions: Interactions, num_users: int, num_items: int, disliked: Interactions | None = None
    ) -> InteractionGraph:
        """Make the graph of interactions; repeated pairs become one edge and are counted in `num_repeated`.

        Where interactions have weights, those of repeated pairs are added up, and all are divided by their mean.

        Args:
          interactions: The edges.
          num_users: Rows of users.
          num_items: Rows of items.
          disliked: Pairs that are dislikes.

        Raises:
          ValueError: A user or item row is outside `[0, num_users)` or `[0, num_items)`.
        """
        _check_sizes(num_users, num_items)
        _check_range("user_index", interactions.user_index, num_users, "num_users")
        _check_range("item_index", interactions.item_index, num_items, "num_items")
        # In place: at a hundred million interactions every array of int64 is 800 MB.
        pairs = interactions.user_index.astype(np.int64)
        pairs *= num_items
        pairs += interactions.item_index
        weight = interactions.weight
        if (pairs[1:] < pairs[:-1]).any():  # a table's own order is ascending already
            if weight is None:
                pairs.sort()
            else:
                order = np.argsort(pairs, kind="stable")
                pairs, weight = pairs[order], weight[order]
        repeated = np.flatnonzero(pairs[1:] == pairs[:-1]) + 1
        if len(repeated):
            if weight is not None:
                weight = np.add.reduceat(weight, np.delete(np.arange(len(pairs)), repeated))
            pairs = np.delete(pairs, repeated)
        indptr = np.searchsorted(pairs, np.arange(num_users + 1) * num_items)
        pairs %= max(num_items, 1)
        items = pairs.astype(np.int32)
        relative = Interactions(items, items, weight=weight).relative_weight()
        return InteractionGraph(num_users, num_items, indptr, items, len(repeated), relative, disliked)

    @property
    def num_edges(self) -> int:
        """Number of distinct (user, item) pairs."""
        return len(self.indices)

    @property
    def num_nodes(self) -> int:
        """Number of users and items together."""
        return self.num_users + self.num_items

    def seen(self) -> tuple[Int64Array, Int32Array]:
        """`(indptr, indices)`: int64 [num_users + 1] and int32 [num_edges], the sorted items of each user."""
        return self.indptr, self.indices

    def masked(self) -> tuple[Int64Array, Int32Array]:
        """`(indptr, indices)` as of `seen`: what isn't ranked for a user, which is what it took or disliked."""
        return self.seen() if self.disliked is None else self._masked

    @cached_property
    def _masked(self) -> tuple[Int64Array, Int32Array]:
        users = np.repeat(np.arange(self.num_users, dtype=np.int32), self.user_degree)
        parts = [Interactions(users, self.indices)]
        if self.disliked is not None:
            parts.append(Interactions(self.disliked.user_index, self.disliked.item_index))
        return concatenate(*parts).to_csr(self.num_users)

    def to_matrix(self) -> scipy.sparse.csr_matrix:
        """float32 [num_users, num_items], the weight of every edge: 1 where all count the same."""
        values = np.ones(self.num_edges, np.float32) if self.weight is None else self.weight
        return scipy.sparse.csr_matrix((values, self.indices, self.indptr), (self.num_users, self.num_items))

    def normalized_adjacency(self, exponent: float = 0.5, dtype: tf.DType = tf.float32) -> NormalizedAdjacency:
        """The symmetric A over users then items, with A[u, i] = weight(u, i) (degree(u) degree(i))^-exponent.

        Degrees are the weighted ones, and all weights 1 where the edges have none. At 1/2 the spectral norm |A|_2 is 1
        (0 without edges). Elsewhere A is D^(1/2-exponent) A_(1/2) D^(1/2-exponent), so it is at most
        (user degree * item degree)^(1/2-exponent), of the largest degrees below 1/2 and of the smallest above.

        While somebody holds A, others who ask for it get the same: it is large, and takes long to make.

        Args:
          exponent: From 0 (no normalisation) on.
          dtype: tf.float32 or tf.float64.

        Raises:
          ValueError: The exponent is negative or not finite.
        """
        if not 0 <= exponent < float("inf"):
            raise ValueError(f"exponent must be 0 or more, got {exponent}; 0.5 is the symmetric normalisation")
        shared = _ADJACENCIES.setdefault(self, WeakValueDictionary())
        adjacency = shared.get((exponent, dtype.name))
        if adjacency is None:
            adjacency = self._make_adjacency(exponent, dtype)
            # A tensor that is made while a TensorFlow graph is built belongs to that.
            if tf.executing_eagerly():
                shared[exponent, dtype.name] = adjacency
        return adjacency

    def _make_adjacency(self, exponent: float, dtype: tf.DType) -> NormalizedAdjacency:
        sides = self.user_strength, self.item_strength
        user_factor, item_factor = (degree_factor(degree, exponent) for degree in sides)
        coordinates = _aligned([2 * self.num_edges, 2], np.int64)
        values = _aligned([2 * self.num_edges], dtype.as_numpy_dtype)

        def fill(start: int, users: IntArray, items: IntArray, user_column: int, weight: Float32Array | None) -> None:
            rows = slice(start, start + len(users))
            coordinates[rows, user_column] = users
            coordinates[rows, 1 - user_column] = items
            coordinates[rows, 1 - user_column] += self.num_users
            values[rows] = user_factor[users] * item_factor[items]
            if weight is not None:
                values[rows] *= weight

        users = np.repeat(np.arange(self.num_users), self.user_degree)
        parts = [slice(start, start + EDGES_AT_ONCE) for start in range(0, self.num_edges, EDGES_AT_ONCE)]
        for part in parts:
            fill(part.start, users[part], self.indices[part], 0, None if self.weight is None else self.weight[part])
        # The other half in its row-major order: by item, then user.
        pairs = users + self.indices.astype(np.int64) * self.num_users
        del users
        weight = None
        if self.weight is None:
            pairs.sort()
        else:
            order = np.argsort(pairs, kind="stable")
            pairs, weight = pairs[order], self.weight[order]
        for part in parts:
            items, users = np.divmod(pairs[part], self.num_users)
            fill(self.num_edges + part.start, users, items, 1, None if weight is None else weight[part])
        del pairs
        if exponent <= 0.5:
            extreme = float(sides[0].max(initial=1)) * float(sides[1].max(initial=1))
        else:
            extreme = float(np.prod([side[side > 0].min(initial=1) for side in sides]))
        sparse = tf.SparseTensor(_as_tensor(coordinates), _as_tensor(values), (self.num_nodes, self.num_nodes))
        return NormalizedAdjacency.from_sparse_tensor(sparse, norm_bound=max(1.0, extreme ** (0.5 - exponent)))

    def save(self, path: str | Path) -> None:
        """Writes an .npz without pickle to exactly `path`; degrees are made again when it is loaded."""
        with staged_file(Path(path)) as staged, staged.open("wb") as file:
            names = _ARRAYS if self.weight is None else (*_ARRAYS, "weight")
            arrays = {name: np.asarray(getattr(self, name)) for name in names}
            if self.disliked is not None:
                arrays[_DISLIKED] = np.stack([self.disliked.user_index, self.disliked.item_index])
            np.savez(file, **arrays)

    @staticmethod
    def load(path: str | Path) -> InteractionGraph:
        """Read what `save` wrote.

        Raises:
          InputError: The file is missing, cut short, or not a graph.
        """
        values: dict[str, Any] = read_arrays(Path(path), cure=_CURE)
        missing = [name for name in _ARRAYS if name not in values]
        if missing:
            raise InputError(f"{path}: the file is damaged ({missing[0]} isn't there); {_CURE}")
        try:
            for name in ("num_users", "num_items", "num_repeated"):
                values[name] = int(values[name])
            if _DISLIKED in values:
                values[_DISLIKED] = Interactions(*values[_DISLIKED])
            return InteractionGraph(**values)
        except (TypeError, ValueError) as error:
            raise InputError(f"{path}: not a graph that InteractionGraph.save wrote ({error}); {_CURE}") from error


# By exponent and name of the dtype; outside of the graph, which can be pickled.
_ADJACENCIES: WeakKeyDictionary[InteractionGraph, WeakValueDictionary[tuple[float, str], NormalizedAdjacency]]
_ADJACENCIES = WeakKeyDictionary()


def _aligned(shape: list[int], dtype: type) -> Array:
    """An empty array that starts where TensorFlow wants its tensors to: `_as_tensor` needs no copy of it."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    memory = np.empty(size + _ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % _ALIGNMENT
    return memory[start : start + size].view(dtype).reshape(shape)


def _as_tensor(array: Array) -> tf.Tensor:
    """A tensor in the memory of an `_aligned` array, where `tf.constant` would copy it twice."""
    return tf.experimental.dlpack.from_dlpack(array.__dlpack__())


def _check_sizes(num_users: int, num_items: int) -> None:
    if min(num_users, num_items) < 0 or max(num_users, num_items) >= 2**31:
        raise ValueError(f"num_users and num_items must be in [0, 2^31), got {num_users} and {num_items}")


def _check_range(name: str, rows: IntArray, size: int, size_name: str) -> None:
    if len(rows) and (rows.min() < 0 or rows.max() >= size):
        raise ValueError(
            f"{name} must be in [0, {size}), got values from {rows.min()} to {rows.max()}; is {size_name} right?"
        )
