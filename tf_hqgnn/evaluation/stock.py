"""What is out of stock is neither recommended nor asked for: the one rule by which models and baselines are judged.

A served model never returns an item that isn't available. So a ranking that is judged leaves such items out, and a
held-out interaction with one of them is no target: no model could return it. Training, `evaluate`, the pipeline's
evaluator, its slices and the popularity baseline all ask here, and so give one figure for one model.
"""

from __future__ import annotations

import numpy as np

from tf_hqgnn.types import BoolArray, Int32Array, IntArray, Interactions


def in_stock(targets: Interactions, available: BoolArray | None) -> Interactions:
    """Keeps the interactions whose item is available.

    Args:
      targets: held-out interactions.
      available: bool [I]; None if every item is available.

    Example:
      >>> pairs = Interactions(np.array([0, 1], np.int32), np.array([2, 0], np.int32))
      >>> in_stock(pairs, np.array([True, True, False])).user_index.tolist()
      [1]
    """
    return targets if available is None else targets.take(available[targets.item_index])


def stock_rows(available: BoolArray | None) -> IntArray | None:
    """Returns the rows of the available items, int64 [A], ascending; None if every item is available."""
    return None if available is None or available.all() else np.flatnonzero(available)


def catalogue_rows(top: IntArray, rows: IntArray) -> Int32Array:
    """Returns a ranking of places in `rows` as rows of the catalogue, int32 like `top`; -1 stays.

    Example:
      >>> catalogue_rows(np.array([[1, -1]]), np.array([4, 7])).tolist()
      [[7, -1]]
    """
    return np.append(rows, -1)[top].astype(np.int32)
