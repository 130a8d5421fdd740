"""The best unseen items of many users, by their scores for the whole catalogue."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from tf_hqgnn.evaluation.stock import catalogue_rows, stock_rows
from tf_hqgnn.graph.csr import CSR, check_csr, check_rows, coordinates, keep_columns
from tf_hqgnn.retrieval.stripes import Stripes
from tf_hqgnn.types import Array, BoolArray, Float32Array, Int32Array, IntArray

# Scores of one step: arrays that are much larger get new pages every time, which takes half as long as all the rest.
SCORE_BYTES = 24 * 2**20
# Fewer users than these read the catalogue more often than that saves.
MIN_USERS = 64
# Scores of a chunk, were it one step: whatever the catalogue, the peak stays well below 1 GiB, and places fit int32.
MAX_SCORE_BYTES = 256 * 2**20
# Below this a block's maximum saves less than it costs.
_MIN_BLOCK_SIZE = 4


def rank(
    user_embeddings: Float32Array,
    item_embeddings: Float32Array,
    user_index: IntArray,
    seen: CSR,
    k: int,
    chunk_size: int = 1024,
    available: BoolArray | None = None,
) -> Int32Array:
    """The k best unseen items of each user by dot product, best first.

    Equal scores go by the lower item row. Scores are float32 dot products, so items that are equal only up to rounding
    may be ordered either way, but always in the same way for one `chunk_size` on one machine.

    Args:
      user_embeddings: float32 [num_users, d].
      item_embeddings: float32 [num_items, d].
      user_index: int [n], the users to rank for.
      seen: `(indptr, indices)`, int [num_users + 1] and the items of each user that are never returned.
      k: >= 1; may be more than there are items.
      chunk_size: Users of one call of TensorFlow, >= 1; fewer where their scores would need more than 256 MiB. A call
        goes in steps of equal size, whose scores need at most 24 MiB, or of 64 users; it is rounded up to whole steps.
      available: bool [num_items], whether an item may be returned; None if all may.

    Returns:
      int32 [n, k], item rows; -1 where a user has fewer than k unseen items that are available.

    Raises:
      ValueError: The arrays don't fit each other, or a score isn't a finite number.
    """
    users = np.ascontiguousarray(user_embeddings, np.float32)
    items = np.ascontiguousarray(item_embeddings, np.float32)
    user_index = np.asarray(user_index)
    _check_embeddings(users, items)
    check_rows(user_index, len(users), "user_index")
    check_csr(seen, len(users), len(items), "seen")
    if k < 1 or chunk_size < 1:
        raise ValueError(f"k and chunk_size must be at least 1, got {k} and {chunk_size}")
    rows = stock_rows(available)
    if rows is not None:
        seen_here = keep_columns(seen, rows, len(items))
        return catalogue_rows(rank(users, items[rows], user_index, seen_here, k, chunk_size), rows)
    top = np.full((len(user_index), k), -1, np.int32)
    if not len(user_index) or not len(items):
        return top
    # One shape for all steps, the last chunk filled up, so the function is traced once and its rounding is uniform.
    step_size, steps = _steps(min(chunk_size, len(user_index)), 4 * len(items))
    chunk_size = step_size * steps
    width = min(k, len(items))
    block_size = items_per_block(len(items), width)
    padding = np.arange(len(items), -(-len(items) // block_size) * block_size)
    items = np.pad(items, ((0, len(padding)), (0, 0)))
    stripes = Stripes(len(items), block_size)
    # Scoring against [d, num_items] lets the product read the items in order.
    catalogue = tf.constant(np.ascontiguousarray(stripes.store(items).T))
    place_of_item = stripes.place(tf.range(len(items))).numpy()
    top_items, settings = best_items, [tf.constant(step_size), tf.constant(width)]
    if block_size > 1:
        # What only fills up the last block is nobody's.
        top_items, unwanted = _top_by_blocks, stripes.place(tf.constant(padding, tf.int32))
        settings += [tf.constant(block_size), unwanted]
    for start in range(0, len(user_index), chunk_size):
        chunk = user_index[start : start + chunk_size]
        rows = np.concatenate([chunk, np.zeros(chunk_size - len(chunk), chunk.dtype)])
        masked = coordinates(seen, chunk)
        masked[:, 1] = place_of_item[masked[:, 1]]
        best = top_items(users[rows], catalogue, masked, *settings)
        top[start : start + len(chunk), :width] = best.numpy()[: len(chunk)]
    return top


def rank_by_popularity(
    popularity: Array,
    user_index: IntArray,
    seen: CSR,
    k: int,
    chunk_size: int = 1024,
    available: BoolArray | None = None,
) -> Int32Array:
    """The k most popular unseen items of each user, most popular first; equally popular ones by the lower row.

    Args:
      popularity: [num_items].
      user_index: int [n], rows of the users to rank for; the other arguments and the result are those of `rank`.
      seen: as of `rank`.
      k: >= 1.
      chunk_size: users at once.
      available: bool [num_items], whether an item may be returned; None if all may.

    Raises:
      ValueError: The arrays don't fit each other.

    Example:
      >>> seen = np.array([0, 1, 1]), np.array([2])
      >>> rank_by_popularity(np.array([1, 5, 9]), np.array([0, 1]), seen, k=2).tolist()
      [[1, 0], [2, 1]]
    """
    num_users, num_items = len(seen[0]) - 1, len(popularity)
    check_rows(user_index, num_users, "user_index")
    check_csr(seen, num_users, num_items, "seen")
    rows = stock_rows(available)
    if rows is not None:
        seen_here = keep_columns(seen, rows, num_items)
        return catalogue_rows(
            rank_by_popularity(np.asarray(popularity)[rows], user_index, seen_here, k, chunk_size), rows
        )
    order = np.argsort(-np.asarray(popularity, np.float64), kind="stable").astype(np.int32)
    # What stands beyond the last item.
    order_or_none = np.append(order, np.int32(-1))
    place_of_item = np.empty(num_items, np.int64)
    place_of_item[order] = np.arange(num_items)
    top = np.empty((len(user_index), k), np.int32)
    for start in range(0, len(user_index), chunk_size):
        chunk = user_index[start : start + chunk_size]
        user, item = coordinates(seen, chunk, np.int64).T
        # Places of seen items, ascending for each user.
        user, place = np.divmod(np.unique(user * num_items + place_of_item[item]), max(num_items, 1))
        counts = np.bincount(user, minlength=len(chunk))
        unseen_before = place - (np.arange(len(place)) - np.repeat(np.cumsum(counts) - counts, counts))
        # The r-th unseen item stands r places down, and one more for each seen item with at most r unseen before it.
        near = unseen_before < k
        skipped = np.bincount(user[near] * k + unseen_before[near], minlength=len(chunk) * k).reshape(-1, k)
        places = np.arange(k) + np.cumsum(skipped, axis=1)
        top[start : start + len(chunk)] = order_or_none[np.minimum(places, num_items)]
    return top


def _steps(num_users: int, row_bytes: int) -> tuple[int, int]:
    """Users of a step and steps of a chunk of `num_users`, or of fewer if their scores, `row_bytes` each, are too many.

    Example:
      >>> _steps(1000, row_bytes=4 * 40_000), _steps(1000, row_bytes=4 * 500_000)
      ((143, 7), (64, 2))
    """
    most = max(MIN_USERS, SCORE_BYTES // row_bytes)
    limit = MAX_SCORE_BYTES // row_bytes
    num_users = min(num_users, limit // most * most or max(1, limit))
    steps = -(-num_users // most)
    return -(-num_users // steps), steps


def items_per_block(num_items: int, k: int) -> int:
    """Items of a block: a power of two for which the best blocks cost about as much to find as their best items.

    1, which is without blocks, where the catalogue is too small for a gain.
    """
    size = 1 << int(math.log2(max(1.0, math.sqrt(num_items / (4 * k)))))
    return size if size >= _MIN_BLOCK_SIZE else 1


_SIGNATURE = (
    tf.TensorSpec([None, None], tf.float32),
    tf.TensorSpec([None, None], tf.float32),
    tf.TensorSpec([None, 2], tf.int32),
    tf.TensorSpec([], tf.int32),
    tf.TensorSpec([], tf.int32),
)


@tf.function(input_signature=_SIGNATURE, autograph=False)
def best_items(
    users: tf.Tensor, catalogue: tf.Tensor, masked: tf.Tensor, step_size: tf.Tensor, k: tf.Tensor
) -> tf.Tensor:
    """Returns int32 [B, k], the best columns of users @ catalogue without the `masked` entries; -1 where none is left.

    `masked` [n, 2] is in the order of the users, of whom `step_size` are scored at a time: it divides B.
    """

    def best_of(scores: tf.Tensor) -> tf.Tensor:
        best, columns = tf.math.top_k(scores, k)
        return tf.where(best == -float("inf"), -1, columns)

    return _in_steps(best_of, users, catalogue, masked, step_size, tf.zeros([0], tf.int32))


@tf.function(
    input_signature=(*_SIGNATURE, tf.TensorSpec([], tf.int32), tf.TensorSpec([None], tf.int32)), autograph=False
)
def _top_by_blocks(
    users: tf.Tensor,
    catalogue: tf.Tensor,
    masked: tf.Tensor,
    step_size: tf.Tensor,
    k: tf.Tensor,
    block_size: tf.Tensor,
    unwanted: tf.Tensor,
) -> tf.Tensor:
    """As `best_items`, of columns that are stored by `Stripes` of whole blocks, numbered as before that.

    The columns at `unwanted` are nobody's. The k best items lie in the k blocks with the highest maxima, of equal ones
    the first.
    """
    count = tf.shape(catalogue)[1] // block_size

    def best_of(scores: tf.Tensor) -> tf.Tensor:
        highest = tf.reduce_max(tf.reshape(scores, [step_size, block_size, count]), axis=1)
        # In the order of the items, by which equal scores go.
        blocks = tf.sort(tf.math.top_k(highest, tf.minimum(k, count), sorted=False).indices, axis=1)
        columns = blocks[:, :, tf.newaxis] + count * tf.range(block_size)
        candidates = tf.gather(scores, tf.reshape(columns, [step_size, -1]), axis=1, batch_dims=1)
        best, place = tf.math.top_k(candidates, k)
        items = tf.gather(blocks, place // block_size, axis=1, batch_dims=1) * block_size + place % block_size
        return tf.where(best == -float("inf"), -1, items)

    return _in_steps(best_of, users, catalogue, masked, step_size, unwanted)


def _in_steps(
    best_of: Callable[[tf.Tensor], tf.Tensor],
    users: tf.Tensor,
    catalogue: tf.Tensor,
    masked: tf.Tensor,
    step_size: tf.Tensor,
    unwanted: tf.Tensor,
) -> tf.Tensor:
    """`best_of` of the scores of `step_size` users after the other, int32 [B, k]."""
    steps, num_items = tf.shape(users)[0] // step_size, tf.shape(catalogue)[1]
    ends = tf.searchsorted(masked[:, 0], tf.range(steps + 1) * step_size)
    unwanted = tf.reshape(tf.range(step_size)[:, tf.newaxis] * num_items + unwanted, [-1])

    def step(number: tf.Tensor) -> tf.Tensor:
        first = number * step_size
        scores = tf.matmul(users[first : first + step_size], catalogue)
        own = masked[ends[number] : ends[number + 1]]
        places = tf.concat([(own[:, 0] - first) * num_items + own[:, 1], unwanted], axis=0)
        lowest = tf.fill([tf.size(places), 1], -float("inf"))
        # In place, which is safe for scores that no other op reads; tf.tensor_scatter_nd_update would copy them all.
        scores = tf.raw_ops.InplaceUpdate(x=tf.reshape(scores, [-1, 1]), i=places, v=lowest)
        return best_of(tf.reshape(scores, [step_size, num_items]))

    output = tf.TensorSpec([None, None], tf.int32)
    best = tf.map_fn(step, tf.range(steps), fn_output_signature=output, parallel_iterations=1)
    return tf.reshape(best, [steps * step_size, -1])


def _check_embeddings(users: Float32Array, items: Float32Array) -> None:
    if users.ndim != 2 or items.ndim != 2 or users.shape[1] != items.shape[1]:
        raise ValueError(f"embeddings must have shapes [users, d] and [items, d], got {users.shape} and {items.shape}")
    largest = 1.0
    for name, table in (("user", users), ("item", items)):
        norms = np.sqrt(np.einsum("nd,nd->n", table, table, dtype=np.float64))
        wrong = np.flatnonzero(~np.isfinite(norms))
        if len(wrong):
            raise ValueError(
                f"{len(wrong)} {name} embeddings hold NaN or infinity, the first in row {wrong[0]}: "
                "did training diverge?"
            )
        largest *= norms.max(initial=0)
    # By Cauchy-Schwarz no score, nor a partial sum of one, can exceed this.
    if largest > np.finfo(np.float32).max:
        raise ValueError(f"scores may reach {largest:.2g}, beyond float32: scale the embeddings down")
