"""Which interactions are for training, validation and testing: by the seed, never by the order of the rows.

A split gives each interaction of a table (in its canonical order) a part: `TRAIN`, `VALID` or `TEST`.
"""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt

from tf_hqgnn.data.interactions import InteractionTable
from tf_hqgnn.data.split_dataset import SplitDataset
from tf_hqgnn.types import Array, BoolArray, Float64Array, InputError, Int64Array, IntArray, Interactions, ObjectArray

__all__ = [
    "TEST",
    "TRAIN",
    "VALID",
    "SplitDataset",
    "divide",
    "k_core",
    "k_core_mask",
    "part_sizes",
    "split_leave_last_out",
    "split_random",
    "split_temporal",
]

TRAIN, VALID, TEST = 0, 1, 2


def k_core(table: InteractionTable, k: int) -> InteractionTable:
    """The largest part of `table` in which every user and every item has at least `k` interactions.

    Removing a user takes interactions from items and the reverse, so it is repeated until nothing changes; the result
    is unique.

    Args:
      table: distinct pairs.
      k: at least 0; 0 and 1 change nothing.

    Raises:
      InputError: Nothing is left.
    """
    mask = k_core_mask(table.interactions, k)
    if not mask.any():
        raise InputError(
            f"k_core={k}: no interaction is left of {len(table):,}; expected users and items with {k} each, "
            "lower data.k_core"
        )
    return table if mask.all() else table.filter(mask)


def k_core_mask(interactions: Interactions, k: int) -> BoolArray:
    """Boolean mask [n] of the interactions in the k-core; they must be distinct pairs."""
    rows = np.arange(len(interactions))
    while k > 1 and len(rows):
        users, items = interactions.user_index[rows], interactions.item_index[rows]
        stays = (np.bincount(users)[users] >= k) & (np.bincount(items)[items] >= k)
        if stays.all():
            break
        rows = rows[stays]
    mask = np.zeros(len(interactions), bool)
    mask[rows] = True
    return mask


def split_random(table: InteractionTable, valid: float, test: float, seed: int) -> npt.NDArray[np.int8]:
    """A random share of each user's interactions, rounded as RecBole and LightGODE do.

    Of a user's n interactions `int(valid * n)` and `int(test * n)` are held out. Then test first, valid second: a part
    whose share is between 0 and 1 interactions gets one, as long as training keeps one. What is held out depends on the
    seed, the user's id and the items' ids alone: other users may come or go.

    Args:
      table: distinct pairs, n of them.
      valid: share for validation, 0 <= valid, valid + test < 1.
      test: share for testing.
      seed: any integer.

    Returns:
      int8 [n]: the part of each interaction.

    Raises:
      InputError: The shares leave nothing for training.

    Reference: RecBole 1.2, `recbole/data/dataset/dataset.py`, `_calcu_split_ids`.
    """
    check_shares(valid, test)
    count = np.bincount(table.interactions.user_index, minlength=len(table.user_ids))
    return random_parts(table.interactions.user_index, count, random_rank(table, seed), valid, test)


def random_parts(
    user_index: IntArray, count: IntArray, rank: npt.NDArray[np.uint64], valid: float, test: float
) -> npt.NDArray[np.int8]:
    """The parts of `split_random`, int8 [n], of users with all of their interactions.

    Args:
      user_index: int [n], ascending.
      count: int [U], the interactions of each user.
      rank: of each interaction, as of `random_rank`.
      valid: share for validation.
      test: share for testing.
    """
    num_train, num_valid, _ = part_sizes(count, valid, test)
    position = _position_within_user(user_index, count, rank)
    part = np.full(len(user_index), TEST, np.int8)
    part[position < (num_train + num_valid)[user_index]] = VALID
    part[position < num_train[user_index]] = TRAIN
    return part


def part_sizes(count: IntArray, valid: float, test: float) -> tuple[Int64Array, Int64Array, Int64Array]:
    """How many of `count` (int [U]) interactions go to train, valid and test (int64 [U] each).

    >>> [sizes.tolist() for sizes in part_sizes(np.array([1, 2, 3, 5, 25]), 0.1, 0.1)]
    [[1, 1, 1, 3, 21], [0, 0, 1, 1, 2], [0, 1, 1, 1, 2]]
    """
    sizes = [np.zeros_like(count, np.int64), (valid * count).astype(np.int64), (test * count).astype(np.int64)]
    sizes[0] = count - sizes[1] - sizes[2]
    for part, share in ((TEST, test), (VALID, valid)):
        raised = (sizes[0] > 1) & (share * count > 0) & (share * count < 1)
        sizes[part] += raised
        sizes[0] -= raised
    return sizes[0], sizes[1], sizes[2]


def split_leave_last_out(table: InteractionTable, seed: int) -> npt.NDArray[np.int8]:
    """Each user's last interaction is for testing, the one before for validation; train is served first.

    A user with two has one for training and one for testing, a user with one has it for training. Interactions of one
    time are ordered at random by the seed.

    Args:
      table: distinct pairs with timestamps, n of them.
      seed: any integer.

    Returns:
      int8 [n]: the part of each interaction.

    Raises:
      InputError: The table has no timestamps.
    """
    timestamp = _timestamps(table, "leave_last_out")
    count = np.bincount(table.interactions.user_index, minlength=len(table.user_ids))
    return last_parts(table.interactions.user_index, count, random_rank(table, seed), timestamp)


