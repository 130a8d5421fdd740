"""Training batches as a tf.data pipeline whose every batch follows from (seed, epoch, position)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from tf_hqgnn.graph.csr import CSR, rows_of_entries
from tf_hqgnn.types import Int64Array, IntArray, Interactions

# Draws of a negative before one that the user has interacted with is let through: at most
# (share of the catalogue that a user has seen) ** 4 of the negatives are false.
_NEGATIVE_DRAWS = 4
_DISLIKE_SEED = 0x5EED

# Of a table of all users and items. Where it is that small, looking pairs up is faster than going through histories,
# which are long in a log of few items.
TABLE_BYTES = 2**25


def steps_per_epoch(num_interactions: int, batch_size: int) -> int:
    """Full batches in an epoch; the rest of a shuffle waits for the next one. At least 1."""
    return max(1, num_interactions // batch_size)


def training_batches(
    train: Interactions,
    num_items: int,
    batch_size: int,
    seed: int,
    first_epoch: int = 0,
    num_negatives: int = 0,
    seen: CSR | None = None,
    disliked: CSR | None = None,
) -> tf.data.Dataset:
    """Endless shuffled batches; epoch after epoch from `first_epoch` on, each in an order of its own.

    A run that resumes at epoch e sees exactly the batches that an uninterrupted one would have seen from there.

    Args:
      train: the training interactions, n >= 2 of them.
      num_items: size of the catalogue, for negatives.
      batch_size: B; lowered to n where there are fewer interactions.
      seed: of the order and of the negatives.
      first_epoch: 0 for a new run.
      num_negatives: uniform negatives per pair that the user has not interacted with; 0 for none.
      seen: the CSR `(indptr, indices)` of each user's items, for `is_positive`; None leaves that out.
      disliked: the CSR of what each user disliked, for `disliked_index`; None leaves that out.

    Returns:
      A dataset of {"user_index": int32 [B], "item_index": int32 [B]}, with "negative_index": int32 [B, num_negatives]
      and "is_positive": bool [B, B], whether the user of a row has seen the item of a column; where the interactions
      differ in weight, "weight": float32 [B], of mean 1 over all; and "disliked_index": int32 [B], an item that the
      user disliked, drawn at random, -1 where there is none.

    Raises:
      ValueError: There are fewer than two interactions.
    """
    if len(train) < 2:
        raise ValueError(f"training needs at least 2 interactions, got {len(train)}")
    batch_size = min(batch_size, len(train))
    steps = steps_per_epoch(len(train), batch_size)
    users, items = tf.constant(train.user_index), tf.constant(train.item_index)
    relative = train.relative_weight()
    weights = None if relative is None else tf.constant(relative)
    dislikes = None if disliked is None else (tf.constant(disliked[0]), tf.constant(disliked[1]))
    sorted_pairs = tf.constant(_sorted_pairs(train, num_items)) if num_negatives else None
    is_positive = None if seen is None else _is_positive(seen, num_items)
    # For a hundred million interactions an order is 400 MB in int32; the positions are int64 only where they must be.
    row_type: type[np.integer[Any]] = np.int32 if len(train) <= np.iinfo(np.int32).max else np.int64

    def shuffled(epoch: np.int64) -> IntArray:
        order = np.arange(len(train), dtype=row_type)
        np.random.default_rng((seed, int(epoch))).shuffle(order)
        return order[: steps * batch_size].reshape(steps, batch_size)

    # No Python control flow over tensors in either: converting them would cost half a second.
    @tf.autograph.experimental.do_not_convert
    def one_epoch(epoch: tf.Tensor) -> tf.data.Dataset:
        order = tf.numpy_function(shuffled, [epoch], row_type, stateful=False)
        order.set_shape([steps, batch_size])
        numbers = tf.range(steps, dtype=tf.int64) + epoch * steps
        return tf.data.Dataset.from_tensor_slices((order, numbers))

    @tf.autograph.experimental.do_not_convert
    def batch(rows: tf.Tensor, number: tf.Tensor) -> dict[str, tf.Tensor]:
        user_index = tf.gather(users, rows)
        item_index = tf.gather(items, rows)
        features = {"user_index": user_index, "item_index": item_index}
        if sorted_pairs is not None:
            features["negative_index"] = _sample_negatives(
                user_index, sorted_pairs, num_items, num_negatives, seed, number
            )
        if is_positive is not None:
            features["is_positive"] = is_positive(user_index, item_index)
        if weights is not None:
            features["weight"] = tf.gather(weights, rows)
        if dislikes is not None:
            features["disliked_index"] = _sample_disliked(user_index, *dislikes, seed, number)
        return features

    epochs = tf.data.Dataset.counter(first_epoch)
    return epochs.flat_map(one_epoch).map(batch, num_parallel_calls=2, deterministic=True).prefetch(64)


def _sorted_pairs(train: Interactions, num_items: int) -> Int64Array:
    """int64 [n], user * num_items + item of each interaction, ascending."""
    pairs = train.user_index.astype(np.int64)
    pairs *= num_items
    pairs += train.item_index
    pairs.sort()
    return pairs


def _is_positive(seen: CSR, num_items: int) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    """(int32 [B] users, int32 [B] items) -> bool [B, B], whether the user of a row has seen the item of a column.

    TensorFlow's ops alone: Python in every batch would hold the interpreter's lock, also while it shuts down.
    """
    indptr, indices = seen
    num_users = len(indptr) - 1
    if num_users * num_items > TABLE_BYTES:
        histories = tf.constant(indptr), tf.constant(indices)
        return lambda user_index, item_index: _positives(user_index, item_index, *histories, num_items)
    is_seen = np.zeros([num_users, num_items], bool)
    is_seen[rows_of_entries(seen), indices] = True
    table = tf.constant(is_seen.ravel())
    return lambda user_index, item_index: tf.gather(table, user_index[:, tf.newaxis] * num_items + item_index)


def _positives(
    user_index: tf.Tensor, item_index: tf.Tensor, indptr: tf.Tensor, indices: tf.Tensor, num_items: int
) -> tf.Tensor:
    """As the function that `_is_positive` returns, by going through the users' histories once."""
    size = user_index.shape[0]
    # Not tf.gather of a RaggedTensor, which waits for memory row by row: twice the time for 100 million interactions.
    positions = tf.ragged.range(tf.gather(indptr, user_index), tf.gather(indptr, user_index + 1))
    history = tf.gather(indices, positions.flat_values)
    items, _ = tf.unique(tf.sort(item_index))
    # One byte an item, to stay in the processor's cache.
    is_here = tf.scatter_nd(items[:, tf.newaxis], tf.ones_like(items, tf.bool), [num_items])
    found = tf.where(tf.gather(is_here, history))[:, 0]
    row = tf.searchsorted(positions.row_splits, found, side="right") - 1
    # Items by users, so that whole rows are copied to the repeated items.
    places = tf.searchsorted(items, tf.gather(history, found)) * size + row
    is_positive = tf.scatter_nd(places[:, tf.newaxis], tf.ones_like(places, tf.bool), [tf.size(items) * size])
    repeated = tf.gather(tf.reshape(is_positive, [-1, size]), tf.searchsorted(items, item_index))
    return tf.transpose(tf.ensure_shape(repeated, [size, size]))


