"""CSV and RecBole `.inter` files, read in blocks: pyarrow where a block is regular, row by row where it isn't.

Arrow refuses a whole file for one bad row and doesn't know line numbers. So the file is cut into blocks of whole rows;
a block that Arrow takes and that passes the checks is done, any other is cut smaller and in the end read row by row,
which finds every bad row with its kind and line. Both ways give the same for good rows (a property test says so).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tf_hqgnn.data.chunks import (
    ID_COLUMNS,
    NUMBER_COLUMNS,
    Chunk,
    Chunks,
    check_columns,
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
    other. Lines end in LF, CRLF or CR, a BOM and blank lines are skipped, columns other than the known ones are ignored.
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
    if record is None or record.fields is None:
        raise InputError(f"{path}: the header {text[:80]!r} is not properly quoted; expected user_id,item_id,...")
    names = [name.decode().strip() for name in record.fields]
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
        if not block.strip(b"\r\n"):
            return
        chunks = self._read_regular(block)
        if chunks is not None:
            yield from chunks
            return
        ends = record_ends(block, self.delimiter) if len(block) > _SMALL_BYTES else None
        if ends is None:
            yield self._read_rows(block, line)
            return
        # The bad rows are few as a rule: only the pieces around them are read slowly.
        start = 0
        for cut in np.unique(ends[np.minimum(np.arange(_SMALL_BYTES, len(block) + _SMALL_BYTES, _SMALL_BYTES).searchsorted(
            ends, "right"
        ).searchsorted(np.arange(len(block) // _SMALL_BYTES + 1), "right"), len(ends)) - 1]):
            yield from self._read_piece(block[start:cut], line)
            line += count_lines(block[start:cut])
            start = cut
        yield from self._read_piece(block[start:], line)
