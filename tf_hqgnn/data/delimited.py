"""CSV and RecBole `.inter` files, read in blocks: pyarrow where a block is regular, row by row where it isn't.

Arrow refuses a whole file for one bad row and doesn't know line numbers. So the file is cut into blocks of whole rows;
a block that Arrow takes and that passes the checks is done, any other is cut smaller and in the end read row by row,
which finds every bad row with its kind and line. Both ways give the same for good rows (a property test says so).
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tf_hqgnn.data.arrow_text import read_columns
from tf_hqgnn.data.chunks import (
    BROKEN_QUOTING,
    EVENT_COLUMN,
    ID_COLUMNS,
    MISSING_EVENT,
    NUMBER_COLUMNS,
    REPEATED_HEADER,
    UNDECODABLE,
    WRONG_COLUMN_COUNT,
    Chunk,
    Chunks,
    bad_id,
    bad_number,
    check_columns,
    chunk_from_lists,
    is_header,
    not_finite,
)
from tf_hqgnn.data.column_names import STANDARD_NAMES, ColumnNames
from tf_hqgnn.data.ids import MISSING, id_fault, id_faults
from tf_hqgnn.data.input_file import open_text
from tf_hqgnn.data.records import count_lines, record_ends, records
from tf_hqgnn.data.report import BadRowLog
from tf_hqgnn.data.text_table import TextTable
from tf_hqgnn.data.timestamps import NUMBER, column_to_seconds, to_seconds

_BLOCK_BYTES = 16 << 20
_SMALL_BYTES = 64 << 10
_NUMBER = re.compile(NUMBER.encode())
# Where `;` separates, a comma may be in the place of the point.
_COMMA_NUMBER = re.compile(NUMBER.replace(r"\.", "[.,]").encode())


def read_delimited(
    path: Path,
    log: BadRowLog,
    columns: ColumnNames = STANDARD_NAMES,
    *,
    inter: bool = False,
    block_bytes: int = _BLOCK_BYTES,
) -> Chunks:
    """Yields the good rows of a file with a header, and notes the others in `log`.

    See `TextTable` for delimiters, quotes and line ends; other columns are ignored. An id is taken as it is, blanks
    around it included; see `tf_hqgnn.data.ids` for what is none. An empty number is bad: a column is filled or left
    out. Where `;` separates, numbers may have a decimal comma. A timestamp is a number or ISO 8601.

    Args:
      path: the file.
      log: collects bad rows, and the names of columns that aren't read.
      columns: what columns are called in the file.
      inter: RecBole's form: tabs, and a header such as `user_id:token`.
      block_bytes: how much is read at once.

    Raises:
      InputError: The header isn't UTF-8 or lacks a column; or the file is damaged.
    """
    with open_text(path) as stream:
        table = TextTable(stream, str(path), delimiter=b"\t" if inter else None, block_bytes=block_bytes)
        check_columns(path, table.names, columns)
        log.note_unused(columns.unused(table.names))
        reader = _Reader(path, log, table.delimiter, table.names, columns)
        for block, line in table.blocks():
            yield from reader.read(block, line)


class _Form(NamedTuple):
    """How numbers are written in a block that Arrow reads."""

    decimal_point: str
    iso_times: bool


class _Reader:
    """Reads blocks of whole rows with known columns."""

    def __init__(
        self, path: Path, log: BadRowLog, delimiter: bytes, names: list[str], columns: ColumnNames = STANDARD_NAMES
    ) -> None:
        self.delimiter = delimiter
        self._path = path
        self._log = log
        self._num_columns = len(names)
        self._columns = columns
        present = columns.present(names)
        self._numbers = [name for name in present if name in NUMBER_COLUMNS]
        self._texts = [name for name in (*ID_COLUMNS, EVENT_COLUMN) if name in (*ID_COLUMNS, *present)]
        self._position = {name: names.index(columns[name]) for name in (*ID_COLUMNS, *present)}
        points = ".," if delimiter == b";" else "."
        self._number = _COMMA_NUMBER if delimiter == b";" else _NUMBER
        times = (False, True) if "timestamp" in present else (False,)
        # The form that fitted last is tried first.
        self._forms = [_Form(*form) for form in itertools.product(points, times)]

    def read(self, block: bytes, line: int) -> Iterator[Chunk]:
        """The good rows of `block`, which starts at `line`."""
        chunks = self._read_regular(block)
        if chunks is not None:
            yield from chunks
            return
        ends = record_ends(block, self.delimiter) if len(block) > _SMALL_BYTES else None
        if ends is None:
            yield self._read_rows(block, line)
            return
        # Bad rows are few as a rule: only the pieces that hold one are read row by row.
        targets = np.arange(_SMALL_BYTES, len(block), _SMALL_BYTES)
        cuts = np.unique(ends[np.minimum(np.searchsorted(ends, targets), len(ends) - 1)]) if len(ends) else ends
        start = 0
        for cut in (*cuts.tolist(), len(block)):
            piece = block[start:cut]
            chunks = self._read_regular(piece)
            if chunks is None:
                yield self._read_rows(piece, line)
            else:
                yield from chunks
            line += count_lines(piece)
            start = cut

    def _read_regular(self, block: bytes) -> list[Chunk] | None:
        """The rows as Arrow reads them, or None if anything about the block is out of the ordinary."""
        if not block.strip(b"\r\n"):
            return []
        for form in self._forms:
            chunks = self._read_form(block, form)
            if chunks is not None:
                self._forms.remove(form)
                self._forms.insert(0, form)
                return chunks
        return None

    def _read_form(self, block: bytes, form: _Form) -> list[Chunk] | None:
        types = dict.fromkeys(self._texts, pa.dictionary(pa.int32(), pa.utf8()))
        types |= dict.fromkeys(self._numbers, pa.float64())
        if form.iso_times:
            types["timestamp"] = pa.utf8()
        by_position: dict[int, pa.DataType] = {}
        for name, kind in types.items():
            # A column may be two things at once, such as a rating that is also the weight.
            if by_position.setdefault(self._position[name], kind) != kind:
                return None
        table = read_columns(block, self.delimiter, self._num_columns, by_position, form.decimal_point)
        if table is None:
            return None
        chunks = []
        for batch in table.to_batches():
            columns = {name: batch.column(str(self._position[name])) for name in types}
            numbers = {
                name: column_to_seconds(columns[name]) if types[name] == pa.utf8() else columns[name].to_numpy()
                for name in self._numbers
            }
            ends = (
                (name, end)
                for name, values in numbers.items()
                for end in (values.min(initial=0), values.max(initial=0))
            )
            if any(bad_number(name, end) for name, end in ends):
                return None
            for name in ID_COLUMNS:
                ids = columns[name].dictionary
                # The header may have been read once more, if the column's own name is an id.
                named = pc.match_substring_regex(ids, pattern=f"^(\ufeff)?{re.escape(self._columns[name])}(:|$)")
                if pc.any(named).as_py() or any(mask.any() for mask in id_faults(ids).values()):
                    return None
            event = columns.get(EVENT_COLUMN)
            if event is not None and id_faults(event.dictionary)[MISSING].any():
                return None
            timestamp, rating, weight = (numbers.get(name) for name in NUMBER_COLUMNS)
            chunks.append(Chunk(columns["user_id"], columns["item_id"], timestamp, rating, weight, event))
        return chunks

    def _read_rows(self, block: bytes, line: int) -> Chunk:
        """The good rows, one by one; the others go to the log."""
        users: list[str] = []
        items: list[str] = []
        events: list[str] | None = [] if EVENT_COLUMN in self._texts else None
        numbers: dict[str, list[float]] = {name: [] for name in self._numbers}
        for record in records(block, self.delimiter, line):
            row = self._row(record.fields)
            if isinstance(row, str):
                self._log.add(str(self._path), row, record.line, record.text, self._faulty(row, record.fields))
                continue
            users.append(row[0])
            items.append(row[1])
            for name, value in zip(self._numbers, row[2]):
                numbers[name].append(value)
            if events is not None:
                events.append(row[3])
        return chunk_from_lists(users, items, numbers, self._numbers, events)

    def _row(self, fields: list[bytes] | None) -> str | tuple[str, str, list[float], str]:
        """The values of a good row, or what is wrong with it."""
        if fields is None:
            return BROKEN_QUOTING
        if len(fields) != self._num_columns:
            return WRONG_COLUMN_COUNT
        try:
            user, item, *events = (fields[self._position[name]].decode() for name in self._texts)
        except UnicodeDecodeError:
            return UNDECODABLE
        if is_header(user, item, self._columns):
            return REPEATED_HEADER
        for name, value in zip(ID_COLUMNS, (user, item)):
            if fault := id_fault(value):
                return bad_id(name, fault)
        values = []
        for name in self._numbers:
            number = self._number_of(name, fields[self._position[name]])
            if kind := bad_number(name, number):
                return kind
            values.append(number)
        if any(id_fault(event) == MISSING for event in events):
            return MISSING_EVENT
        return user, item, values, "".join(events)

    def _faulty(self, kind: str, fields: list[bytes] | None) -> bytes | None:
        """The field that a bad number is in; None for rows that are bad for another reason."""
        names = [name for name in self._numbers if kind == not_finite(name)]
        return fields[self._position[names[0]]] if names and fields is not None else None

    def _number_of(self, name: str, text: bytes) -> float:
        """The value of a field, NaN if it is none."""
        if self._number.fullmatch(text):
            return float(text.replace(b",", b"."))
        return to_seconds(text.decode("utf-8", "replace")) if name == "timestamp" else math.nan
