"""The bipartite graph of who interacted with what, as one immutable CSR."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Union

import numpy as np
import tensorflow as tf

from tf_hqgnn.graph.propagation import NormalizedAdjacency
from tf_hqgnn.types import InputError, Interactions

_ARRAYS = ("num_users", "num_items", "num_repeated", "indptr", "indices")


@dataclass(frozen=True, eq=False)
class InteractionGraph:
    """Users, items and the distinct pairs between them; the arrays can't be written to.

    Memory: 4 bytes an edge, 12 a user and 4 an item. `normalized_adjacency` makes a second structure of 16 bytes an
    edge and 4 a node (float32), and needs another 40 bytes an edge while it is built. For Gowalla (810,128 edges) that
    is 3.7 MB, 13.2 MB and 32 MB.

    Args:
      num_users: Rows of users, those without an edge included.
      num_items: Rows of items, likewise.
      indptr: int64 [num_users + 1]; the items of user u are `indices[indptr[u]:indptr[u + 1]]`.
      indices: int32 [num_edges], strictly ascending within a user.
      num_repeated: How many repeated pairs were dropped when the graph was made.

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
    indptr: np.ndarray
    indices: np.ndarray
    num_repeated: int = 0

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
        steps = np.diff(indices)
        first_of_row = indptr[1:-1]
        inside = np.ones(len(steps), bool)
        inside[first_of_row[(first_of_row > 0) & (first_of_row < len(indices))] - 1] = False
        if np.any(steps[inside] <= 0):
            raise ValueError("indices must ascend strictly within each user; InteractionGraph.from_interactions sorts them")
        for name, array in (
            ("indptr", indptr),
            ("indices", indices),
            ("_user_degree", np.diff(indptr).astype(np.int32)),
            ("_item_degree", np.bincount(indices, minlength=self.num_items).astype(np.int32)),
        ):
            array.setflags(write=False)
            object.__setattr__(self, name, array)

    @staticmethod
    def from_interactions(interactions: Interactions, num_users: int, num_items: int) -> InteractionGraph:
        """The graph of `interactions`; repeated pairs become one edge and are counted in `num_repeated`.

        Raises:
          ValueError: A user or item row is outside `[0, num_users)` or `[0, num_items)`.
        """
        _check_sizes(num_users, num_items)
        _check_range("user_index", interactions.user_index, num_users, "num_users")
        _check_range("item_index", interactions.item_index, num_items, "num_items")
        pairs = np.unique(interactions.user_index.astype(np.int64) * num_items + interactions.item_index)
        users, items = np.divmod(pairs, max(num_items, 1))
        indptr = np.zeros(num_users + 1, np.int64)
        np.cumsum(np.bincount(users, minlength=num_users), out=indptr[1:])
        return InteractionGraph(num_users, num_items, indptr, items, len(interactions) - len(pairs))

    @property
    def num_edges(self) -> int:
        """Distinct pairs."""
        return len(self.indices)

    @property
    def num_nodes(self) -> int:
        """Users and items together."""
        return self.num_users + self.num_items

    @property
    def user_degree(self) -> np.ndarray:
        """int32 [num_users], the distinct items of each user."""
        return self._user_degree  # type: ignore[attr-defined]

    @property
    def item_degree(self) -> np.ndarray:
        """int32 [num_items], the distinct users of each item."""
        return self._item_degree  # type: ignore[attr-defined]

    def seen(self) -> tuple[np.ndarray, np.ndarray]:
        """`(indptr, indices)`: int64 [num_users + 1] and int32 [num_edges], the sorted items of each user."""
        return self.indptr, self.indices
