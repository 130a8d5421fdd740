"""A text file with a header: which delimiter it has, what its columns are called, and its rows in blocks.

The log, the items and the users of a batch are all read this way, so what one of them takes the others take, too.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator

from tf_hqgnn.data.chunks import ID_COLUMNS, ITEM_COLUMNS, NUMBER_COLUMNS
from tf_hqgnn.data.lines import MAX_LINE_BYTES, long_line
from tf_hqgnn.data.records import QUOTELESS, count_lines, last_record_end, records
from tf_hqgnn.types import InputError

# Spreadsheets in many countries write `;`, database dumps tabs or bars; the header settles it.
DELIMITERS = (b",", b"\t", b";", b"|")
# Names of files that are tables, RecBole's three kinds among them.
TABLE_SUFFIXES = (".csv", ".tsv", ".tab", ".psv", ".inter", ".user", ".item")
_BLOCK_BYTES = 16 << 20
_SHOWN = {b"\t": "tabs", b"|": "bars"}
_KNOWN = {*ID_COLUMNS, *NUMBER_COLUMNS, *ITEM_COLUMNS}
_EXCEL_HINT = re.compile(rb'("?)sep=([^\w"])\1 *', re.IGNORECASE)
# A name in quotes may contain what elsewhere separates.
_QUOTED = re.compile(rb'"[^"]*"')
# RecBole's headers: `user_id:token`.
_TYPED = re.compile(r"(.+):(token|float)(_seq)?")


class TextTable:
    r"""The header of a text file, and its rows.

    Lines end in LF, CRLF or CR; blank ones are skipped. Quoting is RFC 4180's, except where tabs or bars separate:
    there a quote is a character like any other and a line is a row. Names are taken as they are, blanks included. A
    first line `sep=;`, as Excel writes it, is a hint and no header.

    Args:
      stream: text behind its byte order mark.
      name: what messages call the file.
      expected: a header as it should be, for messages.
      delimiter: None for that of the header.
      block_bytes: how much is read at once.

    Attributes:
      delimiter: one byte.
      names: of the columns; RecBole's types are left out.

    Raises:
      InputError: The header isn't UTF-8, or not properly quoted. While rows are read: one is longer than
        `tf_hqgnn.data.lines.MAX_LINE_BYTES`.

    Example:
      >>> table = TextTable(io.BufferedReader(io.BytesIO(b"user_id;item_id\nu;i\n")), "log.csv")
      >>> table.names, list(table.blocks())
      (['user_id', 'item_id'], [(b'u;i\n', 2)])
    """

    def __init__(
        self,
        stream: io.BufferedReader,
        name: str,
        expected: str = "user_id,item_id,...",
        delimiter: bytes | None = None,
        block_bytes: int = _BLOCK_BYTES,
    ) -> None:
        self._stream = stream
        self._name = name
        self._block_bytes = block_bytes
        self._buffer, self._more, self._line = b"", stream.read(block_bytes), 1
        header = self._next_line()
        if (hint := hint_of(header)) is not None:
            delimiter = hint
            header = self._next_line()
        self.delimiter = delimiter or max(DELIMITERS, key=_QUOTED.sub(b"", header).count)
        self.names = _names(header, self.delimiter, name, expected)

    def blocks(self) -> Iterator[tuple[bytes, int]]:
        """Yields `(whole rows, the number of their first line)`, once."""
        while self._more:
            self._read()
            end = last_record_end(self._buffer, self.delimiter) if self._more else len(self._buffer)
            self._check_length(end)
            yield self._buffer[:end], self._line
            self._line += count_lines(self._buffer[:end])
            self._buffer = self._buffer[end:]
        if self._buffer:
            yield self._buffer, self._line
            self._buffer = b""

    def _read(self) -> None:
        self._buffer += self._more
        self._more = self._stream.read(self._block_bytes)

    def _check_length(self, end: int) -> None:
        """Refuses a row that goes on for too long behind `end`, up to which the rows of the buffer are whole."""
        if len(self._buffer) - end > MAX_LINE_BYTES:
            raise long_line(self._name, self._line + count_lines(self._buffer[:end]))

    def _next_line(self) -> bytes:
        """The next line that isn't blank, without its end; it leaves the buffer. Empty if there is none."""
        while (found := _first_line(self._buffer, final=not self._more)) is None:
            self._check_length(0)
            self._read()
        text, end = found
        self._line += count_lines(self._buffer[:end])
        self._buffer = self._buffer[end:]
        return text


def hint_of(line: bytes) -> bytes | None:
    r"""The delimiter that Excel's hint in the place of a header names, or None if the line is none.

    >>> hint_of(b"sep=;"), hint_of(b"user_id;item_id")
    (b';', None)
    """
    match = _EXCEL_HINT.fullmatch(line)
    return None if match is None else match[2]


def names_column(head: bytes, column: str) -> bool:
    r"""Whether a text that begins with `head` has a header that names a column, whatever its delimiter.

    >>> names_column(b"item_id;user_id\n", "user_id"), names_column(b"user_id 7\n", "user_id")
    (True, False)
    """
    first = next(filter(bytes.strip, head.splitlines()), b"")
    fields = re.split(b"[" + re.escape(b"".join(DELIMITERS)) + b"]", first)
    return any(field.strip(b' "').partition(b":")[0] == column.encode() for field in fields)


def _first_line(buffer: bytes, final: bool) -> tuple[bytes, int] | None:
    """The first line that isn't blank, and where the next one begins; None if more has to be read."""
    for match in re.finditer(rb"([^\r\n]*)(\r\n|\n|\r|$)", buffer):
        if match.end() == len(buffer) and not final:
            return None
        if match.group(1).strip():
            return match.group(1), match.end()
        if match.end() == len(buffer):
            break
    return b"", len(buffer)


def _names(header: bytes, delimiter: bytes, name: str, expected: str) -> list[str]:
    try:
        text = header.decode()
    except UnicodeDecodeError as error:
        raise InputError(f"{name}: the header isn't UTF-8 text; expected {expected}") from error
    record = next(iter(records(header, delimiter)), None)
    fields = [] if record is None else record.fields
    if fields is None:
        raise InputError(f"{name}: the header {text[:80]!r} is not properly quoted; expected {expected}")
    names = [field.decode() for field in fields]
    for field in names:
        if field != field.strip() and field.strip() in _KNOWN:
            raise InputError(
                f"{name}: the header has {field!r}; blanks belong to names and ids, take them out around the separators"
            )
    if delimiter in QUOTELESS and any(field.startswith('"') for field in names):
        raise InputError(
            f"{name}: the header {text[:80]!r} has quotes, which are text where {_SHOWN[delimiter]} separate; write "
            "the file without quotes, or separated by commas"
        )
    typed = [_TYPED.fullmatch(field) for field in names]
    return [match[1] if match else field for match, field in zip(typed, names)] if all(typed) else names
