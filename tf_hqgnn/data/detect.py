"""Which format a file of interactions has: by its extension, else by how it begins."""

from __future__ import annotations

import re
from pathlib import Path

from tf_hqgnn.data.compression import SUFFIXES
from tf_hqgnn.data.input_file import open_input, text_of
from tf_hqgnn.types import InputError

_EXTENSIONS = {
    ".csv": "csv",
    ".tsv": "csv",
    ".tab": "csv",
    ".psv": "csv",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".inter": "inter",
    ".tfrecord": "tfrecord",
    ".tfrecords": "tfrecord",
}
_SAMPLE_BYTES = 64 << 10
# What separates columns, and doesn't occur in lists.
_SEPARATORS = re.compile(rb"[\t,;|]|::")
FORMATS = "csv, parquet, inter, adjacency or tfrecord"


def detect_format(path: Path) -> str:
    """The format by the extension (that of compression left out), else by the content.

    Raises:
      InputError: The content is none of the known ones; or a table without a header, which isn't guessed at.
    """
    suffixes = [suffix.lower() for suffix in path.suffixes]
    while suffixes and suffixes[-1] in SUFFIXES:
        suffixes.pop()
    if suffixes and suffixes[-1] in _EXTENSIONS:
        return _EXTENSIONS[suffixes[-1]]
    with open_input(path) as stream:
        if stream.peek(4).startswith(b"PAR1"):
            return "parquet"
        start = text_of(stream, str(path)).read(_SAMPLE_BYTES)
    first = next(filter(bytes.strip, start.splitlines()), b"").strip()
    if b"user_id:" in first or b"item_id:" in first:
        return "inter"
    if b"user_id" in first or b"item_id" in first:
        return "csv"
    lines = [line for line in start.splitlines() if line.strip()]
    if len(start) == _SAMPLE_BYTES:
        lines = lines[:-1]
    if _are_lists(lines):
        return "adjacency"
    if b"::" in first and b"\t" not in first:
        raise InputError(
            f"{path}: a table separated by ::, it begins with {_shown(first)}; replace :: by a tab (sed 's/::/\\t/g') "
            "and put a header with user_id and item_id before it"
        )
    if _is_table(lines):
        raise InputError(
            f"{path}: a table without a header that names its columns, it begins with {_shown(first)}; put a header "
            "with user_id and item_id before it, such as user_id,item_id,rating,timestamp with its own separator, or "
            "set data.format=adjacency if each line is a user followed by its items"
        )
    raise InputError(
        f"{path}: can't tell the format from the name or the first line {first[:40]!r}; set data.format to {FORMATS}"
    )


def _are_lists(lines: list[bytes]) -> bool:
    """Whether each line is a user followed by its items, separated by blanks.

    Lines of a table have the same number of columns, lists as a rule don't. Lines of two words are pairs either way,
    unless the first is a header.
    """
    if any(_SEPARATORS.search(line) or b"\0" in line for line in lines):
        return False
    rows = [line.split() for line in lines]
    widths = {len(row) for row in rows}
    if widths == {2}:
        first_is_words = not any(word.isdigit() for word in rows[0])
        return not (first_is_words and len(rows) > 1 and all(word.isdigit() for row in rows[1:] for word in row))
    return max(widths, default=0) > 1 and (len(rows) == 1 or len(widths) > 1)


def _is_table(lines: list[bytes]) -> bool:
    """Whether every line has the same number of columns, more than one, whatever separates them."""
    for separator in (b"\t", b",", b";", b"|", b"::", None):
        widths = {len(line.split(separator)) for line in lines}
        if len(widths) == 1 and widths != {1}:
            return True
    return any(b"\t" in line for line in lines)


def _shown(line: bytes) -> str:
    return repr(line[:60].decode("utf-8", "backslashreplace"))
