"""Trains LightFM in its own environment: reads an .npz, writes one; needs nothing of this project.

`.venv-lightfm/bin/python driver.py IN.npz OUT.npz`
"""

from __future__ import annotations

import sys

import numpy as np
import scipy.sparse
from lightfm import LightFM


def matrix(arrays: dict[str, np.ndarray], side: str) -> scipy.sparse.csr_matrix:
    """Features of a side, and an identity for those who are in training; each row sums to 1, as LightFM's own do."""
    trained = arrays[f"{side}_trained"]
    rows = np.flatnonzero(trained)
    identity = scipy.sparse.csr_matrix((np.ones(len(rows)), (rows, rows)), (len(trained), len(trained)))
    features = scipy.sparse.csr_matrix(arrays[f"{side}_features"])
    both = scipy.sparse.hstack([features, identity]).tocsr()
    total = np.maximum(np.asarray(both.sum(axis=1)).ravel(), 1e-9)
    return scipy.sparse.diags(1 / total).dot(both).astype(np.float32).tocsr()


def main() -> None:
    arrays = dict(np.load(sys.argv[1]))
    users, items = matrix(arrays, "user"), matrix(arrays, "item")
    pairs = scipy.sparse.coo_matrix(
        (np.ones(len(arrays["user_index"]), np.float32), (arrays["user_index"], arrays["item_index"])),
        (users.shape[0], items.shape[0]),
    )
    model = LightFM(no_components=int(arrays["dim"]), loss="warp", random_state=int(arrays["seed"]))
    model.fit(pairs, users, items, epochs=int(arrays["epochs"]), num_threads=2)
    item_bias, item_rows = model.get_item_representations(items)
    _, user_rows = model.get_user_representations(users)
    # The bias of an item is one dimension more; that of a user changes no ranking.
    np.savez(
        sys.argv[2],
        user=np.column_stack([user_rows, np.ones(len(user_rows))]).astype(np.float32),
        item=np.column_stack([item_rows, item_bias]).astype(np.float32),
    )


if __name__ == "__main__":
    main()
