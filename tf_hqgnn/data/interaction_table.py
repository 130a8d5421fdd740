"""Distinct (user, item) pairs in one order, whatever the order of the rows that they come from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tf_hqgnn.data.anomalies import FileProfile, id_kinds
from tf_hqgnn.data.chunks import ID_COLUMNS, Chunk
from tf_hqgnn.data.ids import odd_ids
from tf_hqgnn.data.log_rules import LogRules
from tf_hqgnn.data.pairs import distinct_pairs, first_rows, move, pairs_of_all, settle
from tf_hqgnn.data.report import BadRows, ReadReport
from tf_hqgnn.types import (
    BoolArray,
    Float32Array,
    Float64Array,
    InputError,
    Int32Array,
    IntArray,
    Interactions,
    ObjectArray,
)


@dataclass(frozen=True)
class InteractionTable:
    """Distinct (user, item) pairs, sorted by user, then item.

    Args:
      user_ids: object [U] of str, sorted by code point. Where some rows are no interactions, some users have none.
      item_ids: object [I] of str; the row of an item is its place.
      interactions: the pairs as rows into these, with the timestamp where the log has one.
      rating: float32 [n], or None.
      report: what became of every row read.
      disliked: pairs that aren't interactions, but dislikes; None where there is none.
      taken: pairs that never come back to their users, dislikes included; None for `interactions` and `disliked`.
    """

    user_ids: ObjectArray
    item_ids: ObjectArray
    interactions: Interactions
    rating: Float32Array | None
    report: ReadReport
    disliked: Interactions | None = None
    taken: Interactions | None = None

    @property
    def weight(self) -> Float64Array | None:
        """float64 [n], or None where all pairs weigh the same."""
        return self.interactions.weight

    def __len__(self) -> int:
        return len(self.interactions)

    def filter(self, mask: BoolArray) -> InteractionTable:
        """The table with the pairs where `mask` (bool [n]) is true; users and items without any are left out."""
        removed = len(self) - int(np.count_nonzero(mask))
        report = replace(self.report, kept=self.report.kept - removed, filtered=self.report.filtered + removed)
        rating = None if self.rating is None else self.rating[mask]
        pairs = self.interactions.take(mask)
        users, items = _used(pairs.user_index, len(self.user_ids)), _used(pairs.item_index, len(self.item_ids))
        return replace(self, interactions=pairs, rating=rating, report=report)._keep(users, items)

    def compact(self, known: tuple[ObjectArray, ObjectArray] | None = None) -> InteractionTable:
        """The table without the items that have no interaction, and the users that have neither one nor a dislike.

        Args:
          known: ids of users and of items that stay all the same.
        """
        # Who only dislikes stays: what is disliked must not come back.
        parts = [self.interactions, *(() if self.disliked is None else (self.disliked,))]
        users = _used(np.concatenate([part.user_index for part in parts]), len(self.user_ids))
        items = _used(self.interactions.item_index, len(self.item_ids))
        if known is not None:
            users = np.union1d(users, np.flatnonzero(np.isin(self.user_ids, known[0])))
            items = np.union1d(items, np.flatnonzero(np.isin(self.item_ids, known[1])))
        if len(users) == len(self.user_ids) and len(items) == len(self.item_ids):
            return self
        return self._keep(users, items)

    def _keep(self, users: IntArray, items: IntArray) -> InteractionTable:
        """The table with these rows of users and items alone, which have all of the interactions."""
        user_row, item_row = _rows_of(users, len(self.user_ids)), _rows_of(items, len(self.item_ids))
        pairs = self.interactions
        return replace(
            self,
            user_ids=self.user_ids[users],
            item_ids=self.item_ids[items],
            interactions=replace(pairs, user_index=user_row[pairs.user_index], item_index=item_row[pairs.item_index]),
            disliked=move(self.disliked, user_row, item_row),
            taken=move(self.taken, user_row, item_row),
        )


def counted(table: InteractionTable) -> InteractionTable:
    """The table without pairs of weight 0, from which nothing is learnt, and which are taken all the same.

    Raises:
      InputError: All weights are 0.
    """
    weight = table.weight
    if weight is None or weight.min() > 0:
        return table
    name = table.report.files[-1].name if table.report.files else "the log"
    if not weight.any():
        raise InputError(f"{name}: every weight is 0; expected pairs with more, or leave out the column weight")
    taken = table.taken or pairs_of_all(table.interactions, table.disliked)
    return replace(table, taken=taken).filter(weight > 0)


def combine(
    chunks: list[Chunk],
    files: Sequence[FileProfile],
    bad: Mapping[str, BadRows],
    name: str,
    rules: LogRules,
    unused: tuple[str, ...] = (),
) -> InteractionTable:
    """One table of distinct pairs from the good rows of a log.

    Args:
      chunks: the rows, at least one; the list is emptied.
      files: what the files look like that they are from.
      bad: the rows that could not be used, by kind.
      name: of the log, for messages.
      rules: which rows are interactions and dislikes, and what they weigh.
      unused: columns of the files that weren't read.

    Raises:
      InputError: A rule needs a column that isn't there, or no row is an interaction by them.
    """
    with ThreadPoolExecutor(len(ID_COLUMNS)) as threads:
        columns = ([getattr(chunk, name) for chunk in chunks] for name in ID_COLUMNS)
        (user_ids, user_index), (item_ids, item_index) = threads.map(_encode, columns)
    has_events = chunks[0].event is not None
    events, event = _encode([chunk.event for chunk in chunks]) if has_events else (np.zeros(0, object), None)
    timestamp, rating, given = (_column(chunks, name) for name in ("timestamp", "rating", "weight"))
    # Else every row would be in memory twice.
    chunks.clear()
    values = {"timestamp": timestamp, "rating": rating, "event": event}
    rules.check_columns(name, [column for column, value in values.items() if value is not None])
    rows_read = len(user_index)
    liked, disliked = rules.opinions(name, rating, rows_read)
    weight, counts, sentences = _row_weights(name, rules, files, events, event, timestamp, given)
    is_taken = rules.taken(name, events.tolist(), event, rows_read) | disliked
    kept = liked & counts
    is_all = kept.all() and is_taken.all()
    dislikes = taken = None
    if disliked.any():
        kept, dislikes = settle(user_index, item_index, timestamp, kept, disliked)
    if not kept.any():
        raise InputError(f"{name}: no row is an interaction: the event of every one weighs 0, or its item is disliked")
    if not is_all:
        taken = distinct_pairs(user_index[is_taken], item_index[is_taken])
        # Ids without an interaction stay: another log may have interactions of theirs.
        user_index, item_index = user_index[kept], item_index[kept]
        timestamp, rating, weight = (None if x is None else x[kept] for x in (timestamp, rating, weight))
    filtered = rows_read - len(user_index)
    rows, weight = first_rows(user_index, item_index, timestamp, rating, weight, rules.combine)
    num_bad = sum(count.count for count in bad.values())
    repeated = rows_read - filtered - len(rows)
    if dislikes is not None:
        sentences += (f"ratings below {rules.negative_rating:g}: {len(dislikes):,} pairs are disliked",)
    if repeated:
        sentences += (_RULES[rules.combine].format(f"{repeated:,}"),)
    counts_all = rating is not None and rules.min_rating is None and rules.negative_rating is None
    report = ReadReport(
        rows_read + num_bad,
        len(rows),
        repeated,
        filtered,
        bad,
        tuple(files),
        (float(rating.min()), float(rating.max())) if counts_all and rating is not None else None,
        odd_ids("user_id", user_ids) + odd_ids("item_id", item_ids),
        sentences,
        unused,
        None if timestamp is None else float(timestamp.max()),
    )
    return InteractionTable(
        user_ids,
        item_ids,
        Interactions(user_index[rows], item_index[rows], None if timestamp is None else timestamp[rows], weight),
        None if rating is None else rating[rows].astype(np.float32),
        report,
        dislikes,
        taken,
    )


_RULES = {
    "sum": "a pair with several rows weighs their sum (data.combine=sum): {} further rows",
    "largest": "a pair with several rows weighs as the heaviest of them (data.combine=largest): {} further rows",
    "last": "a pair with several rows weighs as the last of them (data.combine=last): {} further rows",
}


def _row_weights(
    name: str,
    rules: LogRules,
    files: Sequence[FileProfile],
    events: ObjectArray,
    event: Int32Array | None,
    timestamp: Float64Array | None,
    given: Float64Array | None,
) -> tuple[Float64Array | None, BoolArray | np.bool_, tuple[str, ...]]:
    """What each row weighs, float64 [n] or None where all weigh the same; which events count; and why, in words."""
    sentences: list[str] = []
    if given is not None:
        sentences.append(f"weights go from {given.min():g} to {given.max():g}")
    by_event = rules.weigh_events(name, events.tolist(), event)
    if by_event is not None and event is not None and rules.event_weights is not None:
        counts = np.bincount(event, minlength=len(events))
        parts = [f"{one} {rules.event_weights[one]:g} ({count:,} rows)" for one, count in zip(events, counts)]
        sentences.append(f"weights of events: {', '.join(parts)}")
    unit = next((file.time_unit for file in files if file.time_unit is not None), None)
    decay = rules.decay(name, timestamp, unit)
    if decay is not None:
        sentences.append(f"weights halve every {rules.half_life_days:g} days back from the end of the log")
    weight: Float64Array | None = None
    for factor in (given, by_event, decay):
        if factor is not None:
            weight = factor if weight is None else weight * factor
    return weight, np.bool_(True) if by_event is None else by_event > 0, tuple(sentences)


def kinds_of_ids(chunks: list[Chunk]) -> dict[str, dict[str, float]]:
    """`id_kinds` of both columns."""
    kinds = {}
    for name in ID_COLUMNS:
        # A log may begin and end with different things; what is between costs more than it tells.
        ends = [getattr(chunk, name).dictionary for chunk in (chunks[0], chunks[-1])]
        kinds[name] = id_kinds(pc.unique(pa.concat_arrays(ends)))
    return kinds


def _encode(arrays: list[pa.DictionaryArray]) -> tuple[ObjectArray, Int32Array]:
    """The sorted distinct strings (object [m]) and each row's position among them (int32 [n])."""
    unified = pa.chunked_array(arrays).unify_dictionaries()
    values = unified.chunk(0).dictionary
    # Arrow compares UTF-8 bytes, whose order is that of the code points.
    order = pc.array_sort_indices(values)
    rank = np.empty(len(values), np.int32)
    rank[order.to_numpy()] = np.arange(len(values), dtype=np.int32)
    codes = np.concatenate([chunk.indices.to_numpy() for chunk in unified.chunks])
    return values.take(order).to_numpy(zero_copy_only=False), rank[codes]


def _column(chunks: list[Chunk], name: str) -> Float64Array | None:
    """One column of numbers over all chunks, or None where the file has none."""
    parts = [getattr(chunk, name) for chunk in chunks]
    return None if parts[0] is None else np.concatenate(parts)


def _used(index: IntArray, size: int) -> IntArray:
    """The rows below `size` that occur in `index`, ascending."""
    return np.flatnonzero(np.bincount(index, minlength=size))


def _rows_of(used: IntArray, size: int) -> Int32Array:
    """int32 [size], the position of each row in `used`, -1 where it isn't there."""
    rows = np.full(size, -1, np.int32)
    rows[used] = np.arange(len(used), dtype=np.int32)
    return rows
