"""A short list of ids: one a line, or a column of a table."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tf_hqgnn.data.chunks import bad_id, expectation
from tf_hqgnn.data.id_lines import check_id_lines
from tf_hqgnn.data.ids import MISSING, id_fault
from tf_hqgnn.data.input_file import input_parts, is_empty_file, open_input, text_of
from tf_hqgnn.data.lines import text_lines
from tf_hqgnn.data.parquet_columns import check_type, to_strings
from tf_hqgnn.data.parquet_file import open_parquet, read_batches
from tf_hqgnn.data.records import records
from tf_hqgnn.data.text_table import TABLE_SUFFIXES, TextTable, names_column
from tf_hqgnn.types import InputError

_HEAD_BYTES = 4096
_BOM = "\ufeff".encode()
_BATCH_ROWS = 1 << 16


def read_id_list(path: Path, column: str, setting: str) -> tuple[str, ...]:
    """The ids of a file, empty lines left out.

    Args:
      path: text with an id a line; a table, by its extension or its header; Parquet; or a folder of these.
      column: which one of a table.
      setting: names the path in messages.

    Raises:
      InputError: It can't be read, has no such column, or holds something else than ids.
    """
    ids: list[str] = []
    if is_empty_file(path, "ids", setting):
        return ()
    for part in input_parts(path, "ids", setting):
        name = f"{setting} {part}"
        with open_input(part) as stream:
            is_parquet = stream.peek(4).startswith(b"PAR1")
        if is_parquet:
            ids += _parquet_ids(part, name, column)
            continue
        with text_of(open_input(part), name) as stream:
            head = stream.peek(_HEAD_BYTES)
            is_table = part.suffix.lower() in TABLE_SUFFIXES or names_column(head, column)
            if not is_table:
                check_id_lines(head, name, column)
            lines = _table_ids(TextTable(stream, name, column), name, column) if is_table else text_lines(stream, name)
            for number, line in enumerate(lines, 1):
                try:
                    value = line.decode()
                except UnicodeDecodeError as error:
                    raise InputError(f"{name}: id {number} isn't UTF-8 text; expected ids one a line") from error
                fault = id_fault(value)
                if fault not in (None, MISSING):
                    raise InputError(f"{name}: id {number}: {fault}; expected {expectation(bad_id(column, fault))}")
                ids.append("" if fault else value)
    return tuple(filter(None, ids))


def _table_ids(table: TextTable, name: str, column: str) -> Iterator[bytes]:
    _check_column(table.names, name, column)
    place = table.names.index(column)
    for block, first_line in table.blocks():
        for record in records(block, table.delimiter, first_line):
            if record.fields is None or len(record.fields) != len(table.names):
                raise InputError(f"{name} line {record.line}: expected {len(table.names)} columns, as in the header")
            value = record.fields[place]
            if value.removeprefix(_BOM) == column.encode():
                raise InputError(f"{name} line {record.line}: the header is repeated; expected it once")
            yield value


def _parquet_ids(path: Path, name: str, column: str) -> list[str]:
    file = open_parquet(path, name)
    _check_column(file.schema_arrow.names, name, column)
    check_type(file, name, column, ("strings", "integers"))
    ids: list[str] = []
    for batch in read_batches(file, name, [column], _BATCH_ROWS):
        strings, undecodable = to_strings(batch.column(0))
        if undecodable.any():
            row = len(ids) + int(np.flatnonzero(undecodable)[0]) + 1
            raise InputError(f"{name} row {row}: {column} isn't UTF-8 text; expected UTF-8")
        ids += strings.fill_null("").to_pylist()
    return ids


def _check_column(names: list[str], name: str, column: str) -> None:
    if names.count(column) != 1:
        raise InputError(
            f"{name}: expected one column {column} in the header, found {', '.join(names[:10]) or 'nothing'}"
        )
