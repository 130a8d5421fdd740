"""Text for a terminal: data is shown as it is, whatever it looks like, on whatever terminal there is."""

from __future__ import annotations

import io
import re
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.text import Text

# What a terminal would obey instead of showing it, and what no encoding has.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def replace_unprintable() -> None:
    """Shows `?` for what a terminal's encoding doesn't have, where Python would end with a UnicodeEncodeError."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def printable(value: object) -> str:
    r"""Text in one line, without control characters.

    >>> printable("a\x1b[31m\nb")
    'a\ufffd[31m\ufffdb'
    """
    return _CONTROL.sub("\ufffd", str(value))


def plain(value: object) -> Text:
    """Text for a rich table or console: neither markup such as [red] nor emoji codes such as :cat: mean anything in it.

    >>> plain("Alarm [rec] (2007)").plain
    'Alarm [rec] (2007)'
    """
    from rich.text import Text

    return Text(printable(value))
