"""A user-item graph in a small file: degrees of users, and differences between the items of each, compressed."""

from __future__ import annotations

from pathlib import Path

import numpy as np

ARRAYS = ("rows", "columns", "factor")


def write_graph(path: Path, user_degree: np.ndarray, items: np.ndarray, num_items: int) -> None:
    """Writes a graph.

    Args:
      path: of the .npz.
      user_degree: [U].
      items: [E], the items of the first user, ascending, then those of the second, ...
      num_items: I.
    """
    differences = np.diff(items, prepend=0)
    starts = np.cumsum(user_degree)[:-1]
    starts = starts[starts < len(items)]
    differences[starts] = items[starts]
    np.savez_compressed(
        path,
        user_degree=user_degree.astype(np.uint32),
        differences=differences.astype(np.uint16 if num_items < 2**16 else np.uint32),
        num_items=np.int64(num_items),
    )


def read_graph(path: Path) -> dict[str, np.ndarray]:
    """The arrays of the adjacency matrix over users, then items: `rows`, `columns` int32 [2 E], `factor` float32 [n].

    Entries are in ascending order of their rows; `factor` is degree^-1/2, 0 without an edge.
    """
    with np.load(path, allow_pickle=False) as file:
        user_degree = file["user_degree"].astype(np.int64)
        differences, num_items = file["differences"].astype(np.int64), int(file["num_items"])
    total = np.cumsum(differences)
    first = np.cumsum(user_degree) - user_degree
    owners = np.repeat(np.arange(len(user_degree)), user_degree)
    # Up to the first item of each user, the sum is that of the users before.
    before = np.where(first > 0, total[np.minimum(first, len(total)) - 1], 0) if len(total) else first
    items = total - before[owners]
    num_users = len(user_degree)
    by_item = np.argsort(items, kind="stable")
    degree = np.concatenate([user_degree, np.bincount(items, minlength=num_items)])
    factor = np.zeros(len(degree), np.float32)
    factor[degree > 0] = degree[degree > 0] ** -0.5
    return {
        "rows": np.concatenate([owners, items[by_item] + num_users]).astype(np.int32),
        "columns": np.concatenate([items + num_users, owners[by_item]]).astype(np.int32),
        "factor": factor,
    }
