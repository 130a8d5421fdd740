"""Generated logs that behave like real ones: communities of taste, Zipf popularity, a long tail of activity."""

from __future__ import annotations

import csv
import errno
import itertools
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tf_hqgnn.data.sorting import stable_argsort
from tf_hqgnn.data.titles import GENRES, make_titles
from tf_hqgnn.files.durable import staged_file
from tf_hqgnn.files.failures import is_disk_full
from tf_hqgnn.types import BoolArray, Float64Array, InputError, Int32Array, Int64Array, IntArray, ObjectArray

_ITEMS_PER_COMMUNITY = 20
_ITEMS_PER_TASTE = 20
_POPULARITY_EXPONENT = 0.6
_ACTIVITY_SIGMA = 0.9
_MIN_ACTIVITY = 5
# Where a user's interactions come from: the finer tastes, the community around them, and the whole catalogue.
_TASTE_SHARE, _COMMUNITY_SHARE = 0.5, 0.35
_TASTES_PER_USER = 2
_ROUNDS = 8
_START, _SECONDS = 1_577_836_800, 2 * 365 * 86_400  # two years from 2020-01-01
ROWS_PER_BATCH = 1 << 20
DRAWS_AT_ONCE = 1 << 21


@dataclass(frozen=True)
class GeneratedLog:
    """Distinct interactions in order of time (at random where there is none), and what is known of the items.

    Args:
      user_ids: object [U] of str.
      item_ids: object [I] of str.
      user_index: int32 [n].
      item_index: int32 [n].
      timestamp: int64 [n], Unix seconds; or None.
      titles: object [I] of str, distinct.
      categories: object [I] of str, each item's community.
      available: bool [I].
      user_categories: object [U] of str, the community that each user likes best (not written to the log).
    """

    user_ids: ObjectArray
    item_ids: ObjectArray
    user_index: Int32Array
    item_index: Int32Array
    timestamp: Int64Array | None
    titles: ObjectArray
    categories: ObjectArray
    available: BoolArray
    user_categories: ObjectArray


def generate_log(
    num_users: int, num_items: int, num_interactions: int, seed: int, *, timestamps: bool = True
) -> GeneratedLog:
    """Generates a log of `num_interactions` distinct (user, item) pairs.

    Items belong to communities and to finer tastes within them. Popularity is rank^-0.6 over the items and rank^-0.5
    over the communities. A user has one community and two tastes in it: half of the interactions come from the tastes,
    35% from the community, the rest from the whole catalogue, always by popularity. How active users are is log-normal,
    with at least 5 interactions where the numbers allow it. So popularity alone explains a part, and a model that finds
    the tastes at least twice as much (a test says so).

    Args:
      num_users: at least 1; every user gets an interaction.
      num_items: at least 1; the least popular may get none.
      num_interactions: between num_users and num_users * num_items.
      seed: the same seed gives the same log.
      timestamps: whether the log has times.

    Raises:
      InputError: A number is out of range.

    Example:
    >>> log = generate_log(20, 50, 200, seed=1)
    >>> len(log.user_index), log.user_ids[0], log.item_ids[0]
    (200, 'u000000', 'i00000')
    """
    _check(num_users, num_items, num_interactions)
    rng = np.random.default_rng(seed)
    community, taste, weight = _make_items(rng, num_items)
    num_communities = int(community[-1]) + 1
    home = _draw_by_weight(rng, _zipf(num_communities, 0.5), num_users)
    degree = _activity(rng, num_users, num_items, num_interactions)
    user_index, item_position = _draw_pairs(rng, home, degree, community, taste, weight)
    # The position of an item tells its taste and popularity: its id must not.
    shuffle = rng.permutation(num_items)
    item_index = shuffle.astype(np.int32)[item_position]
    del item_position
    timestamp, order = _times(rng, user_index, num_users)
    inverse = np.argsort(shuffle)
    genres = np.array(GENRES, object)[rng.permutation(len(GENRES))]
    titles = make_titles(np.array([GENRES.index(genre) for genre in genres])[community], taste)
    return GeneratedLog(
        _make_ids("u", num_users, 6),
        _make_ids("i", num_items, 5),
        user_index[order],
        item_index[order],
        timestamp[order] if timestamps else None,
        titles[inverse],
        genres[community][inverse],
        np.ones(num_items, bool),
        genres[home],
    )


