"""Which format a file of interactions has: by its extension, or by how it begins."""

from __future__ import annotations

from pathlib import Path

from tf_hqgnn.data.column_names import STANDARD_NAMES, ColumnNames
from tf_hqgnn.data.compression import SUFFIXES
from tf_hqgnn.data.formats.input_format import INPUT_FORMATS
from tf_hqgnn.data.input_file import open_input, text_of
from tf_hqgnn.types import InputError

_HEAD_BYTES = 16
_SAMPLE_BYTES = 64 << 10
_LISTS = "or set data.format=adjacency if each line is a user followed by its items"


def detect_format(path: Path, columns: ColumnNames = STANDARD_NAMES) -> str:
    """The name of a file's format, by the extension (without that of a compression) or else by the content.

    Args:
      path: the file.
      columns: what columns are called in it.

    Raises:
      InputError: The content is none of the known ones; or a table without a header, which isn't guessed at.
    """
    formats = {name: INPUT_FORMATS[name](columns) for name in INPUT_FORMATS.names()}
    suffixes = [suffix.lower() for suffix in path.suffixes]
    while suffixes and suffixes[-1] in SUFFIXES:
        suffixes.pop()
    for name, one in formats.items():
        if suffixes and suffixes[-1] in one.suffixes:
            return name
    with open_input(path) as stream:
        for name, one in formats.items():
            if not one.is_text and one.recognizes([stream.peek(_HEAD_BYTES)]):
                return name
        start = text_of(stream, str(path)).read(_SAMPLE_BYTES)
    lines = [line for line in start.splitlines() if line.strip()] or [b""]
    if len(start) == _SAMPLE_BYTES:
        # The last line may be cut off; a line as long as the sample tells by its beginning.
        lines = lines[:-1] or [lines[0].rpartition(b" ")[0]]
    for name, one in formats.items():
        if one.is_text and one.recognizes(lines):
            return name
    raise InputError(f"{path}: {_reason(lines, list(formats))}")


def _reason(lines: list[bytes], formats: list[str]) -> str:
    """Why a text is none of the formats, and what to do about it."""
    first = lines[0]
    if first.startswith((b"#", b"%", b"//")):
        return (
            f"the first line is a comment, {_shown(first)}; take the comments out, and put a header with user_id and "
            "item_id before the rows of a table"
        )
    if b"::" in first and b"\t" not in first:
        return (
            f"a table separated by ::, it begins with {_shown(first)}; replace :: by a tab (sed 's/::/\\t/g'), with "
            "a header that names user_id and item_id"
        )
    if b"user_id" in first.split() and b"item_id" in first.split():
        return (
            f"a table separated by blanks, it begins with {_shown(first)}; separate its columns by commas, tabs, "
            "semicolons or bars"
        )
    if _is_table(lines):
        return (
            f"a table without a header that names its columns, it begins with {_shown(first)}; put a header with "
            "user_id and item_id before it, such as user_id,item_id,rating,timestamp with its own separator "
            f"(columns separated by blanks need another one), {_LISTS}"
        )
    return (
        f"can't tell the format from the name or the first line {first[:40]!r}; set data.format to one of "
        f"{', '.join(formats)}, {_LISTS}"
    )


def _is_table(lines: list[bytes]) -> bool:
    """Whether every line has the same number of columns, more than one, whatever separates them."""
    for separator in (b"\t", b",", b";", b"|", b"::", b"\x01", None):
        widths = {len(line.split(separator)) for line in lines}
        if len(widths) == 1 and widths != {1}:
            return True
    return any(b"\t" in line for line in lines)


def _shown(line: bytes) -> str:
    return repr(line[:60].decode("utf-8", "backslashreplace"))
