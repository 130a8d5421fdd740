"""Rankings as a client gets them: through the signature `recommend` of an exported SavedModel."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import tensorflow as tf

from tf_hqgnn.export.loading import load_saved_model
from tf_hqgnn.graph.csr import CSR
from tf_hqgnn.types import Int32Array, IntArray, ObjectArray

Recommend = Callable[..., dict[str, tf.Tensor]]


def load_recommend(model_dir: Path) -> tuple[object, Recommend]:
    """Loads a SavedModel; returns it, which keeps its variables alive, and its signature `recommend`.

    Raises:
      ValueError: There is no SavedModel, or it lacks the signature.
    """
    model = load_saved_model(model_dir)
    if "recommend" not in model.signatures:
        raise ValueError(f"{model_dir} has no signature `recommend`, only {', '.join(sorted(model.signatures))}")
    return model, model.signatures["recommend"]


def rank_items(
    recommend: Recommend,
    user_ids: ObjectArray,
    excluded: CSR,
    item_ids: ObjectArray,
    k: int,
    batch_size: int = 256,
    allow_unknown: bool = False,
) -> Int32Array:
    """The k best items of every user, as the model answers.

    Args:
      recommend: signature of a SavedModel, which leaves out training items by itself.
      user_ids: str [B].
      excluded: CSR over those users: rows of `item_ids` that must not come back.
      item_ids: str [I], sorted.
      k: items asked for; a catalogue of fewer is padded.
      batch_size: users in one request.
      allow_unknown: an answer may be an item that is not in `item_ids`; it takes its place in the ranking all the
        same, as -1.

    Returns:
      int32 [B, k] rows of `item_ids`, best first, -1 where the model had no more.

    Raises:
      ValueError: An answer holds an id that is not in `item_ids`, which isn't allowed.
    """
    indptr, indices = excluded
    row_of = {item.encode("utf-8"): row for row, item in enumerate(item_ids)}
    top = np.full((len(user_ids), k), -1, np.int32)
    for start in range(0, len(user_ids), batch_size):
        stop = min(start + batch_size, len(user_ids))
        counts = np.diff(indptr[start : stop + 1])
        exclude = np.full((stop - start, max(1, counts.max(initial=0))), "", object)
        for row in range(start, stop):
            ids = item_ids[indices[indptr[row] : indptr[row + 1]]]
            exclude[row - start, : len(ids)] = ids
        answer = recommend(
            user_id=tf.constant(user_ids[start:stop].tolist()),
            k=tf.constant(k, tf.int32),
            exclude_item_id=tf.constant(exclude.tolist()),
            category=tf.fill([stop - start], ""),
        )
        items, num_valid = answer["item_id"].numpy(), answer["num_valid"].numpy()
        for row, valid in enumerate(num_valid):
            rows = [row_of.get(item, -1) for item in items[row, :valid]]
            if -1 in rows and not allow_unknown:
                unknown = items[row, rows.index(-1)]
                raise ValueError(f"the model recommends {unknown!r}, which is not in the catalogue")
            top[start + row, :valid] = rows
    return top


def overlap(exact: IntArray, approximate: IntArray, k: int) -> float:
    """Mean share of a user's k first exact items that are among the k first approximate ones; 1 without any user.

    Args:
      exact: int32 [B, >= k], -1 where there is nothing.
      approximate: the same.
      k: how many first items count.

    Example:
      >>> overlap(np.array([[1, 2], [3, -1]]), np.array([[2, 5], [3, -1]]), 2)
      0.75
    """
    shares = []
    for best, found in zip(exact[:, :k], approximate[:, :k]):
        best = best[best >= 0]
        if len(best):
            shares.append(np.isin(best, found).mean())
    return float(np.mean(shares)) if shares else 1.0
