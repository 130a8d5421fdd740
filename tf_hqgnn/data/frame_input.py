"""Logs and items from tables in memory, through the checks that files go through."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from tf_hqgnn.data.anomalies import FileProfile
from tf_hqgnn.data.chunks import ID_COLUMNS, ITEM_COLUMNS
from tf_hqgnn.data.column_names import STANDARD_NAMES, ColumnNames
from tf_hqgnn.data.frames import Frame, to_frame
from tf_hqgnn.data.interaction_table import InteractionTable, combine, kinds_of_ids
from tf_hqgnn.data.items import ItemCatalogue, items_of_batches
from tf_hqgnn.data.log_rules import EVERY_ROW, LogRules
from tf_hqgnn.data.parquet import expected_types, good_rows
from tf_hqgnn.data.parquet_columns import check_kind
from tf_hqgnn.data.report import BadRowLog
from tf_hqgnn.data.time_units import time_unit
from tf_hqgnn.types import InputError

BATCH_ROWS = 1 << 19


def log_frame(table: Any, name: str, columns: ColumnNames = STANDARD_NAMES) -> Frame:
    """The columns of a log.

    Args:
      table: as of `to_frame`.
      name: of the argument, for messages.
      columns: which columns are read, and what they are called.

    Raises:
      InputError: It isn't a table, a column isn't there or is there twice, or a column is of a type that isn't read.
    """
    given = {column: other for column, other in columns.names.items() if column in columns.read}
    frame = to_frame(table, name, ID_COLUMNS, columns.optional, given)
    for column in frame.table.schema:
        check_kind(column.type, name, column.name, expected_types(column.name))
    return frame


def read_frame(frame: Frame, log: BadRowLog, rules: LogRules = EVERY_ROW) -> InteractionTable:
    """Reads interactions of a table in memory, as `interactions.read_table` does; "line" is the row's number from 1.

    Args:
      frame: of `log_frame`.
      log: collects bad rows.
      rules: which rows are interactions and dislikes, and what they weigh.

    Raises:
      InputError: There are too many bad rows, or nothing is left.
    """
    name, rows = frame.name, len(frame.table)
    columns = tuple(column for column in rules.columns.read if column in frame.table.schema.names)
    log.note_unused(rules.columns.unused(frame.found))
    chunks = []
    for start in range(0, rows, BATCH_ROWS):
        chunk = good_rows(name, _batch(frame.table.slice(start, BATCH_ROWS)), start + 1, log)
        if len(chunk.user_id):
            chunks.append(chunk)
    if rows and not chunks:
        raise InputError(f"{name}: no interactions in {rows:,} rows: {log.explain_all(name, rows)}")
    log.check(sum(len(chunk.user_id) for chunk in chunks))
    if not chunks:
        raise InputError(f"{name}: no interactions in 0 rows; expected at least one good row")
    types = {column: "strings" if kind.is_text else "integers" for column, kind in frame.id_types.items()}
    unit = time_unit(name, [chunk.timestamp for chunk in chunks])
    profile = FileProfile(name, None, rows, columns, types, kinds_of_ids(chunks), unit)
    return combine(chunks, [profile], log.bad(name), name, rules, log.unused)


def read_item_frame(table: Any, name: str, columns: Mapping[str, Any] | None = None) -> ItemCatalogue:
    """Reads items from a table in memory, as `items.read_items` does from a file.

    Raises:
      InputError: It isn't a table, or a row has no id, or one that came before.
    """
    required, *optional = ITEM_COLUMNS
    frame = to_frame(table, name, (required,), optional, columns)
    return items_of_batches(name, frame.table.schema, [_batch(frame.table)])


def _batch(table: pa.Table) -> pa.RecordBatch:
    """The rows of a table in one piece."""
    arrays = []
    for column in table.columns:
        whole = column.unify_dictionaries().combine_chunks()
        if isinstance(whole, pa.ChunkedArray):
            # Newer releases give an array, older ones an array of chunks where there isn't exactly one.
            whole = pa.concat_arrays(whole.chunks) if whole.num_chunks else pa.array([], column.type)
        arrays.append(whole)
    return pa.record_batch(arrays, names=table.schema.names)