def write_log(log: GeneratedLog, out: str | Path, items_out: str | Path | None = None) -> None:
    """Writes the interactions to CSV or Parquet, by the extension of `out`, and the items to a CSV file.

    Args:
      log: what `generate_log` gave.
      out: ends in .csv or .parquet.
      items_out: a .csv file of item_id, title, category, available; None for none.

    Raises:
      InputError: Another extension, or a place that can't be written to.
    """
    out = Path(out)
    writers: dict[str, Callable[[GeneratedLog, Path], None]] = {".csv": _write_csv, ".parquet": _write_parquet}
    if out.suffix not in writers:
        raise InputError(f"{out}: can't write {out.suffix or 'a file without extension'}; expected .csv or .parquet")
    files = [(writers[out.suffix], out)]
    if items_out is not None:
        files.append((_write_items, Path(items_out)))
    # Neither appears without the other, and none is ever half there.
    with ExitStack() as staged:
        for writer, path in files:
            with _explained(path):
                path.parent.mkdir(parents=True, exist_ok=True)
                writer(log, staged.enter_context(staged_file(path)))


def _check(num_users: int, num_items: int, num_interactions: int) -> None:
    if num_users < 1 or num_items < 1:
        raise InputError(f"{num_users} users and {num_items} items; expected at least one of each")
    if not num_users <= num_interactions <= num_users * num_items:
        raise InputError(
            f"{num_interactions} interactions of {num_users} users with {num_items} items; expected between "
            f"{num_users} (one a user) and {num_users * num_items} (every pair)"
        )


def _zipf(number: int, exponent: float) -> Float64Array:
    return np.arange(1, number + 1) ** -exponent


