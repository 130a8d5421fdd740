"""Where the rows of delimited text begin and end, and what is in them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from tf_hqgnn.types import Int64Array

_LF, _CR, _QUOTE = b'\n\r"'
# Where a quote is a character like any other, and a line is a row.
QUOTELESS = (b"\t", b"|")
# A quoted field that goes on for longer than this was never closed: only its first line is given up.
_MAX_RECORD_BYTES = 1 << 20


class Record(NamedTuple):
    """One row of text: `fields` is None where the quoting is broken; `text` is the row without its line end."""

    fields: list[bytes] | None
    line: int
    text: bytes
    end: int


def count_lines(block: bytes) -> int:
    """The number of line ends: LF, CRLF or CR."""
    return block.count(b"\n") + block.count(b"\r") - block.count(b"\r\n")


def record_ends(block: bytes, delimiter: bytes) -> Int64Array | None:
    r"""The offsets behind each line end that is outside quotes; int64, increasing.

    Counting quotes tells whether a line end is inside a quoted field, provided that every quote opens or closes a field
    or is doubled within one. That is checked, without a loop over the bytes.

    Where tabs or bars separate, quotes mean nothing.

    Returns:
      The offsets, or None if some quote is none of these.

    >>> record_ends(b'a,"b\nc"\nd,e\n', b",").tolist()
    [8, 12]
    >>> record_ends(b'a,5" b\nd,e\n', b",") is None
    True
    """
    text = np.frombuffer(block, np.uint8)
    ends = np.flatnonzero(text == _LF)
    if b"\r" in block:
        returns = np.flatnonzero(text[:-1] == _CR)
        lone = returns[text[returns + 1] != _LF]
        ends = np.sort(np.concatenate([ends, lone])) if len(lone) else ends
    if b'"' in block and delimiter not in QUOTELESS:
        quotes = np.flatnonzero(text == _QUOTE)
        outside = np.array([_LF], np.uint8)
        around = np.concatenate([outside, text, outside])
        edges = np.frombuffer(delimiter + b'\n\r"', np.uint8)
        opens_well = np.isin(around[quotes[0::2]], edges)
        closes_well = np.isin(around[quotes[1::2] + 2], edges)
        if not (opens_well.all() and closes_well.all()):
            return None
        ends = ends[np.searchsorted(quotes, ends) % 2 == 0]
    return ends + 1


def last_record_end(buffer: bytes, delimiter: bytes) -> int:
    """The offset behind the last row that is complete in `buffer`; 0 if none is."""
    if b'"' not in buffer or delimiter in QUOTELESS:
        end = buffer.rfind(b"\n") + 1
        # The last byte may be the CR of a CRLF that the next block completes.
        return end or buffer.rfind(b"\r", 0, max(len(buffer) - 1, 0)) + 1
    ends = record_ends(buffer, delimiter)
    if ends is not None and (len(ends) or len(buffer) < _MAX_RECORD_BYTES):
        return int(ends[-1]) if len(ends) else 0
    end = 0
    for record in records(buffer, delimiter, final=False):
        end = record.end
    return end


def records(buffer: bytes, delimiter: bytes, line: int = 1, final: bool = True) -> Iterator[Record]:
    r"""Yields the rows of `buffer`, blank lines left out.

    Args:
      buffer: text that starts with a row.
      delimiter: one byte.
      line: the number of the first line.
      final: the text ends with the buffer; otherwise an incomplete last row isn't yielded.

    >>> [(record.fields, record.line) for record in records(b'a,"b ""c"" d"\r\n\nd,e', b",")]
    [([b'a', b'b "c" d'], 1), ([b'd', b'e'], 3)]
    """
    start = 0
    while start < len(buffer):
        stop, end = _line_end(buffer, start)
        text = buffer[start:stop]
        fields: list[bytes] | None = None
        lines = 1
        if b'"' not in text or delimiter in QUOTELESS:
            if end == len(buffer) and not final and not (end > stop and buffer[stop] == _LF):
                return
            fields = text.split(delimiter)
        else:
            fields, quoted_stop, open_quote = _quoted_fields(buffer, start, delimiter)
            if open_quote and not final and len(buffer) - start < _MAX_RECORD_BYTES:
                return
            if fields is not None:
                stop, end = quoted_stop, _behind_line_end(buffer, quoted_stop)
                text = buffer[start:stop]
                lines += count_lines(text)
            if end == len(buffer) and not final and not buffer.endswith(b"\n"):
                return
        if text:
            yield Record(fields, line, text, end)
        line += lines
        start = end


def _line_end(buffer: bytes, start: int) -> tuple[int, int]:
    """Where the line from `start` stops, and where the next one starts."""
    stop = buffer.find(b"\n", start)
    stop = len(buffer) if stop < 0 else stop
    carriage_return = buffer.find(b"\r", start, stop)
    stop = stop if carriage_return < 0 else carriage_return
    return stop, _behind_line_end(buffer, stop)


def _behind_line_end(buffer: bytes, stop: int) -> int:
    if buffer[stop : stop + 2] == b"\r\n":
        return stop + 2
    return min(stop + 1, len(buffer))


def _quoted_fields(buffer: bytes, start: int, delimiter: bytes) -> tuple[list[bytes] | None, int, bool]:
    """The fields of a row with quotes, where it stops, and whether the buffer ends within a quoted field."""
    fields = []
    limit = min(len(buffer), start + _MAX_RECORD_BYTES)
    line_stop, _ = _line_end(buffer, start)
    position = start
    while True:
        if buffer[position : position + 1] == b'"':
            close = buffer.find(b'"', position + 1, limit)
            while close >= 0 and buffer[close + 1 : close + 2] == b'"':
                close = buffer.find(b'"', close + 2, limit)
            if close < 0:
                return None, line_stop, True
            fields.append(buffer[position + 1 : close].replace(b'""', b'"'))
            position = close + 1
            line_stop, _ = _line_end(buffer, position)
        else:
            stop = buffer.find(delimiter, position, line_stop)
            stop = line_stop if stop < 0 else stop
            fields.append(buffer[position:stop])
            position = stop
        if position == line_stop:
            return fields, position, False
        if buffer[position : position + 1] != delimiter:
            return None, line_stop, False
        position += 1
