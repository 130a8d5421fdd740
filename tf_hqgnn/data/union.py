"""Two logs as one: training and held-out files, or an earlier log and the one that goes on from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from tf_hqgnn.data.anomalies import check_time_units
from tf_hqgnn.data.interaction_table import InteractionTable
from tf_hqgnn.data.log_rules import LogRules
from tf_hqgnn.data.pairs import move, pairs_of_all, without
from tf_hqgnn.data.report import BadRowLog, ReadReport
from tf_hqgnn.types import IntArray, Interactions, concatenate


def aged(old: InteractionTable, new: InteractionTable, rules: LogRules) -> InteractionTable:
    """The earlier log as it weighs at the end of the later one."""
    first, last = old.report.last_time, new.report.last_time
    if first is None or last is None:
        return old
    unit = next((file.time_unit for file in new.report.files if file.time_unit is not None), None)
    halvings = rules.halvings("the log", max(last - first, 0.0), unit)
    if not halvings:
        return old
    weight = np.ones(len(old)) if old.weight is None else old.weight
    return replace(old, interactions=replace(old.interactions, weight=weight * 0.5**halvings))


def union(
    first: InteractionTable, second: InteractionTable, log: BadRowLog, rules: LogRules | None = None
) -> tuple[InteractionTable, IntArray]:
    """The pairs of both tables, and the row in `first` of each, -1 where it is of `second` alone.

    A pair of both is taken as the first has it; what the second dislikes and the first has is an interaction.

    Args:
      first: a table.
      second: another one.
      log: the bad rows of both.
      rules: where the second goes on from the first: what a pair of both weighs, and the second's dislikes count.
        None where the second is held out.
    """
    check_time_units(first.report.files + second.report.files)
    tables = (first, second)
    user_ids, item_ids = (
        np.unique(np.concatenate([getattr(table, name) for table in tables])) for name in ("user_ids", "item_ids")
    )
    rows = [
        [
            np.searchsorted(ids, own).astype(np.int32)
            for ids, own in ((user_ids, one.user_ids), (item_ids, one.item_ids))
        ]
        for one in tables
    ]
    moved = [
        replace(pairs, user_index=users[pairs.user_index], item_index=items[pairs.item_index])
        for pairs, (users, items) in zip((first.interactions, second.interactions), rows)
    ]
    both = concatenate(*moved)
    # Of a pair in both np.unique keeps the first row, which is the first table's.
    keys = both.user_index.astype(np.int64) * len(item_ids) + both.item_index
    distinct, kept, place = np.unique(keys, return_index=True, return_inverse=True)
    repeated = len(keys) - len(kept)
    pairs = both.take(kept)
    if rules is not None and repeated and (both.weight is not None or rules.combine == "sum"):
        weight = np.ones(len(keys)) if both.weight is None else both.weight
        place_of_second = place[len(first) :]
        is_joined = kept[place_of_second] < len(first)
        joined = np.array(weight[kept])
        at = place_of_second[is_joined]
        joined[at] = rules.joined(joined[at], weight[len(first) :][is_joined])
        pairs = replace(pairs, weight=joined)
    ratings = None if first.rating is None or second.rating is None else np.concatenate([first.rating, second.rating])
    report = ReadReport(
        first.report.rows_read + second.report.rows_read,
        len(kept),
        first.report.duplicate + second.report.duplicate + repeated,
        first.report.filtered + second.report.filtered,
        log.bad(),
        first.report.files + second.report.files,
        _range(first.report.ratings, second.report.ratings),
        tuple(dict.fromkeys(first.report.odd_ids + second.report.odd_ids)),
        tuple(dict.fromkeys(first.report.rules + second.report.rules)),
        tuple(dict.fromkeys(first.report.unused + second.report.unused)),
        max((time for time in (first.report.last_time, second.report.last_time) if time is not None), default=None),
    )
    disliked, lost = _dislikes(tables, rows, moved, rules is not None)
    table = InteractionTable(
        user_ids,
        item_ids,
        pairs,
        None if ratings is None else ratings[kept],
        report,
        disliked,
        _taken(tables, rows, moved, disliked),
    )
    from_first = np.where(kept < len(first), kept, -1)
    if lost is not None and len(lost):
        width = len(item_ids)
        stays = ~np.isin(distinct, lost.user_index.astype(np.int64) * width + lost.item_index)
        interactions = pairs.take(stays)
        counts = replace(report, kept=int(stays.sum()), filtered=report.filtered + int((~stays).sum()))
        rating = None if table.rating is None else table.rating[stays]
        return replace(table, interactions=interactions, rating=rating, report=counts), from_first[stays]
    return table, from_first


def _dislikes(
    tables: Sequence[InteractionTable], rows: Sequence[Sequence[IntArray]], moved: Sequence[Interactions], goes_on: bool
) -> tuple[Interactions | None, Interactions | None]:
    """The disliked pairs of two tables together, and the interactions that the second one's dislikes undo."""
    first, second = (move(one.disliked, *to) for one, to in zip(tables, rows))
    if first is None and second is None:
        return None, None
    nothing = moved[0].take(np.zeros(0, np.int64))
    first, second = first or nothing, second or nothing
    if not goes_on:
        # A disliked pair is no interaction of its own log; of the other log it may be one.
        second = without(second, moved[0])
    first = without(first, moved[1])
    return pairs_of_all(first, second), second if goes_on else None


def _taken(
    tables: Sequence[InteractionTable],
    rows: Sequence[Sequence[IntArray]],
    moved: Sequence[Interactions],
    disliked: Interactions | None,
) -> Interactions | None:
    """What never comes back of two tables together; None if that is all of their pairs."""
    if all(one.taken is None for one in tables):
        return None
    parts = [pairs if one.taken is None else move(one.taken, *to) for one, to, pairs in zip(tables, rows, moved)] + [
        disliked
    ]
    return pairs_of_all(*parts)


def _range(*ranges: tuple[float, float] | None) -> tuple[float, float] | None:
    """The range of several, None where none is known."""
    known = [limits for limits in ranges if limits is not None]
    return (min(low for low, _ in known), max(high for _, high in known)) if known else None
