"""The rows of a shard's pairs to distinct pairs, by the rules of one machine: they look at one pair at a time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tf_hqgnn.beam.path.read_log import ROWS
from tf_hqgnn.beam.path.sketch import sketch
from tf_hqgnn.beam.path.work import of_message, write_json, write_table
from tf_hqgnn.data.anomalies import FileProfile
from tf_hqgnn.data.interaction_table import InteractionTable
from tf_hqgnn.data.log_rules import LogRules
from tf_hqgnn.data.pairs import distinct_pairs, first_rows, pairs_of_all, settle
from tf_hqgnn.data.report import BadRowLog, ReadReport
from tf_hqgnn.data.splits import TRAIN, random_rank
from tf_hqgnn.data.union import union
from tf_hqgnn.types import Float64Array, Int32Array, Interactions, ObjectArray

# Pairs, each once. `part` is that of the file; null where the split isn't given. `rank` is that of the random split.
PAIRS = pa.schema(
    [
        ("user_id", pa.utf8()),
        ("item_id", pa.utf8()),
        ("timestamp", pa.float64()),
        ("weight", pa.float64()),
        ("part", pa.int8()),
        ("rank", pa.uint64()),
    ]
)
# Pairs that aren't recommended: disliked ones, and all that were taken where those aren't all interactions.
SETS = pa.schema([("user_id", pa.utf8()), ("item_id", pa.utf8()), ("set", pa.utf8())])


class Settle(beam.DoFn):
    """`(shard, rows)` to `pairs-<shard>.parquet`, `sets-<shard>.parquet` and `shard-<shard>.json`.

    Args:
      rules: which rows are interactions and dislikes, and what they weigh.
      seed: of the random split.
      folder: gets the files.
    """

    def __init__(self, rules: LogRules, seed: int, folder: str) -> None:
        self._rules = rules
        self._seed = seed
        self._folder = folder

    def process(self, element: tuple[int, Iterable[bytes]], files: Sequence[dict[str, Any]]) -> None:
        """Writes one shard.

        Args:
          element: the shard and its rows; empty bytes stand for none.
          files: what all files of the log look like.
        """
        shard, messages = element
        tables = [of_message(message) for message in messages if message]
        rows = pa.concat_tables([ROWS.empty_table(), *tables]).combine_chunks()
        ways = _Ways.of(files)
        part_of_row = rows["part"].to_numpy()
        table: InteractionTable | None = None
        is_cut = False
        for part in np.unique(part_of_row):
            some = rows.filter(pa.array(part_of_row == part))
            rules = replace(self._rules, is_later=True)
            settled = _settled(some, rules, ways[int(part)])
            one = _counted(settled)
            is_cut |= one is not settled
            one_part = np.full(len(one), part, np.int8)
            if table is None:
                table, parts = one, one_part
            else:
                table, row = union(table, one, BadRowLog())
                parts = np.where(row >= 0, parts[row], part).astype(np.int8)
        nothing = {"kept": 0, "duplicate": 0, "filtered": 0, "last_time": None, "has_taken": False, "is_cut": False}
        found: dict[str, Any] = {**nothing, "users": [], "items": []}
        rules = self._rules
        limits = rules.min_rating, rules.negative_rating, rules.exclude_events, rules.event_weights
        has_weight = any("weight" in way.columns for way in ways.values())
        may_cut = has_weight or any(limit is not None for limit in limits)
        if table is not None:
            found = {**self._write(shard, table, parts, may_cut), "is_cut": is_cut}
        else:
            write_table(f"{self._folder}/pairs-{shard:05d}.parquet", PAIRS.empty_table())
            write_table(f"{self._folder}/sets-{shard:05d}.parquet", SETS.empty_table())
        write_json(f"{self._folder}/shard-{shard:05d}.json", found)

    def _write(self, shard: int, table: InteractionTable, parts: Any, may_cut: bool) -> dict[str, Any]:
        pairs, size = table.interactions, len(table)
        ids = _ids(table, pairs)
        time = pa.nulls(size, pa.float64()) if pairs.timestamp is None else pa.array(pairs.timestamp)
        weight = np.ones(size) if pairs.weight is None else pairs.weight
        rank = random_rank(table, self._seed)
        columns = [*ids, time, pa.array(weight), pa.array(parts), pa.array(rank)]
        write_table(f"{self._folder}/pairs-{shard:05d}.parquet", pa.table(columns, schema=PAIRS))
        sets = [SETS.empty_table()]
        # Other shards may have rows that count for nothing; then what was taken is written of all of them.
        taken = pairs_of_all(table.interactions, table.disliked) if may_cut and not table.taken else table.taken
        for name, some in (("disliked", table.disliked), ("taken", taken)):
            if some is not None:
                sets.append(pa.table([*_ids(table, some), pa.array([name] * len(some), pa.utf8())], schema=SETS))
        write_table(f"{self._folder}/sets-{shard:05d}.parquet", pa.concat_tables(sets))
        report = table.report
        found = {name: getattr(report, name) for name in ("kept", "duplicate", "filtered", "last_time")}
        return {**found, "has_taken": table.taken is not None, "users": sketch(ids[0]), "items": sketch(ids[1])}


class _Ways:
    """A part of the log as a whole: its columns, its last time and its unit."""

    def __init__(self, columns: frozenset[str], last_time: float | None, profiles: list[FileProfile]) -> None:
        self.columns = columns
        self.last_time = last_time
        self.profiles = profiles

    @staticmethod
    def of(files: Sequence[dict[str, Any]]) -> dict[int, _Ways]:
        ways: dict[int, _Ways] = {}
        for part in {file["file"]["part"] for file in files}:
            own = [file for file in files if file["file"]["part"] == part and file["profile"] is not None]
            profiles = [FileProfile.from_json(file["profile"]) for file in own]
            columns = frozenset(name for profile in profiles for name in profile.columns)
            times = [file["last_time"] for file in own if file["last_time"] is not None]
            ways[part] = _Ways(columns, max(times, default=None), profiles)
        return ways


def _settled(rows: pa.Table, rules: LogRules, ways: _Ways) -> InteractionTable:
    """Distinct pairs of some rows, as `interaction_table.combine` makes them, with nothing that none is left of."""
    name = ways.profiles[-1].name
    (user_ids, user_index), (item_ids, item_index) = (_encode(rows[column]) for column in ("user_id", "item_id"))
    timestamp, rating, given = (
        rows[column].to_numpy().astype(np.float64) if column in ways.columns else None
        for column in ("timestamp", "rating", "weight")
    )
    events, event = _encode(rows["event"]) if "event" in ways.columns else (np.zeros(0, object), None)
    size = len(rows)
    liked, disliked = np.ones(size, bool), np.zeros(size, bool)
    if rating is not None:
        disliked = rating < (-np.inf if rules.negative_rating is None else rules.negative_rating)
        liked = ~disliked & (rating >= (-np.inf if rules.min_rating is None else rules.min_rating))
    by_event = rules.weigh_events(name, events.tolist(), event)
    decay = None
    if rules.half_life_days is not None and ways.last_time is not None and timestamp is not None:
        unit = next((profile.time_unit for profile in ways.profiles if profile.time_unit is not None), None)
        # The age of each row is that at the end of the whole log.
        decay = rules.decay(name, np.append(timestamp, ways.last_time), unit)
        decay = None if decay is None else decay[:-1]
    weight: Float64Array | None = None
    for factor in (given, by_event, decay):
        if factor is not None:
            weight = factor if weight is None else weight * factor
    counts = np.ones(size, bool) if by_event is None else by_event > 0
    is_taken = rules.taken(name, events.tolist(), event, size) | disliked
    kept = liked & counts
    is_all = bool(kept.all() and is_taken.all())
    dislikes = taken = None
    if disliked.any():
        kept, dislikes = settle(user_index, item_index, timestamp, kept, disliked)
    if not is_all:
        taken = distinct_pairs(user_index[is_taken], item_index[is_taken])
        user_index, item_index = user_index[kept], item_index[kept]
        timestamp, rating, weight = (None if x is None else x[kept] for x in (timestamp, rating, weight))
    filtered = size - len(user_index)
    if len(user_index):
        order, weight = first_rows(user_index, item_index, timestamp, rating, weight, rules.combine)
    else:
        order = np.zeros(0, np.int64)
    pairs = Interactions(user_index[order], item_index[order], None if timestamp is None else timestamp[order], weight)
    last = None if timestamp is None or not len(timestamp) else float(timestamp.max())
    report = ReadReport(size, len(order), size - filtered - len(order), filtered, last_time=last)
    return InteractionTable(user_ids, item_ids, pairs, None, report, dislikes, taken)


def _counted(table: InteractionTable) -> InteractionTable:
    """As `interaction_table.counted`, with all ids left where they are."""
    weight = table.weight
    if weight is None or weight.min(initial=1) > 0:
        return table
    counts, report = weight > 0, table.report
    removed = int((~counts).sum())
    taken = table.taken or pairs_of_all(table.interactions, table.disliked)
    report = replace(report, kept=report.kept - removed, filtered=report.filtered + removed)
    return replace(table, interactions=table.interactions.take(counts), report=report, taken=taken)


def _encode(column: pa.ChunkedArray) -> tuple[ObjectArray, Int32Array]:
    if not len(column):
        return np.zeros(0, object), np.zeros(0, np.int32)
    return encode(pa.concat_arrays(column.chunks))


def encode(ids: pa.Array) -> tuple[ObjectArray, Int32Array]:
    """The distinct strings, sorted by code point (object [m]), and each one's place among them (int32 [n])."""
    encoded = ids.dictionary_encode()
    # Arrow compares UTF-8 bytes, whose order is that of the code points.
    order = pc.array_sort_indices(encoded.dictionary)
    rank = np.empty(len(order), np.int32)
    rank[order.to_numpy()] = np.arange(len(order), dtype=np.int32)
    return encoded.dictionary.take(order).to_numpy(zero_copy_only=False), rank[encoded.indices.to_numpy()]


def _ids(table: InteractionTable, pairs: Interactions) -> list[pa.Array]:
    sides = (table.user_ids, pairs.user_index), (table.item_ids, pairs.item_index)
    return [pa.array(ids, pa.utf8()).take(pa.array(index)) for ids, index in sides]


def check_rules(rules: LogRules, files: Sequence[dict[str, Any]]) -> None:
    """Checks that the log as a whole has the columns and events that the rules need, as one machine does.

    Args:
      rules: of the settings.
      files: what the files look like, those of one part.

    Raises:
      InputError: A column isn't there that a rule needs, or an event.
    """
    own = [file for file in files if file["profile"] is not None]
    name, columns = own[-1]["profile"]["name"], set(own[-1]["profile"]["columns"])
    rules.check_columns(name, columns)
    events = sorted({event for file in own for event in file["events"]})
    if own[0]["file"]["part"] == TRAIN:
        rules.taken(name, events, np.zeros(0, np.int32), 0)
