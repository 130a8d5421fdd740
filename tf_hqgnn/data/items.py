"""What is known of the items: titles, categories, availability."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from tf_hqgnn.data.chunks import ITEM_COLUMNS, bad_id, expectation
from tf_hqgnn.data.ids import id_fault
from tf_hqgnn.data.input_file import input_parts, open_input, open_text
from tf_hqgnn.data.parquet_columns import check_kind, check_type, to_strings
from tf_hqgnn.data.parquet_file import open_parquet, read_batches
from tf_hqgnn.data.records import records
from tf_hqgnn.data.text_table import TextTable
from tf_hqgnn.data.timestamps import NUMBER
from tf_hqgnn.types import BoolArray, InputError, Int64Array, ObjectArray

_EXPECTED = "item_id and any of title, category, available"
# An item of which nothing is said is available.
_AVAILABLE = {"true": True, "t": True, "yes": True, "y": True, "false": False, "f": False, "no": False, "n": False}
# As programs write that nothing is said.
_AVAILABLE |= dict.fromkeys(("", "nan", "none", "null", "na", "n/a"), True)
_BATCH_ROWS = 1 << 16


@dataclass(frozen=True)
class ItemCatalogue:
    """Items in the order of their file.

    Args:
      item_ids: object [n] of str, distinct.
      title: object [n] of str, "" where an item has none; None where the file has no such column.
      category: object [n] of str, likewise.
      available: bool [n], likewise.
    """

    item_ids: ObjectArray
    title: ObjectArray | None = None
    category: ObjectArray | None = None
    available: BoolArray | None = None

    def align(self, item_ids: ObjectArray) -> ItemCatalogue:
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

    def over(self, other: ItemCatalogue) -> ItemCatalogue:
        """Both catalogues as one; what this one says of an item counts, and its columns stay empty for the others.

        >>> new, old = ItemCatalogue(np.array(["b"], object)), ItemCatalogue(np.array(["a", "b"], object))
        >>> new.over(old).item_ids.tolist()
        ['b', 'a']
        """
        others = rows_of(self.item_ids, other.item_ids) < 0
        ids = np.concatenate([self.item_ids, other.item_ids[others]])
        mine, theirs = self.align(ids), other.align(ids)
        own = np.arange(len(ids)) < len(self.item_ids)
        columns = []
        for name in ("title", "category", "available"):
            one, two = getattr(mine, name), getattr(theirs, name)
            columns.append(one if two is None else two if one is None else np.where(own, one, two))
        return ItemCatalogue(ids, *columns)


def rows_of(ids: ObjectArray, wanted: ObjectArray) -> Int64Array:
    """The places of `wanted` in the distinct `ids`, int64; -1 where it isn't there.

    >>> rows_of(np.array(["b", "a"], object), np.array(["a", "c"], object)).tolist()
    [1, -1]
    """
    place = {name: number for number, name in enumerate(ids)}
    return np.array([place.get(name, -1) for name in wanted], np.int64)


class _Row(NamedTuple):
    """One item as its file has it: `where` names the row in messages."""

    where: str
    values: dict[str, str]


# A name, the known columns in it, and its rows.
_Part = tuple[str, list[str], Iterable[_Row]]


def read_items(path: str | Path) -> ItemCatalogue:
    """Reads a file with `item_id` and any of `title`, `category`, `available`; other columns are ignored.

    Args:
      path: text in the dialects and compressions of a log, Parquet, or a folder of such files. `available` is true,
        false, yes, no, a number that is 1 or 0, or empty (also nan, none, null, na, n/a), in any case; an item
        without it is available.

    Raises:
      InputError: The file is missing or empty, or a row has no id, an id that came before, another number of columns
        than the header, or isn't UTF-8. Always with the line.
    """
    return _catalogue(_file_parts(Path(path)))


def items_of_batches(name: str, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> ItemCatalogue:
    """Reads items from record batches, with the checks of `read_items`.

    Args:
      name: of the table, for messages.
      schema: which columns it has.
      batches: their values.

    Raises:
      InputError: A column is of a type that isn't read; a row has no id, or one that came before.
    """
    columns = _known_names(name, schema.names)
    for column in columns:
        check_kind(schema.field(column).type, name, column, _expected_types(column))
    return _catalogue([(name, columns, _parquet_rows(name, columns, batches))])


def _file_parts(path: Path) -> Iterator[_Part]:
    for part in input_parts(path, "items", "data.items_path"):
        with _open_items(part) as (names, rows):
            yield str(part), names, rows


def _catalogue(parts: Iterable[_Part]) -> ItemCatalogue:
    columns: dict[str, list[str]] = {}
    available: list[bool] = []
    places: dict[str, str] = {}
    for part, names, rows in parts:
        columns = columns or {name: [] for name in names}
        if list(columns) != names:
            raise InputError(
                f"{part}: columns {', '.join(names)}; expected {', '.join(columns)}, as in the files before it"
            )
        for where, values in rows:
            item_id = values["item_id"]
            if fault := id_fault(item_id):
                kind = bad_id("item_id", fault)
                raise InputError(f"{where}: {kind}; expected {expectation(kind)}")
            if item_id.removeprefix("\ufeff") == "item_id":
                raise InputError(f"{where}: the header is repeated; expected it once, before the first row")
            if item_id in places:
                before = places[item_id].removeprefix(f"{part} ")
                raise InputError(f"{where}: item_id {item_id!r} came before in {before}; expected it once")
            places[item_id] = where
            for name in names:
                columns[name].append(values[name])
            if "available" in values:
                available.append(_is_available(values["available"], where))
    return ItemCatalogue(
        np.array(columns["item_id"], object),
        np.array(columns["title"], object) if "title" in columns else None,
        np.array(columns["category"], object) if "category" in columns else None,
        np.array(available, bool) if "available" in columns else None,
    )


@contextmanager
def _open_items(path: Path) -> Iterator[tuple[list[str], Iterator[_Row]]]:
    """Which of the known columns a file has, in their order, and its rows."""
    with open_input(path) as stream:
        is_parquet = stream.peek(4).startswith(b"PAR1") or path.suffix.lower() in (".parquet", ".pq")
    if is_parquet:
        file = open_parquet(path, str(path))
        columns = _known_names(path, file.schema_arrow.names)
        for name in columns:
            check_type(file, str(path), name, _expected_types(name))
        yield columns, _parquet_rows(str(path), columns, read_batches(file, str(path), columns, _BATCH_ROWS))
        return
    with open_text(path) as stream:
        table = TextTable(stream, str(path), "item_id,title,...")
        if not table.names:
            raise InputError(f"{path}: the file is empty; expected a header with {_EXPECTED}")
        yield _known_names(path, table.names), _text_rows(path, table)


def _expected_types(column: str) -> tuple[str, ...]:
    extra = ("booleans", "numbers", "nulls") if column == "available" else ("nulls",)
    return "strings", "integers", *extra


def _text_rows(path: Path, table: TextTable) -> Iterator[_Row]:
    for block, first_line in table.blocks():
        for record in records(block, table.delimiter, first_line):
            where = f"{path} line {record.line}"
            if record.fields is None:
                raise InputError(f'{where}: broken quoting; expected fields such as title or "title"')
            if len(record.fields) != len(table.names):
                raise InputError(
                    f"{where}: {len(record.fields)} columns; expected {len(table.names)} as in the header, quote "
                    f"fields that contain {table.delimiter.decode()!r}"
                )
            try:
                fields = zip(table.names, record.fields)
                values = {name: value.decode() for name, value in fields if name in ITEM_COLUMNS}
            except UnicodeDecodeError as error:
                raise InputError(f"{where}: undecodable bytes; expected UTF-8 text") from error
            if table.delimiter == b";" and "available" in values:
                values["available"] = values["available"].replace(",", ".")
            yield _Row(where, values)


def _parquet_rows(source: str, columns: list[str], batches: Iterable[pa.RecordBatch]) -> Iterator[_Row]:
    first = 1
    for batch in batches:
        texts = []
        for name in columns:
            strings, undecodable = to_strings(batch.column(batch.schema.get_field_index(name)))
            if undecodable.any():
                place = first + int(np.flatnonzero(undecodable)[0])
                raise InputError(f"{source} row {place}: undecodable bytes in {name}; expected UTF-8 text")
            values = strings.fill_null("").to_pylist()
            texts.append(values)
        for number, row in enumerate(zip(*texts), first):
            yield _Row(f"{source} row {number}", dict(zip(columns, row)))
        first += len(batch)


def _is_available(text: str, where: str) -> bool:
    plain = text.strip().lower()
    if plain in _AVAILABLE:
        return _AVAILABLE[plain]
    number = float(plain) if re.fullmatch(NUMBER, plain, re.ASCII) else -1.0
    if number not in (0.0, 1.0):
        raise InputError(f"{where}: available is {text!r}; expected true, false, 1, 0, yes, no or nothing")
    return bool(number)


def _known_names(path: Path | str, names: list[str]) -> list[str]:
    """Those of `ITEM_COLUMNS` that a file has."""
    for column in ITEM_COLUMNS:
        if names.count(column) > 1:
            raise InputError(
                f"{path}: column {column} appears more than once; expected it once, found: {_shown(names)}"
            )
    if "item_id" not in names:
        raise InputError(
            f"{path}: no column item_id; expected {_EXPECTED}, found: {_shown(names)}; rename the "
            "column in the header, or put a header before the first row"
        )
    return [column for column in ITEM_COLUMNS if column in names]


def _shown(names: list[str]) -> str:
    return ", ".join(names[:20]) or "none"
