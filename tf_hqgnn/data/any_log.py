"""Logs, items and users in whatever form a caller of Python has them: a table in memory, or a path."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from tf_hqgnn.config import DataConfig
from tf_hqgnn.data.chunks import ID_COLUMNS, ITEM_COLUMNS
from tf_hqgnn.data.column_names import COLUMNS
from tf_hqgnn.data.feature_input import read_features
from tf_hqgnn.data.feature_table import FeatureTable
from tf_hqgnn.data.frame_input import log_frame, read_frame, read_item_frame
from tf_hqgnn.data.frames import library_of
from tf_hqgnn.data.id_types import IdType
from tf_hqgnn.data.interaction_table import InteractionTable
from tf_hqgnn.data.interactions import read_spans
from tf_hqgnn.data.items import ItemCatalogue, read_items
from tf_hqgnn.data.log_rules import LogRules
from tf_hqgnn.data.report import BadRowLog, ReadReport
from tf_hqgnn.data.spans import resolve_spans
from tf_hqgnn.types import InputError

Columns = Mapping[str, Any]


@dataclass(frozen=True)
class LogInput:
    """A log that was read.

    Args:
      table: its distinct pairs.
      id_types: of users and items, by the names of their columns.
      library: of which answers are made.
    """

    table: InteractionTable
    id_types: Mapping[str, IdType]
    library: Literal["pandas", "polars"]


def read_log(
    log: Any,
    name: str,
    config: DataConfig,
    bad_rows: BadRowLog,
    columns: Columns | None = None,
    pairs_only: bool = False,
    is_later: bool = False,
) -> LogInput:
    """Reads a log of interactions.

    Args:
      log: a DataFrame of pandas or polars, an Arrow table, a scipy sparse matrix, or a path as of `data.path`.
      name: of the argument, for messages.
      config: says which rows count.
      bad_rows: collects the others.
      columns: what columns are called in the table or file; these names come before those of `data.columns`.
      pairs_only: whether weights don't matter: columns that they need may be missing.
      is_later: whether the log goes on from another: it may lack an event of `data.exclude_events`.

    Raises:
      InputError: It can't be read; one line says what, where and how to mend it.
    """
    given = {key: value for key, value in _checked(columns).items() if key not in ITEM_COLUMNS[1:]}
    rules = replace(LogRules.of(config, given), is_later=is_later)
    rules = rules.of_pairs() if pairs_only else rules
    if not _is_path(log):
        frame = log_frame(log, name, rules.columns)
        return LogInput(read_frame(frame, bad_rows, rules), frame.id_types, frame.library)
    spans = resolve_spans(os.fspath(log), config.num_spans)
    limits = config.max_growth, config.max_id_drift
    table = read_spans(spans, config.format, bad_rows, rules, *limits)
    return LogInput(table, id_types_of(table.report), "pandas")


def check_ids(table: InteractionTable, name: str, id_types: Mapping[str, IdType]) -> None:
    """Refuses ids of another log that can't be of the types that ids are answered in.

    Raises:
      InputError: It names the column, and what is wrong with an id.
    """
    for column, ids in (("user_id", table.user_ids), ("item_id", table.item_ids)):
        try:
            id_types[column].decode(ids)
        except ValueError as error:
            raise InputError(
                f"{name}: {column} is of type {id_types[column].name} in the log that was learnt from ({error}); "
                "expected ids of one type, cast the column"
            ) from error


def id_types_of(report: ReadReport) -> dict[str, IdType]:
    """The types of ids by what the files of a log tell of them: only Parquet has integers."""
    last = report.files[-1].types if report.files else {}
    return {name: IdType("int64") if last.get(name) == "integers" else IdType() for name in ID_COLUMNS}


def read_any_items(items: Any, columns: Columns | None = None) -> ItemCatalogue:
    """Reads what is known of items.

    Args:
      items: a table as of `read_log`, with `item_id` and any of `title`, `category` and `available`, its path, or a
        list of these.
      columns: what columns are called; those that this table doesn't have are left to the log.

    Raises:
      InputError: It can't be read, or an item is in it twice.
    """
    if isinstance(items, list | tuple):
        first, *others = (read_any_items(one, columns) for one in items)
        for other in others:
            first = first.over(other)
        return first
    if _is_path(items):
        return read_items(os.fspath(items), {key: str(value) for key, value in _checked(columns).items()})
    found = list(getattr(items, "column_names", getattr(items, "columns", ())))
    given = {key: value for key, value in _checked(columns).items() if key in ITEM_COLUMNS}
    return read_item_frame(items, "items", {key: value for key, value in given.items() if value in found})


def read_any_features(
    users: Any, items: Any, config: DataConfig, columns: Columns | None = None, is_later: bool = False
) -> tuple[FeatureTable | None, FeatureTable | None]:
    """Reads the features of users and items that the settings name.

    Args:
      users: as `items`; None for those of `data.users_path`.
      items: as of `read_any_items`.
      config: `user_features` and `item_features` name the columns.
      columns: as of `read_any_items`.
      is_later: whether features may be missing all the same, because earlier ones are known.

    Raises:
      InputError: They can't be read, a column isn't there, or the settings name some and there are none.
    """
    users = config.users_path if users is None else users
    for holds, source, names in (("user", users, config.user_features), ("item", items, config.item_features)):
        if source is None and names not in ((), "auto") and not is_later:
            raise InputError(
                f"data.{holds}_features names columns of {holds}s, which are missing; pass {holds}s= with them, or set "
                f"data.{holds}s_path"
            )
    return (
        None if users is None else read_features(users, "users", config.user_features, columns),
        None if items is None else read_features(items, "items", config.item_features, columns),
    )


def _checked(columns: Columns | None) -> Columns:
    """The mapping of columns, whose keys are all known."""
    if columns is None:
        return {}
    known = (*COLUMNS, *ITEM_COLUMNS[1:])
    if not isinstance(columns, Mapping):
        raise InputError(f"columns: expected a mapping such as {{'user_id': 'userId'}}, got {columns!r}")
    for key in columns:
        if key not in known:
            raise InputError(f"columns: {key!r} is not a column that a log can have; expected {', '.join(known)}")
    return columns


def _is_path(value: Any) -> bool:
    if isinstance(value, str | os.PathLike):
        return True
    if library_of(value) is None and hasattr(value, "read"):
        raise InputError("expected a table or a path, got an open file; pass its name")
    return False
