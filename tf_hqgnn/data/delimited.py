"""CSV and RecBole `.inter` files, read in blocks: pyarrow where a block is regular, row by row where it isn't.

Arrow refuses a whole file for one bad row and doesn't know line numbers. So the file is cut into blocks of whole rows;
a block that Arrow takes and that passes the checks is done, any other is cut smaller and in the end read row by row,
which finds every bad row with its kind and line. Both ways give the same for good rows (a property test says so).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow import csv

from tf_hqgnn.data.chunks import (
    BROKEN_QUOTING,
    ID_COLUMNS,
    LARGEST,
    NUMBER_COLUMNS,
    UNDECODABLE,
    WRONG_COLUMN_COUNT,
    Chunk,
    Chunks,
    check_columns,
    chunk_from_lists,
    missing,
    not_finite,
)
from tf_hqgnn.data.records import count_lines, last_record_end, record_ends, records
from tf_hqgnn.data.report import BadRowLog
from tf_hqgnn.types import InputError

_BLOCK_BYTES = 16 << 20
_SMALL_BYTES = 64 << 10
_BOM = b"\xef\xbb\xbf"
# What both Arrow and Python read the same way; Python alone would also take 1_000, and both take nan and inf.
_NUMBER = re.compile(rb"[ \t]*[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?[ \t]*")


def read_delimited(path: Path, log: BadRowLog, *, inter: bool = False, block_bytes: int = _BLOCK_BYTES) -> Chunks:
    """Yields the good rows of a file with a header, and notes the others in `log`.

    Quoting is RFC 4180's (a field that starts with `"`); a quote inside an unquoted field is a character like any
    other. Lines end in LF, CRLF or CR, a BOM and blank lines are skipped, other columns are ignored.
    Nothing but the empty string is a missing id, and an empty number is bad: a column is filled or left out.

    Args:
      path: the file.
      log: collects bad rows.
      inter: RecBole's form: tabs, and a header such as `user_id:token`.
      block_bytes: how much is read at once.

    Raises:
      InputError: The header isn't UTF-8 or lacks a column.
    """
    with open(path, "rb") as file:
        buffer = file.read(block_bytes)
        if buffer.startswith((b"\xff\xfe", b"\xfe\xff")):
            raise InputError(f"{path}: the text is UTF-16; expected UTF-8, save it as UTF-8")
        start = len(_BOM) if buffer.startswith(_BOM) else 0
        while True:
            more = file.read(block_bytes)
            header = _header(buffer[start:], final=not more)
            if header is not None:
                break
            buffer += more
        first, consumed, line = header
        reader = _Reader(path, log, *_columns(path, first, inter))
        buffer = buffer[start + consumed :]
        while True:
            final = not more
            if not final:
                buffer += more
                more = file.read(block_bytes)
                final = not more
            end = len(buffer) if final else last_record_end(buffer, reader.delimiter)
            yield from reader.read(buffer[:end], line)
            if final:
                return
            line += count_lines(buffer[:end])
            buffer = buffer[end:]


def _header(buffer: bytes, final: bool) -> tuple[bytes, int, int] | None:
    """The first line that isn't blank: (its bytes, the bytes up to its end, the line number after it)."""
    line = 1
    for match in re.finditer(rb"([^\r\n]*)(\r\n|\n|\r|$)", buffer):
        if match.end() == len(buffer) and not final:
            return None
        line += bool(match.group(2))
        if match.group(1).strip():
            return match.group(1), match.end(), line
        if match.end() == len(buffer):
            break
    return b"", len(buffer), line


