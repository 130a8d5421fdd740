"""Whether a text without a known header is a list of ids, one a line, and nothing else."""

from __future__ import annotations

import re

from tf_hqgnn.data.text_table import DELIMITERS
from tf_hqgnn.data.tfrecord_file import is_record_header
from tf_hqgnn.types import InputError

# What people call such a column. An id may be such a word only if it isn't the first.
_HEADER_WORDS = re.compile(
    r"(user|users|item|items|customer|customers|client|member|visitor|product|products|movie|sku|u|i)?[ _\-.]?"
    r"(id|ids|key|index|uid|iid|name)|user|users|item|items|customer|customers|product|products",
    re.IGNORECASE,
)
_NOT_TEXT = re.compile(rb"[\0-\x08\x0e-\x1f\x7f]")
_DIGITS_AND_BLANKS = re.compile(rb"[0-9]+( [0-9]+)*[ \t]*")


def check_id_lines(head: bytes, name: str, column: str) -> None:
    """Refuses a text that may be a table, lists or no text at all; in doubt, a header settles it.

    Args:
      head: how it begins, behind its byte order mark.
      name: what messages call it.
      column: how the header of a table would name the ids.

    Raises:
      InputError: It says what to do about it.
    """
    if is_record_header(head) or _NOT_TEXT.search(head):
        raise InputError(f"{name}: the content isn't text; expected ids one a line, or CSV or Parquet with {column}")
    lines = [line for line in head.splitlines() if line.strip()]
    if not lines:
        return
    first = lines[0].strip().strip(b'"')
    shown = repr(lines[0][:60].decode("utf-8", "backslashreplace"))
    word = first.decode("utf-8", "replace")
    if _HEADER_WORDS.fullmatch(word):
        raise InputError(
            f"{name}: the first line {shown} looks like a header; name the column {column}, or take the line out if "
            "each line is an id"
        )
    # The last line may be cut off.
    whole = lines[:-1] if len(lines) > 1 else lines
    for separator in (*DELIMITERS, b"::"):
        if all(separator in line for line in whole):
            what = "tabs" if separator == b"\t" else separator.decode()
            raise InputError(
                f"{name}: the lines are separated by {what} and no column is named {column}, the first is {shown}; "
                f"expected ids one a line, or a header with {column}"
            )
    if all(_DIGITS_AND_BLANKS.fullmatch(line) for line in whole) and any(b" " in line.strip() for line in whole):
        raise InputError(
            f"{name}: several numbers in a line, as in lists of neighbours, the first is {shown}; expected one id a "
            f"line, or a header with {column}"
        )
