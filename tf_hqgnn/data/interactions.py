"""Interaction logs of any format, as one validated table that doesn't depend on the order of the rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tf_hqgnn.data.adjacency import read_adjacency
from tf_hqgnn.data.anomalies import FileProfile, check_files, id_kinds, id_types
from tf_hqgnn.data.chunks import ID_COLUMNS, Chunk, Chunks
from tf_hqgnn.data.delimited import read_delimited
from tf_hqgnn.data.parquet import read_parquet
from tf_hqgnn.data.report import BadRowLog, BadRows, ReadReport
from tf_hqgnn.data.sorting import stable_argsort
from tf_hqgnn.data.spans import Span
from tf_hqgnn.data.tfrecord import read_tfrecord
from tf_hqgnn.types import InputError, Interactions

__all__ = ["BadRows", "Format", "InteractionTable", "ReadReport", "detect_format", "read_interactions"]

Format = Literal["auto", "csv", "parquet", "inter", "adjacency", "tfrecord"]

_EXTENSIONS = {
    ".csv": "csv",
    ".tsv": "csv",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".inter": "inter",
    ".tfrecord": "tfrecord",
    ".tfrecords": "tfrecord",
}


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

    user_ids: np.ndarray
    item_ids: np.ndarray
    interactions: Interactions
    rating: np.ndarray | None
    weight: np.ndarray | None
    report: ReadReport

    def __len__(self) -> int:
        return len(self.interactions)

    def filter(self, mask: np.ndarray) -> InteractionTable:
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
    format: Format = "auto",
    *,
    min_rating: float | None = None,
    max_bad_rows: int = 0,
    quarantine_path: str | Path | None = None,
) -> InteractionTable:
    """Reads a log of interactions.

    Rows rated below `min_rating` are filtered first. Of the rows of one (user, item) pair the earliest is kept; without
    a timestamp, or at the same time, the one with the highest rating, then the highest weight.

    Args:
      path: the file.
      format: "csv", "parquet", "inter" (RecBole), "adjacency" (LightGCN), "tfrecord" (tf.Example), or "auto": by the
        file's extension, else by its content.
      min_rating: the lowest rating that counts as an interaction.
      max_bad_rows: how many bad rows are tolerated.
      quarantine_path: where bad rows are written; any number is tolerated then.

    Raises:
      InputError: The file is missing or empty, lacks a column, has too many bad rows, or nothing is left of it.
    """
    with BadRowLog(max_bad_rows, quarantine_path) as log:
        return read_table(path, format, log, min_rating)


def read_table(path: str | Path, format: Format, log: BadRowLog, min_rating: float | None) -> InteractionTable:
    """As `read_interactions`, with a log of bad rows that several files can share."""
    return read_spans((Span(Path(path), None),), format, log, min_rating)


def read_spans(
    spans: Sequence[Span],
    format: Format,
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
    for span in spans:
        read = _read_file(span.path, format, log)
        found = log.bad(str(span.path))
        files.append(_profile(span, read, _format(span.path, format), sum(rows.count for rows in found.values())))
        # An odd day in the past has been let through once; only the latest is judged by how many and which.
        limits = (max_growth, max_id_drift) if span is spans[-1] else (None, None)
        check_files(files[-1], files[:-1], *limits)
        bad |= {f"{span.path}: {kind}" if len(spans) > 1 else kind: rows for kind, rows in found.items()}
        chunks += read
    with ThreadPoolExecutor(len(ID_COLUMNS)) as threads:
        columns = ([getattr(chunk, name) for chunk in chunks] for name in ID_COLUMNS)
        (user_ids, user_index), (item_ids, item_index) = threads.map(_encode, columns)
    timestamp, rating, weight = (_column(chunks, name) for name in ("timestamp", "rating", "weight"))
    del chunks
    rows_read = len(user_index)
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
    report = ReadReport(rows_read + num_bad, len(rows), repeated, filtered, bad, tuple(files))
    return InteractionTable(
        user_ids,
        item_ids,
        Interactions(user_index[rows], item_index[rows], None if timestamp is None else timestamp[rows]),
        None if rating is None else rating[rows].astype(np.float32),
        None if weight is None else weight[rows].astype(np.float32),
        report,
    )


def _format(path: Path, format: Format) -> str:
    return detect_format(path) if format == "auto" else format


def _read_file(path: Path, format: Format, log: BadRowLog) -> list[Chunk]:
    """The good rows of one file, at least one."""
    check_file(path)
    kind = _format(path, format)
    readers: dict[str, Callable[[Path, BadRowLog], Chunks]] = {
        "csv": read_delimited,
        "inter": lambda path, log: read_delimited(path, log, inter=True),
        "adjacency": read_adjacency,
        "parquet": read_parquet,
        "tfrecord": read_tfrecord,
    }
    if kind not in readers:
        raise InputError(f"format {kind!r}: expected one of auto, {', '.join(readers)}")
    chunks = [chunk for chunk in readers[kind](path, log) if len(chunk.user_id)]
    log.check()
    if not chunks:
        num_rows = sum(rows.count for rows in log.bad(str(path)).values())
        raise InputError(
            f"{path}: no interactions in {num_rows:,} rows (read as {kind}); expected at least one good row"
        )
    return chunks


def _profile(span: Span, chunks: list[Chunk], format: str, num_bad: int) -> FileProfile:
    """What the file looks like, for `check_files`."""
    columns = tuple(name for name in chunks[0]._fields if getattr(chunks[0], name) is not None)
    kinds = {}
    for name in ID_COLUMNS:
        # A log may begin and end with different things; what is between costs more than it tells.
        ends = [getattr(chunk, name).dictionary for chunk in (chunks[0], chunks[-1])]
        kinds[name] = id_kinds(pc.unique(pa.concat_arrays(ends)))
    rows = num_bad + sum(len(chunk.user_id) for chunk in chunks)
    return FileProfile(str(span.path), span.number, rows, columns, id_types(span.path, format), kinds)


def detect_format(path: Path) -> str:
    """The format by the extension, else by the first bytes.

    Raises:
      InputError: The content is none of the known ones.
    """
    suffixes = [suffix for suffix in path.suffixes if suffix != ".gz"]
    if suffixes and suffixes[-1].lower() in _EXTENSIONS:
        return _EXTENSIONS[suffixes[-1].lower()]
    with open(path, "rb") as file:
        start = file.read(1 << 16)
    if start.startswith(b"PAR1"):
        return "parquet"
    first = start.lstrip(b"\xef\xbb\xbf\r\n").splitlines()[0] if start.strip() else b""
    if b"user_id:" in first or b"item_id:" in first:
        return "inter"
    if b"user_id" in first or b"item_id" in first:
        return "csv"
    if b"\0" not in first and b"," not in first and len(first.split()) > 1:
        return "adjacency"
    raise InputError(
        f"{path}: can't tell the format from the name or the first line {first[:40]!r}; set data.format to csv, "
        "parquet, inter, adjacency or tfrecord"
    )


def check_file(path: Path) -> None:
    """Refuses what isn't a file with something in it.

    Raises:
      InputError: It is a directory, isn't there, or is empty.
    """
    if path.is_dir():
        raise InputError(f"{path}: is a directory; expected a file of interactions")
    if not path.is_file():
        raise InputError(f"{path}: no such file; expected a file of interactions, check data.path")
    if path.stat().st_size == 0:
        raise InputError(f"{path}: the file is empty; expected a header with user_id,item_id and rows of interactions")


def _encode(arrays: list[pa.DictionaryArray]) -> tuple[np.ndarray, np.ndarray]:
    """The sorted distinct strings (object [m]) and each row's position among them (int32 [n])."""
    unified = pa.chunked_array(arrays).unify_dictionaries()
    values = unified.chunk(0).dictionary
    # Arrow compares UTF-8 bytes, whose order is that of the code points.
    order = pc.array_sort_indices(values)
    rank = np.empty(len(values), np.int32)
    rank[order.to_numpy()] = np.arange(len(values), dtype=np.int32)
    codes = np.concatenate([chunk.indices.to_numpy() for chunk in unified.chunks])
    return values.take(order).to_numpy(zero_copy_only=False), rank[codes]


def _column(chunks: list[Chunk], name: str) -> np.ndarray | None:
    """One column of numbers over all chunks, or None where the file has none."""
    parts = [getattr(chunk, name) for chunk in chunks]
    return None if parts[0] is None else np.concatenate(parts)


def _compact(index: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """The rows below `size` that occur in `index`, and `index` as int32 positions among them."""
    used = np.bincount(index, minlength=size) > 0
    position = np.cumsum(used) - 1
    return np.flatnonzero(used), position[index].astype(np.int32)


def _distinct(
    user_index: np.ndarray,
    item_index: np.ndarray,
    timestamp: np.ndarray | None,
    rating: np.ndarray | None,
    weight: np.ndarray | None,
) -> np.ndarray:
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
    return order[np.concatenate([[True], ~same])]