def _columns(path: Path, header: bytes, inter: bool) -> tuple[bytes, list[str]]:
    """The delimiter and the names of the columns."""
    try:
        text = header.decode()
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: the header isn't UTF-8 text; expected user_id,item_id,...") from error
    # Spreadsheets in many countries write `;`, database dumps tabs; the header settles it.
    delimiter = b"\t" if inter else max((b",", b"\t", b";"), key=header.count)
    record = next(iter(records(header, delimiter)), None)
    fields = [] if record is None else record.fields
    if fields is None:
        raise InputError(f"{path}: the header {text[:80]!r} is not properly quoted; expected user_id,item_id,...")
    names = [name.decode().strip() for name in fields]
    if inter:
        names = [name.partition(":")[0] for name in names]
    check_columns(path, names)
    return delimiter, names


class _Reader:
    """Reads blocks of whole rows with known columns."""

    def __init__(self, path: Path, log: BadRowLog, delimiter: bytes, names: list[str]) -> None:
        self.delimiter = delimiter
        self._path = path
        self._log = log
        self._num_columns = len(names)
        self._numbers = [name for name in NUMBER_COLUMNS if name in names]
        self._position = {name: names.index(name) for name in (*ID_COLUMNS, *self._numbers)}

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
        quoted = b'"' in block
        if quoted and (block.count(b'"') % 2 or record_ends(block, self.delimiter) is None):
            return None
        types = dict.fromkeys(ID_COLUMNS, pa.dictionary(pa.int32(), pa.utf8()))
        types.update(dict.fromkeys(self._numbers, pa.float64()))
        try:
            table = csv.read_csv(
                pa.BufferReader(block),
                csv.ReadOptions(
                    column_names=[str(number) for number in range(self._num_columns)], block_size=_BLOCK_BYTES // 2
                ),
                csv.ParseOptions(
                    delimiter=self.delimiter.decode(),
                    quote_char='"' if quoted else False,
                    newlines_in_values=quoted,
                ),
                # No null values: `NA` and `null` are ids like any other, and an empty number is an error.
                csv.ConvertOptions(
                    column_types={str(self._position[name]): kind for name, kind in types.items()},
                    include_columns=[str(self._position[name]) for name in types],
                    null_values=[],
                ),
            )
        except pa.ArrowInvalid:
            return None
        chunks = []
        for batch in table.rename_columns(list(types)).to_batches():
            columns = dict(zip(types, batch.columns))
            numbers = {name: columns[name].to_numpy() for name in self._numbers}
            if not all((np.abs(values) <= LARGEST[name]).all() for name, values in numbers.items()):
                return None
            if any(columns[name].dictionary.index("").as_py() >= 0 for name in ID_COLUMNS):
                return None
            chunks.append(
                Chunk(columns["user_id"], columns["item_id"], *(numbers.get(name) for name in NUMBER_COLUMNS))
            )
        return chunks

    def _read_rows(self, block: bytes, line: int) -> Chunk:
        """The good rows, one by one; the others go to the log."""
        users: list[str] = []
        items: list[str] = []
        numbers: dict[str, list[float]] = {name: [] for name in self._numbers}
        for record in records(block, self.delimiter, line):
            row = self._row(record.fields)
            if isinstance(row, str):
                self._log.add(str(self._path), row, record.line, record.text)
                continue
            users.append(row[0])
            items.append(row[1])
            for name, value in zip(self._numbers, row[2]):
                numbers[name].append(value)
        return chunk_from_lists(users, items, numbers, self._numbers)

    def _row(self, fields: list[bytes] | None) -> str | tuple[str, str, list[float]]:
        """The values of a good row, or what is wrong with it."""
        if fields is None:
            return BROKEN_QUOTING
        if len(fields) != self._num_columns:
            return WRONG_COLUMN_COUNT
        try:
            user, item = (fields[self._position[name]].decode() for name in ID_COLUMNS)
        except UnicodeDecodeError:
            return UNDECODABLE
        for name, value in zip(ID_COLUMNS, (user, item)):
            if not value:
                return missing(name)
        values = []
        for name in self._numbers:
            text = fields[self._position[name]]
            number = float(text) if _NUMBER.fullmatch(text) else math.nan
            if not abs(number) <= LARGEST[name]:
                return not_finite(name)
            values.append(number)
        return user, item, values
