"""Interaction logs of any format, as one validated table that doesn't depend on the order of the rows."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tf_hqgnn.data.anomalies import FileProfile, check_files, check_time_units, id_kinds, id_types
from tf_hqgnn.data.chunks import ID_COLUMNS, Chunk
from tf_hqgnn.data.detect import detect_format
from tf_hqgnn.data.formats.input_format import INPUT_FORMATS
from tf_hqgnn.data.ids import odd_ids
from tf_hqgnn.data.input_file import input_parts, open_input
from tf_hqgnn.data.report import BadRowLog, BadRows, ReadReport
from tf_hqgnn.data.sorting import stable_argsort
from tf_hqgnn.data.spans import Span
from tf_hqgnn.data.time_units import time_unit
from tf_hqgnn.types import (
    BoolArray,
    Float32Array,
    Float64Array,
    FloatArray,
    InputError,
    Int32Array,
    Int64Array,
    IntArray,
    Interactions,
    ObjectArray,
)

__all__ = ["BadRows", "InteractionTable", "ReadReport", "check_file", "detect_format", "read_interactions"]


@dataclass(frozen=True)
class InteractionTable:
    """Distinct (user, item) pairs, sorted by user, then item.

    Args:
      user_ids: object [U] of str, sorted by code point; each has at least one interaction.
      item_ids: object [I] of str, likewise.
      interactions: the pairs as rows into these, with the timestamp where the log has one.
      rating: float32 [n], or None.
      weight: float32 [n], or None.
      report: what became of every row read.
    """

    user_ids: ObjectArray
    item_ids: ObjectArray
    interactions: Interactions
    rating: Float32Array | None
    weight: Float32Array | None
    report: ReadReport

    def __len__(self) -> int:
        return len(self.interactions)

    def filter(self, mask: BoolArray) -> InteractionTable:
        """The table with the pairs where `mask` (bool [n]) is true; users and items without any are left out."""
        users, user_index = _compact(self.interactions.user_index[mask], len(self.user_ids))
        items, item_index = _compact(self.interactions.item_index[mask], len(self.item_ids))
        removed = len(self) - len(user_index)
        report = replace(self.report, kept=self.report.kept - removed, filtered=self.report.filtered + removed)
        timestamp = self.interactions.timestamp
        return InteractionTable(
            self.user_ids[users],
            self.item_ids[items],
            Interactions(user_index, item_index, None if timestamp is None else timestamp[mask]),
            None if self.rating is None else self.rating[mask],
            None if self.weight is None else self.weight[mask],
            report,
        )


def read_interactions(
    path: str | Path,
    format: str = "auto",
    *,
    min_rating: float | None = None,
    max_bad_rows: int = 0,
    quarantine_path: str | Path | None = None,
) -> InteractionTable:
    """Reads a log of interactions.

    Rows rated below `min_rating` are filtered first. Of the rows of one (user, item) pair the earliest is kept; without
    a timestamp, or at the same time, the one with the highest rating, then the highest weight.

    Args:
      path: the file, or a folder with part files.
      format: "csv", "parquet", "inter" (RecBole), "adjacency" (LightGCN), "tfrecord" (tf.Example), or "auto": by the
        file's extension, else by its content.
      min_rating: the lowest rating that counts as an interaction.
      max_bad_rows: how many bad rows are tolerated.
      quarantine_path: where bad rows are written (see `Quarantine`); any number is tolerated then.

    Raises:
      InputError: The file is missing or empty, lacks a column, has too many bad rows, or nothing is left of it.
    """
    with BadRowLog(max_bad_rows, quarantine_path, [Path(path)]) as log:
        return read_table(path, format, log, min_rating)


def read_table(path: str | Path, format: str, log: BadRowLog, min_rating: float | None) -> InteractionTable:
    """As `read_interactions`, with a log of bad rows that several files can share."""
    return read_spans((Span(Path(path), None),), format, log, min_rating)


def read_spans(
    spans: Sequence[Span],
    format: str,
    log: BadRowLog,
    min_rating: float | None,
    max_growth: float | None = None,
    max_id_drift: float | None = None,
) -> InteractionTable:
    """As `read_table`, from files that are one log: a pair in several of them counts once, as within a file.

    Args:
      spans: the files, oldest first.
      format: of each.
      log: collects bad rows.
      min_rating: the lowest rating that counts as an interaction.
      max_growth: of `check_files`, to which the last file is held; columns and types must agree in all.
      max_id_drift: likewise.

    Raises:
      InputError: As `read_interactions`, or a file isn't like those before it.
    """
    chunks: list[Chunk] = []
    files: list[FileProfile] = []
    bad: dict[str, BadRows] = {}
    parts = {span: input_parts(span.path) for span in spans}
    several = sum(map(len, parts.values())) > 1
    for span in spans:
        read, profile = _read_span(span, parts[span], format, log)
        files.append(profile)
        # An odd day in the past has been let through once; only the latest is judged by how many and which.
        limits = (max_growth, max_id_drift) if span is spans[-1] else (None, None)
        check_files(files[-1], files[:-1], *limits)
        for part in parts[span]:
            found = log.bad(str(part))
            bad |= {f"{part}: {kind}" if several else kind: rows for kind, rows in found.items()}
        chunks += read
    with ThreadPoolExecutor(len(ID_COLUMNS)) as threads:
        columns = ([getattr(chunk, name) for chunk in chunks] for name in ID_COLUMNS)
        (user_ids, user_index), (item_ids, item_index) = threads.map(_encode, columns)
    timestamp, rating, weight = (_column(chunks, name) for name in ("timestamp", "rating", "weight"))
    del chunks
    rows_read = len(user_index)
    ratings = None
    if min_rating is None and rating is not None:
        ratings = float(rating.min()), float(rating.max())
    if min_rating is not None:
        path = spans[-1].path
        if rating is None:
            raise InputError(f"{path}: min_rating={min_rating} needs a column rating, which the file doesn't have")
        mask = rating >= min_rating
        if not mask.any():
            raise InputError(f"{path}: no rating reaches min_rating={min_rating}, the highest is {rating.max():g}")
        users, user_index = _compact(user_index[mask], len(user_ids))
        items, item_index = _compact(item_index[mask], len(item_ids))
        user_ids, item_ids = user_ids[users], item_ids[items]
        timestamp, rating, weight = (None if x is None else x[mask] for x in (timestamp, rating, weight))
    filtered = rows_read - len(user_index)
    rows = _distinct(user_index, item_index, timestamp, rating, weight)
    num_bad = sum(count.count for count in bad.values())
    repeated = rows_read - filtered - len(rows)
    odd = odd_ids("user_id", user_ids) + odd_ids("item_id", item_ids)
    report = ReadReport(rows_read + num_bad, len(rows), repeated, filtered, bad, tuple(files), ratings, odd)
    return InteractionTable(
        user_ids,
        item_ids,
        Interactions(user_index[rows], item_index[rows], None if timestamp is None else timestamp[rows]),
        None if rating is None else rating[rows].astype(np.float32),
        None if weight is None else weight[rows].astype(np.float32),
        report,
    )


def _read_span(span: Span, parts: Sequence[Path], format: str, log: BadRowLog) -> tuple[list[Chunk], FileProfile]:
    """The good rows of one file, or of the parts of a folder, at least one; and what it looks like."""
    chunks: list[Chunk] = []
    profiles: list[FileProfile] = []
    kinds: dict[str, Path] = {}
    for part in parts:
        kind = detect_format(part) if format == "auto" else format
        kinds.setdefault(kind, part)
        if len(kinds) > 1:
            (one, path), (other, _) = kinds.items()
            raise InputError(
                f"{part}: read as {other}, but {path} as {one}; expected one format in a folder, or set data.format"
            )
        read = _read_file(part, kind, log)
        if read:
            num_bad = sum(rows.count for rows in log.bad(str(part)).values())
            profiles.append(_profile(part, span.number, read, kind, num_bad))
            check_files(profiles[-1], profiles[:1] if len(profiles) > 1 else ())
            chunks += read
    log.check()
    check_time_units(profiles)
    if not chunks:
        raise InputError(
            f"{span.path}: no interactions in 0 rows (read as {', '.join(kinds)}); expected at least one good row"
        )
    first = profiles[0]
    if len(profiles) == 1 and len(parts) == 1:
        return chunks, first
    rows = sum(profile.rows for profile in profiles)
    unit = next((profile.time_unit for profile in profiles if profile.time_unit is not None), None)
    return chunks, replace(first, name=str(span.path), rows=rows, kinds=_kinds(chunks), time_unit=unit)


def _read_file(path: Path, kind: str, log: BadRowLog) -> list[Chunk]:
    """The good rows of one file; none only if it has no rows at all."""
    try:
        reader = INPUT_FORMATS[kind]()
    except ValueError as error:
        raise InputError(f"format {kind!r}: expected one of auto, {', '.join(INPUT_FORMATS.names())}") from error
    chunks = [chunk for chunk in reader.read(path, log) if len(chunk.user_id)]
    num_bad = sum(rows.count for rows in log.bad(str(path)).values())
    if num_bad and not chunks:
        # To leave out all rows is no way on.
        raise InputError(
            f"{path}: no interactions in {num_bad:,} rows (read as {kind}), none of them is good: "
            f"{log.explain(str(path))}"
        )
    return chunks


def _profile(path: Path, number: int | None, chunks: list[Chunk], format: str, num_bad: int) -> FileProfile:
    """What the file looks like, for `check_files`."""
    columns = tuple(name for name in chunks[0]._fields if getattr(chunks[0], name) is not None)
    rows = num_bad + sum(len(chunk.user_id) for chunk in chunks)
    unit = time_unit(str(path), [chunk.timestamp for chunk in chunks])
    return FileProfile(str(path), number, rows, columns, id_types(path, format), _kinds(chunks), unit)


def _kinds(chunks: list[Chunk]) -> dict[str, dict[str, float]]:
    """`id_kinds` of both columns."""
    kinds = {}
    for name in ID_COLUMNS:
        # A log may begin and end with different things; what is between costs more than it tells.
        ends = [getattr(chunk, name).dictionary for chunk in (chunks[0], chunks[-1])]
        kinds[name] = id_kinds(pc.unique(pa.concat_arrays(ends)))
    return kinds


def check_file(path: Path) -> None:
    """Refuses what isn't a file, or a folder of part files, with something in it that this process may read.

    Raises:
      InputError: It isn't there, is a pipe or a device, is empty, or may not be read.
    """
    for part in input_parts(path):
        open_input(part).close()


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


def _compact(index: IntArray, size: int) -> tuple[IntArray, Int32Array]:
    """The rows below `size` that occur in `index`, and `index` as int32 positions among them."""
    used = np.bincount(index, minlength=size) > 0
    position = np.cumsum(used) - 1
    return np.flatnonzero(used), position[index].astype(np.int32)


def _distinct(
    user_index: Int32Array,
    item_index: Int32Array,
    timestamp: Float64Array | None,
    rating: FloatArray | None,
    weight: FloatArray | None,
) -> IntArray:
    """The rows that hold the preferred occurrence of each pair, by user, then item."""
    by_item = stable_argsort(item_index)
    order = by_item[stable_argsort(user_index[by_item])]
    del by_item
    users, items = user_index[order], item_index[order]
    same = (users[1:] == users[:-1]) & (items[1:] == items[:-1])
    if not same.any():
        return order
    # Only rows of repeated pairs need the sort by every column.
    repeated = np.zeros(len(order), bool)
    repeated[1:] |= same
    repeated[:-1] |= same
    rows = order[repeated]
    preferences = [
        column[rows] * sign for column, sign in ((weight, -1), (rating, -1), (timestamp, 1)) if column is not None
    ]
    order[repeated] = rows[np.lexsort((*preferences, items[repeated], users[repeated]))]
    first: Int64Array = order[np.concatenate([[True], ~same])]
    return first
