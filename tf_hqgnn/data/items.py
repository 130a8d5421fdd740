"""What is known of the items: titles, categories, availability."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tf_hqgnn.data.records import records
from tf_hqgnn.types import InputError

_BOM = b"\xef\xbb\xbf"
_AVAILABLE = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


@dataclass(frozen=True)
class ItemCatalogue:
    """Items in the order of their file.

    Args:
      item_ids: object [n] of str, distinct.
      title: object [n] of str, "" where an item has none; None where the file has no such column.
      category: object [n] of str, likewise.
      available: bool [n], likewise.
    """

    item_ids: np.ndarray
    title: np.ndarray | None = None
    category: np.ndarray | None = None
    available: np.ndarray | None = None

    def align(self, item_ids: np.ndarray) -> ItemCatalogue:
        """The catalogue of exactly `item_ids`, in that order; an unknown item has "" and is available.

        >>> catalogue = ItemCatalogue(np.array(["b"], object), title=np.array(["Babe"], object))
        >>> catalogue.align(np.array(["a", "b"], object)).title.tolist()
        ['', 'Babe']
        """
        rows = rows_of(self.item_ids, item_ids)
        return ItemCatalogue(
            item_ids,
            None if self.title is None else np.append(self.title, "")[rows],
            None if self.category is None else np.append(self.category, "")[rows],
            None if self.available is None else np.append(self.available, True)[rows],
        )


def rows_of(ids: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """The places of `wanted` in the distinct `ids`, int64; -1 where it isn't there.

    >>> rows_of(np.array(["b", "a"], object), np.array(["a", "c"], object)).tolist()
    [1, -1]
    """
    place = {name: number for number, name in enumerate(ids)}
    return np.array([place.get(name, -1) for name in wanted], np.int64)


def read_items(path: str | Path) -> ItemCatalogue:
    """Reads a CSV file with `item_id` and any of `title`, `category`, `available`; other columns are ignored.

    Args:
      path: UTF-8 text; `available` is true, false, 1, 0, yes or no in any case.

    Raises:
      InputError: The file is missing or empty, or a row has no id, an id that came before, another number of columns
        than the header, or isn't UTF-8. Always with the line.
    """
    path = Path(path)
    try:
        text = path.read_bytes().removeprefix(_BOM)
    except IsADirectoryError as error:
        raise InputError(f"{path}: is a directory; expected a file of items") from error
    except OSError as error:
        raise InputError(f"{path}: {(error.strerror or 'unreadable').lower()}; check data.items_path") from error
    if not text.strip():
        raise InputError(f"{path}: the file is empty; expected a header with item_id and title, category, available")
    names: list[str] = []
    columns: dict[str, list[str]] = {}
    lines: dict[str, int] = {}
    for record in records(text, b","):
        where = f"{path} line {record.line}"
        if record.fields is None:
            raise InputError(f'{where}: broken quoting; expected fields such as title or "title"')
        try:
            fields = [value.decode() for value in record.fields]
        except UnicodeDecodeError as error:
            raise InputError(f"{where}: undecodable bytes; expected UTF-8 text") from error
        if not names:
            names = [name.strip() for name in fields]
            _check_names(path, names)
            columns = {name: [] for name in ("item_id", "title", "category", "available") if name in names}
            continue
        if len(fields) != len(names):
            raise InputError(f"{where}: {len(fields)} columns; expected {len(names)} as in the header, quote commas")
        row = dict(zip(names, fields))
        item_id = row["item_id"]
        if not item_id:
            raise InputError(f"{where}: missing item_id; expected one in every row")
        if item_id in lines:
            raise InputError(f"{where}: item_id {item_id!r} came before in line {lines[item_id]}; expected it once")
        if row.get("available", "true").strip().lower() not in _AVAILABLE:
            raise InputError(f"{where}: available is {row['available']!r}; expected true, false, 1, 0, yes or no")
        lines[item_id] = record.line
        for name, values in columns.items():
            values.append(row[name])
    available = columns.get("available")
    return ItemCatalogue(
        np.array(columns["item_id"], object),
        np.array(columns["title"], object) if "title" in columns else None,
        np.array(columns["category"], object) if "category" in columns else None,
        None if available is None else np.array([_AVAILABLE[value.strip().lower()] for value in available], bool),
    )


def _check_names(path: Path, names: list[str]) -> None:
    if names.count("item_id") != 1:
        problem = "no column item_id" if "item_id" not in names else "column item_id appears more than once"
        raise InputError(
            f"{path}: {problem}; expected item_id and any of title, category, available, found: {', '.join(names)}"
        )
