"""Interaction logs of any format, as one validated table that doesn't depend on the order of the rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tf_hqgnn.data.anomalies import FileProfile, check_files, check_time_units, id_types
from tf_hqgnn.data.chunks import Chunk
from tf_hqgnn.data.column_names import ColumnNames
from tf_hqgnn.data.detect import detect_format
from tf_hqgnn.data.formats.input_format import INPUT_FORMATS
from tf_hqgnn.data.input_file import input_parts, open_input
from tf_hqgnn.data.interaction_table import InteractionTable, combine, kinds_of_ids
from tf_hqgnn.data.log_rules import EVERY_ROW, LogRules
from tf_hqgnn.data.report import BadRowLog, BadRows, ReadReport
from tf_hqgnn.data.spans import Span
from tf_hqgnn.data.time_units import time_unit
from tf_hqgnn.types import InputError

__all__ = ["BadRows", "InteractionTable", "ReadReport", "check_file", "detect_format", "read_interactions"]


def read_interactions(
    path: str | Path,
    format: str = "auto",
    *,
    min_rating: float | None = None,
    max_bad_rows: int = 0,
    quarantine_path: str | Path | None = None,
) -> InteractionTable:
    """Reads a log of interactions.

    Rows rated below `min_rating` are filtered first. The rows of one (user, item) pair become one whose weight is their
    sum, and which has the time and rating of the earliest; without a timestamp, or at the same time, of the one with
    the highest rating, then the highest weight.

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
        return read_table(path, format, log, LogRules(min_rating=min_rating)).compact()


def read_table(path: str | Path, format: str, log: BadRowLog, rules: LogRules = EVERY_ROW) -> InteractionTable:
    """As `read_interactions`, with a log of bad rows that several files can share, and by any rules."""
    return read_spans((Span(Path(path), None),), format, log, rules)


def read_spans(
    spans: Sequence[Span],
    format: str,
    log: BadRowLog,
    rules: LogRules = EVERY_ROW,
    max_growth: float | None = None,
    max_id_drift: float | None = None,
) -> InteractionTable:
    """As `read_table`, from files that are one log: a pair in several of them counts once, as within a file.

    Args:
      spans: the files, oldest first.
      format: of each.
      log: collects bad rows.
      rules: which rows are interactions and dislikes, and what they weigh.
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
        read, profile = _read_span(span, parts[span], format, log, rules.columns)
        files.append(replace(profile, is_first=span.is_first))
        # An odd day in the past has been let through once; only the latest is judged by how many and which.
        limits = (max_growth, max_id_drift) if span is spans[-1] else (None, None)
        check_files(files[-1], files[:-1], *limits)
        for part in parts[span]:
            found = log.bad(str(part))
            bad |= {f"{part}: {kind}" if several else kind: rows for kind, rows in found.items()}
        chunks += read
    return combine(chunks, files, bad, str(spans[-1].path), rules, log.unused)


def _read_span(
    span: Span, parts: Sequence[Path], format: str, log: BadRowLog, columns: ColumnNames
) -> tuple[list[Chunk], FileProfile]:
    """The good rows of one file, or of the parts of a folder, at least one; and what it looks like."""
    chunks: list[Chunk] = []
    profiles: list[FileProfile] = []
    kinds: dict[str, Path] = {}
    for part in parts:
        kind = detect_format(part, columns) if format == "auto" else format
        kinds.setdefault(kind, part)
        if len(kinds) > 1:
            (one, path), (other, _) = kinds.items()
            raise InputError(
                f"{part}: read as {other}, but {path} as {one}; expected one format in a folder, or set data.format"
            )
        read = _read_file(part, kind, log, columns)
        if read:
            num_bad = sum(rows.count for rows in log.bad(str(part)).values())
            profiles.append(_profile(part, span.number, read, kind, num_bad, columns))
            check_files(profiles[-1], profiles[:1] if len(profiles) > 1 else ())
            chunks += read
    log.check(sum(len(chunk.user_id) for chunk in chunks))
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
    return chunks, replace(first, name=str(span.path), rows=rows, kinds=kinds_of_ids(chunks), time_unit=unit)


def _read_file(path: Path, kind: str, log: BadRowLog, columns: ColumnNames) -> list[Chunk]:
    """The good rows of one file; none only if it has no rows at all."""
    try:
        reader = INPUT_FORMATS[kind](columns)
    except ValueError as error:
        raise InputError(f"format {kind!r}: expected one of auto, {', '.join(INPUT_FORMATS.names())}") from error
    chunks = [chunk for chunk in reader.read(path, log) if len(chunk.user_id)]
    num_bad = sum(rows.count for rows in log.bad(str(path)).values())
    if num_bad and not chunks:
        # To leave out all rows is no way on.
        raise InputError(
            f"{path}: no interactions in {num_bad:,} rows (read as {kind}): {log.explain_all(str(path), num_bad)}"
        )
    return chunks


def _profile(
    path: Path, number: int | None, chunks: list[Chunk], format: str, num_bad: int, names: ColumnNames
) -> FileProfile:
    """What the file looks like, for `check_files`."""
    columns = tuple(name for name in chunks[0]._fields if getattr(chunks[0], name) is not None)
    rows = num_bad + sum(len(chunk.user_id) for chunk in chunks)
    unit = time_unit(str(path), [chunk.timestamp for chunk in chunks])
    return FileProfile(str(path), number, rows, columns, id_types(path, format, names), kinds_of_ids(chunks), unit)


def check_file(path: Path) -> None:
    """Refuses what isn't a file, or a folder of part files, with something in it that this process may read.

    Raises:
      InputError: It isn't there, is a pipe or a device, is empty, or may not be read.
    """
    for part in input_parts(path):
        open_input(part).close()