def _sample_disliked(
    user_index: tf.Tensor, indptr: tf.Tensor, indices: tf.Tensor, seed: int, number: tf.Tensor
) -> tf.Tensor:
    """int32 [B], one of the items that each user disliked; -1 where there is none."""
    start = tf.gather(indptr, user_index)
    count = tf.gather(indptr, user_index + 1) - start
    # Numbers of its own: the negatives of this batch are drawn by the seed itself.
    drawn = tf.random.stateless_uniform(tf.shape(user_index), [seed ^ _DISLIKE_SEED, number], dtype=tf.float64)
    place = start + tf.cast(drawn * tf.cast(count, tf.float64), start.dtype)
    item = tf.gather(indices, tf.minimum(place, tf.size(indices, start.dtype) - 1))
    return tf.where(count > 0, item, -1)


def _sample_negatives(
    user_index: tf.Tensor, sorted_pairs: tf.Tensor, num_items: int, num_negatives: int, seed: int, number: tf.Tensor
) -> tf.Tensor:
    shape = [user_index.shape[0], num_negatives]
    offset = tf.cast(user_index, tf.int64)[:, tf.newaxis] * num_items
    negatives = tf.zeros(shape, tf.int64)
    is_seen = tf.ones(shape, tf.bool)
    for draw in range(_NEGATIVE_DRAWS):
        drawn = tf.random.stateless_uniform(
            shape, [seed, number * _NEGATIVE_DRAWS + draw], maxval=num_items, dtype=tf.int64
        )
        negatives = tf.where(is_seen, drawn, negatives)
        keys = tf.reshape(offset + negatives, [-1])
        position = tf.minimum(tf.searchsorted(sorted_pairs, keys), tf.size(sorted_pairs) - 1)
        is_seen = tf.reshape(tf.equal(tf.gather(sorted_pairs, position), keys), shape)
    return tf.cast(negatives, tf.int32)
