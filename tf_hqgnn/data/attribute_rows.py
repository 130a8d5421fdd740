"""Rows of files of items or users: an id, and what else is known."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tf_hqgnn.data.chunks import bad_id, expectation
from tf_hqgnn.data.ids import id_fault
from tf_hqgnn.data.input_file import input_parts, open_input, open_text
from tf_hqgnn.data.parquet_columns import check_kind, check_type, to_strings
from tf_hqgnn.data.parquet_file import open_parquet, read_batches
from tf_hqgnn.data.records import records
from tf_hqgnn.data.text_table import TextTable
from tf_hqgnn.types import InputError

_BATCH_ROWS = 1 << 16
_DECIMAL_COMMA = re.compile(r"([+-]?\d*),(\d+)")


class Row(NamedTuple):
    """One row as its file has it: `where` names it in messages."""

    where: str
    values: dict[str, str]


class Part(NamedTuple):
    """The rows of one file or table."""

    name: str
    columns: list[str]
    rows: Iterable[Row]


class Attributes(NamedTuple):
    """What is read of a kind of files.

    Args:
      id_column: `item_id` or `user_id`.
      holds: `items` or `users`, for messages.
      setting: names the path in messages.
      expected: the columns in words.
      pick: which of the columns of a header are read, in the order of the answer.
      types: which types a column of Parquet may have; None for any that can be shown as text.
      numbers: columns in which a comma may be the decimal point where `;` separates; None for all.
      names: what columns are called in files that don't have them under their own name.
    """

    id_column: str
    holds: str
    setting: str
    expected: str
    pick: Callable[[Sequence[str]], list[str]]
    types: Callable[[str], tuple[str, ...] | None]
    numbers: tuple[str, ...] | None
    names: Mapping[str, str] = MappingProxyType({})


def file_parts(path: Path, what: Attributes) -> Iterator[Part]:
    """Yields the files of a path, one after the other.

    Raises:
      InputError: A file can't be read, or has no column of ids.
    """
    for part in input_parts(path, what.holds, what.setting):
        with _open(part, what) as (names, rows):
            yield Part(str(part), names, rows)


def table_part(name: str, schema: pa.Schema, batches: Iterable[pa.RecordBatch], what: Attributes) -> Part:
    """Returns the rows of record batches, with the checks of a Parquet file."""
    columns = picked(name, schema.names, what)
    for column in columns:
        kinds = what.types(column)
        if kinds is not None:
            check_kind(schema.field(column).type, name, column, kinds)
    return Part(name, columns, _parquet_rows(name, columns, batches))


def checked_rows(part: Part, id_column: str, places: dict[str, str]) -> Iterator[Row]:
    """Yields the rows of a part once their ids are checked.

    Args:
      part: of a file.
      id_column: the column of its ids.
      places: where each id came before; the ids of this part are added.

    Raises:
      InputError: A row has no id, or one that came before.
    """
    for where, values in part.rows:
        key = values[id_column]
        if fault := id_fault(key):
            kind = bad_id(id_column, fault)
            raise InputError(f"{where}: {kind}; expected {expectation(kind)}")
        if key.removeprefix("\ufeff") == id_column:
            raise InputError(f"{where}: the header is repeated; expected it once, before the first row")
        if key in places:
            before = places[key].removeprefix(f"{part.name} ")
            raise InputError(f"{where}: {id_column} {key!r} came before in {before}; expected it once")
        places[key] = where
        yield Row(where, values)


def picked(path: Path | str, names: Sequence[str], what: Attributes) -> list[str]:
    """Returns the columns of a header that are read; each must be there once, and the ids must be."""
    if what.id_column not in names:
        raise InputError(
            f"{path}: no column {what.id_column}; expected {what.expected}, found: {shown(names)}; rename the "
            "column in the header, or put a header before the first row"
        )
    columns = what.pick(names)
    for column in columns:
        if list(names).count(column) > 1:
            raise InputError(f"{path}: column {column} appears more than once; expected it once, found: {shown(names)}")
    return columns


def shown(names: Sequence[str]) -> str:
    """Returns the names of columns for messages."""
    return ", ".join(names[:20]) or "none"


@contextmanager
def _open(path: Path, what: Attributes) -> Iterator[tuple[list[str], Iterator[Row]]]:
    with open_input(path) as stream:
        is_parquet = stream.peek(4).startswith(b"PAR1") or path.suffix.lower() in (".parquet", ".pq")
    if is_parquet:
        file = open_parquet(path, str(path))
        own_names = _own_names(file.schema_arrow.names, what)
        found = dict(zip(own_names, file.schema_arrow.names))
        columns = picked(path, own_names, what)
        for name in columns:
            kinds = what.types(name)
            if kinds is not None:
                check_type(file, str(path), found[name], kinds)
        batches = read_batches(file, str(path), [found[name] for name in columns], _BATCH_ROWS)
        named = (
            pa.RecordBatch.from_arrays([batch.column(found[name]) for name in columns], columns) for batch in batches
        )
        yield columns, _parquet_rows(str(path), columns, named)
        return
    with open_text(path) as stream:
        table = TextTable(stream, str(path), f"{what.id_column},...")
        if not table.names:
            raise InputError(f"{path}: the file is empty; expected a header with {what.expected}")
        table.names = _own_names(table.names, what)
        columns = picked(path, table.names, what)
        yield columns, _text_rows(path, table, columns, what.numbers)


def _own_names(found: Sequence[str], what: Attributes) -> list[str]:
    """The columns of a file, in its order, by their own names."""
    own = {other: name for name, other in what.names.items() if name not in found}
    return [own.get(name, name) for name in found]


def _text_rows(path: Path, table: TextTable, columns: list[str], numbers: tuple[str, ...] | None) -> Iterator[Row]:
    read = set(columns)
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
                values = {name: value.decode() for name, value in fields if name in read}
            except UnicodeDecodeError as error:
                raise InputError(f"{where}: undecodable bytes; expected UTF-8 text") from error
            if table.delimiter == b";":
                for name in values if numbers is None else set(numbers) & set(values):
                    if match := _DECIMAL_COMMA.fullmatch(values[name]):
                        values[name] = f"{match[1]}.{match[2]}"
            yield Row(where, values)


def _parquet_rows(source: str, columns: list[str], batches: Iterable[pa.RecordBatch]) -> Iterator[Row]:
    first = 1
    for batch in batches:
        texts = []
        for name in columns:
            strings, undecodable = to_strings(_flat(batch.column(batch.schema.get_field_index(name))))
            if undecodable.any():
                place = first + int(np.flatnonzero(undecodable)[0])
                raise InputError(f"{source} row {place}: undecodable bytes in {name}; expected UTF-8 text")
            texts.append(strings.fill_null("").to_pylist())
        for number, row in enumerate(zip(*texts), first):
            yield Row(f"{source} row {number}", dict(zip(columns, row)))
        first += len(batch)


def _flat(column: pa.Array) -> pa.Array:
    """A column of lists as text, its values separated by `|`."""
    if not (pa.types.is_list(column.type) or pa.types.is_large_list(column.type)):
        return column
    return pc.binary_join(column.cast(pa.list_(pa.utf8())), "|")
