"""Batches as a Keras user has them, turned into those that a model is trained on."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from tf_hqgnn.losses.loss import Loss
from tf_hqgnn.retrieval.filters import SeenItems

# Draws of a negative before one that the user has interacted with is let through.
_NEGATIVE_DRAWS = 4
_EXPECTED = "expected batches of (user_index, item_index), or dicts with these keys"

Features = dict[str, tf.Tensor]


def as_features(data: Any) -> Features:
    """The features of a batch of pairs.

    Args:
      data: `(user_index, item_index)`, integers [B] or [B, 1]; or a dict with these keys, which may have
        "negative_index" [B, n], "is_positive" [B, B], "weight" float32 [B] and "disliked_index" [B], too. Keras
        hands a dict on as it is, or as the first of a tuple.

    Returns:
      A dict of int32 [B], and what else there was.

    Raises:
      ValueError: It is something else, such as ids that aren't rows yet.

    Example:
      >>> features = as_features((tf.constant([[3], [5]]), tf.constant([7, 9], tf.int64)))
      >>> {name: rows.numpy().tolist() for name, rows in features.items()}
      {'user_index': [3, 5], 'item_index': [7, 9]}
    """
    if isinstance(data, (tuple, list)) and data and isinstance(data[0], dict):
        data = data[0]
    if isinstance(data, dict):
        missing = {"user_index", "item_index"} - data.keys()
        if missing:
            raise ValueError(f"the batch lacks {' and '.join(sorted(missing))}: {_EXPECTED}, got {sorted(data)}")
        features = dict(data)
    elif isinstance(data, (tuple, list)) and len(data) == 2:
        features = {"user_index": data[0], "item_index": data[1]}
    elif isinstance(data, (tuple, list)) and len(data) == 3:
        raise ValueError(f"pairs have no sample weights here: {_EXPECTED} and maybe weight, got three parts")
    else:
        raise ValueError(f"{_EXPECTED}, got {type(data).__name__}")
    return features | {name: as_rows(name, features[name]) for name in ("user_index", "item_index")}


def as_rows(name: str, values: Any) -> tf.Tensor:
    """Row numbers as int32 [B].

    Raises:
      ValueError: They aren't integers, or not in a batch.
    """
    rows = tf.convert_to_tensor(values)
    if not rows.dtype.is_integer:
        raise ValueError(
            f"{name} must hold row numbers, integers from 0 on, got {rows.dtype.name}; tf_keras.layers.StringLookup or "
            "IntegerLookup turns ids into rows"
        )
    if rows.shape.rank == 0:
        raise ValueError(f"{name} must come in batches, got single pairs: batch the dataset, dataset.batch(1024)")
    return tf.cast(rows if rows.shape.rank == 1 else tf.reshape(rows, [-1]), tf.int32)


def with_wishes(
    features: Features, loss: Loss, seen: SeenItems | None, num_items: int, seed: int, step: tf.Tensor | int
) -> Features:
    """The batch with what the loss needs besides the pairs, where it isn't there.

    Args:
      features: as of `as_features`.
      loss: says what it needs.
      seen: the training interactions of every user; None if they aren't known: then only the pair's own item is no
        negative.
      num_items: I.
      seed: of the negatives.
      step: int [], the number of the training step, from which the negatives follow.
    """
    if loss.needs_negatives and "negative_index" not in features:
        negatives = _negatives(features, loss.negatives_per_pair, seen, num_items, seed, step)
        features = {**features, "negative_index": negatives}
    if loss.needs_positives and seen is not None and "is_positive" not in features:
        features = {**features, "is_positive": _positives(features, seen)}
    return features


def wanted_items(features: Features) -> tf.Tensor:
    """int32 [B, 1 + n], the item of each pair and its negatives, if there are any; a disliked item is the last.

    Where a user dislikes nothing, the pair's own item is in that place.
    """
    parts = [features["item_index"][:, tf.newaxis]]
    if "negative_index" in features:
        parts.append(features["negative_index"])
    if "disliked_index" in features:
        disliked = features["disliked_index"]
        parts.append(tf.where(disliked < 0, features["item_index"], disliked)[:, tf.newaxis])
    return tf.concat(parts, axis=1)


def _negatives(
    features: Features, count: int, seen: SeenItems | None, num_items: int, seed: int, step: tf.Tensor | int
) -> tf.Tensor:
    """int32 [B, count], drawn uniformly, again where the user took the item."""
    users, items = features["user_index"], features["item_index"]
    shape = tf.stack([tf.size(users), count])
    number = tf.cast(step, tf.int64) * _NEGATIVE_DRAWS
    negatives, taken = tf.zeros(shape, tf.int32), tf.ones(shape, tf.bool)
    for draw in range(_NEGATIVE_DRAWS):
        drawn = tf.random.stateless_uniform(shape, [seed, number + draw], maxval=num_items, dtype=tf.int32)
        negatives = tf.where(taken, drawn, negatives)
        taken = tf.equal(negatives, items[:, tf.newaxis])
        if seen is not None:
            taken |= seen.blocked(tf.cast(users, tf.int64)).contains(negatives)
    return negatives


def _positives(features: Features, seen: SeenItems) -> tf.Tensor:
    """Whether the user of a row took the item of a column, bool [B, B]."""
    users, items = features["user_index"], features["item_index"]
    distinct, place = tf.unique(items)
    number = tf.range(1, tf.size(distinct) + 1)
    slots = tf.scatter_nd(distinct[:, tf.newaxis], number, [seen.num_items])
    (pairs,) = seen.blocked(tf.cast(users, tf.int64)).pairs
    keys = pairs.keys()
    slot = tf.gather(slots, keys % seen.num_items) - 1
    here = slot >= 0
    cells = tf.stack([tf.cast(keys // seen.num_items, tf.int32), slot], axis=1)[here]
    took = tf.scatter_nd(cells, tf.ones_like(cells[:, 0]), tf.stack([tf.size(users), tf.size(distinct)])) > 0
    return tf.gather(took, place, axis=1) | tf.equal(items[:, tf.newaxis], items)
