"""Text for a terminal: data is shown as it is, whatever it looks like, on whatever terminal there is."""

from __future__ import annotations

import io
import os
import sys
from typing import TYPE_CHECKING

from tf_hqgnn.types import UNSHOWABLE

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text


def _open_closed_streams() -> None:
    """Leads standard streams that the caller closed (`>&-`) to nowhere.

    Python has None in their place, and the first file that is opened would get their number, and what is printed.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            # Opened in this order, they get the lowest numbers that are free, which are their own.
            setattr(sys, name, open(os.devnull, "w" if number else "r", encoding="utf-8"))  # noqa: PTH123, SIM115


def utf8(argument: str) -> str:
    r"""An argument of the command line as the UTF-8 text that its bytes are, whatever the locale says.

    What isn't UTF-8 stays as it is.

    >>> utf8("\udcc3\udcbc1"), utf8("é"), utf8("\udcff")
    ('ü1', 'é', '\udcff')
    """
    try:
        return argument.encode("utf-8", "surrogateescape").decode("utf-8")
    except UnicodeError:
        return argument


def replace_unprintable() -> None:
    """Shows `?` for what a terminal's encoding doesn't have, where Python would end with a UnicodeEncodeError."""
    _open_closed_streams()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def printable(value: object) -> str:
    r"""Text in one line, without control characters and marks that turn the direction of writing.

    >>> printable("a\x1b[31m\nb")
    'a\ufffd[31m\ufffdb'
    """
    return UNSHOWABLE.sub("\ufffd", str(value))


def joined_paragraphs(docstring: str) -> str:
    r"""Return a docstring with each paragraph on one line, so that a terminal of any width wraps it anew.

    >>> joined_paragraphs("Do this\n    and that.\n\n    Then more.")
    'Do this and that.\n\nThen more.'
    """
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in docstring.split("\n\n"))


def print_table(title: str, table: Table) -> None:
    """Print a rich table under a title; piped output gets a width that doesn't fold titles."""
    from rich.console import Console

    # Data is no markup.
    console = Console(width=None if sys.stdout.isatty() else 120, highlight=False, markup=False, emoji=False)
    console.print(plain(title))
    console.print(table)


def plain(value: object) -> Text:
    """Text for a rich table or console: neither markup such as [red] nor emoji codes such as :cat: mean anything in it.

    >>> plain("Alarm [rec] (2007)").plain
    'Alarm [rec] (2007)'
    """
    from rich.text import Text

    return Text(printable(value))