def _make_items(rng: np.random.Generator, num_items: int) -> tuple[IntArray, IntArray, Float64Array]:
    """Each item's community, finer taste within it, and popularity, sorted by the first two."""
    num_communities = int(np.clip(num_items // _ITEMS_PER_COMMUNITY, 1, len(GENRES)))
    community = np.sort(rng.integers(num_communities, size=num_items))
    community[:num_communities] = np.arange(num_communities)[: min(num_items, num_communities)]
    community.sort()
    num_tastes = np.maximum(np.bincount(community) // _ITEMS_PER_TASTE, 1)
    taste = (rng.random(num_items) * num_tastes[community]).astype(np.int64)
    order = np.lexsort((taste, community))
    community, taste = community[order], taste[order]
    weight = _zipf(num_items, _POPULARITY_EXPONENT)[rng.permutation(num_items)]
    return community, taste, weight * _zipf(num_communities, 0.5)[community]


def _activity(rng: np.random.Generator, num_users: int, num_items: int, num_interactions: int) -> Int64Array:
    """How many interactions each user has: log-normal, `num_interactions` in all; int64 [U]."""
    low = min(_MIN_ACTIVITY, num_interactions // num_users, num_items)
    high = min(num_items, max(num_items // 2, 2 * -(-num_interactions // num_users)))
    size = rng.lognormal(0.0, _ACTIVITY_SIGMA, num_users)
    wanted = num_interactions - low * num_users
    smallest, largest = 0.0, (wanted + 1) / size.min()
    for _ in range(100):
        scale = (smallest + largest) / 2
        total = np.minimum(np.floor(size * scale), high - low).sum()
        smallest, largest = (smallest, scale) if total > wanted else (scale, largest)
    degree: Int64Array = low + np.minimum(np.floor(size * smallest), high - low).astype(np.int64)
    while (rest := num_interactions - int(degree.sum())) > 0:
        degree[rng.permutation(np.flatnonzero(degree < high))[:rest]] += 1
    return degree


def _draw_pairs(
    rng: np.random.Generator,
    home: IntArray,
    degree: Int64Array,
    community: IntArray,
    taste: IntArray,
    weight: Float64Array,
) -> tuple[Int32Array, Int32Array]:
    """Distinct pairs, `degree` of each user; the items as positions in the arrays of `_make_items`."""
    num_users, num_items = len(degree), len(weight)
    cumulative = np.concatenate([[0.0], np.cumsum(weight)])
    community_start = np.searchsorted(community, np.arange(community[-1] + 2))
    # Tastes are numbered over all communities here: cell c is the items from taste_start[c] to taste_start[c + 1].
    cell = np.cumsum(np.concatenate([[0], (np.diff(community) != 0) | (np.diff(taste) != 0)]))
    taste_start = np.searchsorted(cell, np.arange(cell[-1] + 2))
    first_cell = cell[community_start[:-1]]
    num_cells = np.diff(np.append(first_cell, cell[-1] + 1))
    likes = first_cell[home] + (rng.random((_TASTES_PER_USER, num_users)) * num_cells[home]).astype(np.int64)

    pairs, missing = np.empty(0, np.int64), degree.copy()
    for attempt in range(_ROUNDS):
        # A user who has seen all of a taste looks further: each attempt draws more from the whole catalogue.
        draws: Int64Array = missing + (missing // 4 + (missing > 0))
        source = rng.random(draws.sum())
        choice = rng.integers(_TASTES_PER_USER, size=len(source)).astype(np.int8)
        by_taste = _TASTE_SHARE * 0.8**attempt
        by_community = by_taste + _COMMUNITY_SHARE * 0.8**attempt
        merged = []
        for users, rows in _groups(draws):
            user = np.repeat(np.arange(users.start, users.stop), draws[users])
            liked, where = likes[choice[rows], user], source[rows]
            start = np.where(where < by_taste, taste_start[liked], community_start[home[user]])
            stop = np.where(where < by_taste, taste_start[liked + 1], community_start[home[user] + 1])
            start[where >= by_community] = 0
            stop[where >= by_community] = num_items
            low, high = cumulative[start], cumulative[stop]
            item = np.searchsorted(cumulative, low + rng.random(len(user)) * (high - low), side="right") - 1
            drawn = user * num_items + np.clip(item, start, stop - 1)
            known = pairs[slice(*np.searchsorted(pairs, [users.start * num_items, users.stop * num_items]))]
            new = _new_pairs(drawn, known, missing[users], users.start, num_items)
            missing[users] -= np.bincount(new // num_items - users.start, minlength=users.stop - users.start)
            merged.append(np.sort(np.concatenate([known, new])))
        pairs = np.concatenate(merged)
        if not missing.any():
            break
    filled = [_fill(rng, pairs, user, missing[user], num_items) for user in np.flatnonzero(missing)]
    pairs = np.concatenate([pairs, *filled]) if filled else pairs
    return (pairs // num_items).astype(np.int32), (pairs % num_items).astype(np.int32)


def _groups(draws: Int64Array) -> Iterator[tuple[slice, slice]]:
    """Users with about `DRAWS_AT_ONCE` draws together, and the rows of these among all: bounds temporary arrays."""
    ends = np.concatenate([[0], np.cumsum(draws)])
    wanted = np.arange(DRAWS_AT_ONCE, ends[-1], DRAWS_AT_ONCE)
    edges = np.unique(np.concatenate([[0], np.searchsorted(ends, wanted), [len(draws)]]))
    for first, last in itertools.pairwise(edges):
        yield slice(int(first), int(last)), slice(int(ends[first]), int(ends[last]))


def _new_pairs(drawn: Int64Array, pairs: Int64Array, missing: Int64Array, first: int, num_items: int) -> Int64Array:
    """The first `missing` distinct draws of each user from `first` on that aren't in `pairs` (sorted), by user."""
    drawn = drawn[np.sort(np.unique(drawn, return_index=True)[1])]
    if len(pairs):
        place = np.minimum(np.searchsorted(pairs, drawn), len(pairs) - 1)
        drawn = drawn[pairs[place] != drawn]
    user = drawn // num_items - first
    count = np.bincount(user, minlength=len(missing))
    position = np.arange(len(drawn)) - np.repeat(np.cumsum(count) - count, count)
    new: Int64Array = drawn[position < missing[user]]
    return new


def _fill(rng: np.random.Generator, pairs: Int64Array, user: int, number: int, num_items: int) -> Int64Array:
    """`number` unseen items of one user, each as likely as any other: for logs so dense that drawing takes too long."""
    first, last = np.searchsorted(pairs, [user * num_items, (user + 1) * num_items])
    unseen = np.setdiff1d(np.arange(num_items), pairs[first:last] - user * num_items, assume_unique=True)
    return user * num_items + rng.permutation(unseen)[:number]


def _draw_by_weight(rng: np.random.Generator, weight: Float64Array, number: int) -> IntArray:
    cumulative = np.cumsum(weight)
    drawn = np.searchsorted(cumulative, rng.random(number) * cumulative[-1], side="right")
    rows: IntArray = np.minimum(drawn, len(weight) - 1)
    return rows


def _times(rng: np.random.Generator, user_index: IntArray, num_users: int) -> tuple[Int64Array, IntArray]:
    """Unix seconds of each pair, and the order of time; a user is active from some day on, for some while."""
    start = rng.random(num_users) * 0.8
    length = (1 - start) * rng.beta(1.0, 2.0, num_users)
    share = rng.random(len(user_index))
    share *= length[user_index]
    share += start[user_index]
    share *= _SECONDS
    seconds = share.astype(np.int64)
    order = stable_argsort(seconds)
    seconds += _START
    return seconds, order


def _make_ids(prefix: str, number: int, width: int) -> ObjectArray:
    width = max(width, len(str(number - 1)))
    return np.array([f"{prefix}{row:0{width}d}" for row in range(number)], object)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Names the file where it can't be written, and not the name under which it is."""
    try:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        yield
    except OSError as error:
        if is_disk_full(error):
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise InputError(f"{path}: can't be written ({error.strerror}); expected a place for a file") from error


def _tables(log: GeneratedLog) -> Iterator[pa.Table]:
    """The log in parts, with ids spelt out."""
    user_ids, item_ids = pa.array(log.user_ids, pa.utf8()), pa.array(log.item_ids, pa.utf8())
    for start in range(0, len(log.user_index), ROWS_PER_BATCH):
        rows = slice(start, start + ROWS_PER_BATCH)
        columns = {
            "user_id": user_ids.take(pa.array(log.user_index[rows])),
            "item_id": item_ids.take(pa.array(log.item_index[rows])),
        }
        if log.timestamp is not None:
            columns["timestamp"] = pa.array(log.timestamp[rows])
        yield pa.table(columns)


def _write_csv(log: GeneratedLog, path: Path) -> None:
    with path.open("wb") as file:
        file.write(b"user_id,item_id,timestamp\n" if log.timestamp is not None else b"user_id,item_id\n")
        for table in _tables(log):
            # Arrow's own writer would quote every id, and they need none.
            columns = [column.cast(pa.utf8()).combine_chunks() for column in table.columns]
            lines = pc.binary_join_element_wise(pc.binary_join_element_wise(*columns, ","), "", "\n")
            offsets = np.frombuffer(lines.buffers()[1], np.int32)
            file.write(memoryview(lines.buffers()[2])[offsets[0] : offsets[len(lines)]])


def _write_parquet(log: GeneratedLog, path: Path) -> None:
    tables = _tables(log)
    first = next(tables)
    with pq.ParquetWriter(path, first.schema) as writer:
        for table in itertools.chain([first], tables):
            writer.write_table(table)


def _write_items(log: GeneratedLog, path: Path) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["item_id", "title", "category", "available"])
        available = ["true" if value else "false" for value in log.available]
        writer.writerows(zip(log.item_ids, log.titles, log.categories, available))
