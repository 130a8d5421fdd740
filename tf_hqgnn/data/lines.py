"""The lines of a text, whichever way they end."""

from __future__ import annotations

import io
from collections.abc import Iterator

_BLOCK_BYTES = 1 << 20


def text_lines(stream: io.BufferedIOBase, block_bytes: int = _BLOCK_BYTES) -> Iterator[bytes]:
    r"""Yields the lines without their ends: LF, CRLF, or CR as in the tables; a last line needs none.

    >>> list(text_lines(io.BytesIO(b"a\rb\r\n\nc")))
    [b'a', b'b', b'', b'c']
    """
    for lines in line_blocks(stream, block_bytes):
        yield from lines


def line_blocks(stream: io.BufferedIOBase, block_bytes: int = _BLOCK_BYTES) -> Iterator[list[bytes]]:
    """As `text_lines`, the lines of about `block_bytes` at a time."""
    rest: list[bytes] = []
    while block := stream.read(block_bytes):
        # The last line may go on, and a CR at the end may be half of a CRLF. A long line is joined once.
        end = max(block.rfind(b"\n"), block.rfind(b"\r", 0, len(block) - 1)) + 1
        if rest and rest[-1].endswith(b"\r") and not block.startswith(b"\n"):
            yield b"".join(rest).splitlines()
            rest = []
        if end:
            yield b"".join([*rest, block[:end]]).splitlines()
            rest = []
        if block[end:]:
            rest.append(block[end:])
    if rest:
        yield b"".join(rest).splitlines()
