"""The lines of a text, whichever way they end."""

from __future__ import annotations

import io
from collections.abc import Iterator

from tf_hqgnn.types import InputError

# A list of two million items. A little compressed text may be a line of any length, which memory doesn't hold.
MAX_LINE_BYTES = 16 << 20
_BLOCK_BYTES = 1 << 20


def text_lines(stream: io.BufferedIOBase, name: str, block_bytes: int = _BLOCK_BYTES) -> Iterator[bytes]:
    r"""Yields the lines without their ends: LF, CRLF, or CR as in the tables; a last line needs none.

    Args:
      stream: text behind its byte order mark.
      name: what messages call the text.
      block_bytes: how much is read at once.

    Raises:
      InputError: A line is longer than `MAX_LINE_BYTES`.

    >>> list(text_lines(io.BytesIO(b"a\rb\r\n\nc"), "a.txt"))
    [b'a', b'b', b'', b'c']
    """
    for lines in line_blocks(stream, name, block_bytes):
        yield from lines


def line_blocks(stream: io.BufferedIOBase, name: str, block_bytes: int = _BLOCK_BYTES) -> Iterator[list[bytes]]:
    """As `text_lines`, the lines of about `block_bytes` at a time."""
    number = 1
    for text in _whole_lines(stream, block_bytes):
        if text is None:
            raise long_line(name, number)
        lines = text.splitlines()
        yield lines
        number += len(lines)


def long_line(name: str, line: int) -> InputError:
    """The error for a line that doesn't end."""
    return InputError(
        f"{name} line {line}: it doesn't end within {MAX_LINE_BYTES >> 20} MiB; expected a line for each row, or for "
        "each user where the file holds lists"
    )


def _whole_lines(stream: io.BufferedIOBase, block_bytes: int) -> Iterator[bytes | None]:
    """Yields some lines at a time; None, as the last, where a line is too long."""
    rest: list[bytes] = []
    length = 0
    while block := stream.read(block_bytes):
        # The last line may go on, and a CR at the end may be half of a CRLF. A long line is joined once.
        end = max(block.rfind(b"\n"), block.rfind(b"\r", 0, len(block) - 1)) + 1
        if rest and rest[-1].endswith(b"\r") and not block.startswith(b"\n"):
            yield b"".join(rest)
            rest, length = [], 0
        if end:
            yield b"".join([*rest, block[:end]])
            rest, length = [], 0
        if block[end:]:
            rest.append(block[end:])
            length += len(rest[-1])
            if length > MAX_LINE_BYTES:
                yield None
                return
    if rest:
        yield b"".join(rest)
