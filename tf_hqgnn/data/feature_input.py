"""Features of users and items, out of files or tables in memory; several of them are joined by id."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from tf_hqgnn.data.attribute_rows import Attributes, Part, checked_rows, file_parts, shown, table_part
from tf_hqgnn.data.chunks import ITEM_COLUMNS
from tf_hqgnn.data.feature_table import KINDS, FeatureTable
from tf_hqgnn.data.frames import library_of, to_frame
from tf_hqgnn.data.input_file import paths_of
from tf_hqgnn.types import InputError

Holds = Literal["items", "users"]
# The names that a setting gives, or every column that isn't there for something else.
Names = tuple[str, ...] | Literal["auto", "all"]
# As programs write that nothing is known; `none` and `NA` may be values.
_NOTHING = frozenset(("nan", "null", "n/a", "<na>", "nat"))
_IDS = {"items": "item_id", "users": "user_id"}
_PATHS = {"items": "data.items_path", "users": "data.users_path"}
_SETTINGS = {"items": "data.item_features", "users": "data.user_features"}


def read_features(
    source: Any, holds: Holds, names: Names, columns: Mapping[str, Any] | None = None
) -> FeatureTable | None:
    """Reads the columns of features.

    Args:
      source: a path, a table of pandas, polars or Arrow, or a list of these, which are joined by id; of a value that
        more than one has, the first counts.
      holds: `items` or `users`.
      names: of columns, with the kind behind a colon where the values shouldn't decide it (`title:text`); `auto` takes
        every column but the ids, `title`, `category` and `available`; `all` takes these three, too.
      columns: what the column of ids is called where it isn't there under its own name, as `{"user_id": "userId"}`.

    Returns:
      The table; None if `names` is empty, or `auto` finds no column.

    Raises:
      InputError: A file can't be read, or has no such column.

    Example:
      >>> import pandas as pd
      >>> films = pd.DataFrame({"item_id": [7], "year": [1995], "genres": [["Drama", "War"]]})
      >>> read_features(films, "items", "auto").pairs().tolist()
      [['year=1995', 'genres=Drama|War']]
    """
    if not names:
        return None
    kinds = {} if names in ("auto", "all") else dict(map(_split_kind, names))
    if kinds and len(kinds) < len(names):
        raise InputError(f"{_SETTINGS[holds]}: a column is named twice, got {', '.join(names)}; expected each once")
    found: list[str] = []

    def pick(header: Sequence[str]) -> list[str]:
        others = [name for name in header if name not in (*(ITEM_COLUMNS if names != "all" else ()), "user_id", "")]
        others = [name for name in others if name != _IDS[holds]]
        found.extend(others)
        chosen = others if names in ("auto", "all") else [name for name in kinds if name in header]
        for name in chosen:
            if "=" in name:
                raise InputError(f"{_SETTINGS[holds]}: a column of features can't have = in its name, as {name!r} has")
        return [_IDS[holds], *chosen]

    what = Attributes(
        _IDS[holds], holds, _PATHS[holds], f"{_IDS[holds]} and features", pick, types=lambda _: None, numbers=None
    )
    if _IDS[holds] in (columns or {}):
        what = what._replace(names={_IDS[holds]: str((columns or {})[_IDS[holds]])})
    table: FeatureTable | None = None
    for parts in _sources(source, holds, what, columns or {}):
        one = _read(parts, what)
        table = one if table is None else table.over(one)
    if table is None:
        return None
    for name in kinds:
        if name not in table.columns:
            close = difflib.get_close_matches(name, found, 1)
            meant = f"; did you mean {close[0]!r}?" if close else ""
            if name.rpartition(":")[0] in found:
                meant = f"; a kind behind a name is one of {', '.join(KINDS)}"
            raise InputError(f"{_SETTINGS[holds]}: no column {name!r} in the {holds}, found: {shown(found)}{meant}")
    return FeatureTable(table.ids, table.columns, {k: v for k, v in kinds.items() if v}) if table.columns else None


def sources_of(source: Any) -> list[Any]:
    """Returns the paths or tables that a caller names, one by one."""
    if isinstance(source, str | os.PathLike):
        return list(paths_of(os.fspath(source)))
    if isinstance(source, list | tuple):
        return [one for part in source for one in sources_of(part)]
    return [source]


def _sources(source: Any, holds: Holds, what: Attributes, columns: Mapping[str, Any]) -> Iterable[Iterable[Part]]:
    for one in sources_of(source):
        if isinstance(one, os.PathLike):
            yield file_parts(paths_of(os.fspath(one))[0], what)
            continue
        if library_of(one) is None:
            raise InputError(f"{holds}: expected a table, a path or a list of these, got {type(one).__name__}")
        found = list(getattr(one, "column_names", getattr(one, "columns", ())))
        header = [str(name) for name in found]
        id_column = _IDS[holds]
        renamed = {id_column: columns[id_column]} if columns.get(id_column) in header else {}
        wanted = [name for name in what.pick(header)[1:] if name not in renamed.values()]
        # pandas may have numbers for names.
        renamed |= {str(name): name for name in found if not isinstance(name, str) and str(name) in wanted}
        frame = to_frame(one, holds, (id_column,), wanted, renamed)
        yield [table_part(holds, frame.table.schema, frame.table.to_batches(), what)]


def _read(parts: Iterable[Part], what: Attributes) -> FeatureTable:
    ids: list[str] = []
    columns: dict[str, list[str]] = {}
    places: dict[str, str] = {}
    for part in parts:
        columns = columns or {name: [] for name in part.columns[1:]}
        if list(columns) != part.columns[1:]:
            raise InputError(f"{part.name}: expected the columns {', '.join(columns)}, as in the files before it")
        for _, values in checked_rows(part, what.id_column, places):
            ids.append(values[what.id_column])
            for name, texts in columns.items():
                text = values[name].strip()
                texts.append("" if text.lower() in _NOTHING else text)
    return FeatureTable(np.array(ids, object), {name: np.array(texts, object) for name, texts in columns.items()})


def _split_kind(name: str) -> tuple[str, str]:
    column, _, kind = name.rpartition(":")
    return (column, kind) if column and kind in KINDS else (name, "")
