"""Which known name a misspelt one means."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

# Beyond this, only names with the same first two characters are compared: each comparison takes microseconds.
_MOST_NAMES = 20_000


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """Return the end of a message about an unknown name: the known name that is most like it, or nothing.

    Args:
      name: as it was given.
      names: those that are known.

    Example:
      >>> did_you_mean("toyz", ["Books", "Toys"]), did_you_mean("1234", ["Books", "Toys"])
      ("; did you mean 'Toys'?", '')
    """
    folded = {one.casefold(): one for one in names}
    if len(folded) > _MOST_NAMES:
        folded = {key: one for key, one in folded.items() if key[:2] == name.casefold()[:2]}
    close = difflib.get_close_matches(name.casefold(), list(folded)[:_MOST_NAMES], n=1)
    return f"; did you mean {folded[close[0]]!r}?" if close else ""