def last_parts(
    user_index: IntArray, count: IntArray, rank: npt.NDArray[np.uint64], timestamp: Float64Array
) -> npt.NDArray[np.int8]:
    """The parts of `split_leave_last_out`, int8 [n]; arguments as of `random_parts`, and times float64 [n]."""
    order = np.lexsort((rank, timestamp, user_index))
    from_end = np.empty(len(user_index), np.int64)
    from_end[order] = np.repeat(np.cumsum(count), count) - 1 - np.arange(len(user_index))
    part = np.zeros(len(user_index), np.int8)
    part[(from_end == 0) & (count[user_index] >= 2)] = TEST
    part[(from_end == 1) & (count[user_index] >= 3)] = VALID
    return part


def split_temporal(table: InteractionTable, valid: float, test: float) -> npt.NDArray[np.int8]:
    """Everything after one time is for testing, what is between it and an earlier time for validation.

    The times are the quantiles of all timestamps that give valid and test at most their share: interactions of one time
    are never divided, they stay in the earlier part.

    Args:
      table: distinct pairs with timestamps, n of them.
      valid: share for validation, 0 <= valid, valid + test < 1.
      test: share for testing.

    Returns:
      int8 [n]: the part of each interaction.

    Raises:
      InputError: The table has no timestamps, or too few different ones.
    """
    check_shares(valid, test)
    timestamp = _timestamps(table, "temporal")
    num_test = int(test * len(table))
    num_valid = int(valid * len(table))
    num_train = len(table) - num_test - num_valid
    times = np.partition(timestamp, (num_train - 1, num_train + num_valid - 1))
    part = np.full(len(table), TEST, np.int8)
    part[timestamp <= times[num_train + num_valid - 1]] = VALID
    part[timestamp <= times[num_train - 1]] = TRAIN
    for name, code, share in (("valid", VALID, valid), ("test", TEST, test)):
        if share > 0 and not (part == code).any():
            raise InputError(
                f"data.split.method=temporal: no interaction is late enough for {name} (a share of {share:g} of "
                f"{len(table):,}, {len(np.unique(timestamp)):,} different times); use random or leave_last_out"
            )
    return part


def divide(interactions: Interactions, part: npt.NDArray[np.int8]) -> tuple[Interactions, Interactions, Interactions]:
    """The interactions of train, valid and test, each in the order of `interactions`."""
    train, valid, test = (interactions.take(np.flatnonzero(part == code)) for code in (TRAIN, VALID, TEST))
    return train, valid, test


def check_shares(valid: float, test: float) -> None:
    """Raises InputError for shares that leave nothing for training."""
    if valid < 0 or test < 0 or valid + test >= 1:
        raise InputError(
            f"data.split: valid={valid:g} and test={test:g} leave nothing for training; expected shares of at least 0 "
            "that sum to less than 1"
        )


def check_times(method: str, has_time: bool) -> None:
    """Raises InputError for a split by time of interactions without times."""
    if method != "random" and not has_time:
        raise InputError(
            f"data.split.method={method} needs a column timestamp, which the interactions don't have; "
            "add it or use data.split.method=random"
        )


def _timestamps(table: InteractionTable, method: str) -> Float64Array:
    check_times(method, table.interactions.timestamp is not None)
    assert table.interactions.timestamp is not None
    return table.interactions.timestamp


def _position_within_user(user_index: IntArray, count: IntArray, rank: Array) -> IntArray:
    """Each interaction's place (from 0) among those of its user, by `rank`; `user_index` is sorted."""
    # User, leading bits of the rank and place among the user's as one number: sorting numbers is many times as fast as
    # finding the order that sorts them.
    user_bits, place_bits = (max(int(size - 1).bit_length(), 1) for size in (len(count), count.max(initial=1)))
    first = np.repeat(np.cumsum(count) - count, count)
    place = np.arange(len(rank)) - first
    key = rank >> np.uint64(user_bits + place_bits) << np.uint64(place_bits)
    key |= place.astype(np.uint64)
    key |= user_index.astype(np.uint64) << np.uint64(64 - user_bits)
    key.sort()
    key &= np.uint64((1 << place_bits) - 1)
    position = np.empty(len(rank), np.int64)
    position[first + key.astype(np.int64)] = place
    return position


def random_rank(table: InteractionTable, seed: int) -> npt.NDArray[np.uint64]:
    """A random uint64 for each interaction, a function of the seed and the two ids."""
    user = _hash(table.user_ids, b"user")[table.interactions.user_index]
    item = _hash(table.item_ids, b"item")[table.interactions.item_index]
    return mix(mix(user ^ np.uint64(seed % 2**64)) + item)


def _hash(ids: ObjectArray, kind: bytes) -> npt.NDArray[np.uint64]:
    """64 bits of each id, the same on every machine; uint64."""
    digests = (hashlib.blake2b(name.encode(), digest_size=8, person=kind).digest() for name in ids)
    return np.frombuffer(b"".join(digests), "<u8").astype(np.uint64)


def mix(x: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """The finaliser of splitmix64: every bit of the input changes half of the output's."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
