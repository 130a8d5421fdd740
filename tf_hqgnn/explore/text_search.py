"""Search by words in titles and ids, for a field that answers while one types."""

from __future__ import annotations

import unicodedata
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate

# Texts that are looked at for the rarer words of a query; a scan must end, however common its longest word is.
_MAX_SCANNED = 20_000
# Ends every text, and comes in none: `fold` leaves no line ends.
_END = "\n"


def fold(text: str) -> str:
    r"""Return a text as it is compared: without case, accents and repeated spaces.

    >>> fold("  Les Misérables\n(1995)")
    'les miserables (1995)'
    """
    if not text.isascii():
        text = "".join(one for one in unicodedata.normalize("NFKD", text) if not unicodedata.combining(one))
    return " ".join(text.casefold().split())


class TextIndex:
    """Find texts that hold every word of a query.

    Args:
      texts: in the order in which equally good matches are found.

    Example:
      >>> index = TextIndex(["Toy Story", "Story of a Toy", "Toys", "The Toy"])
      >>> index.search("toy", limit=3)
      [0, 2, 1]
      >>> index.search("toy story", limit=3)
      [0, 1]
    """

    def __init__(self, texts: Sequence[str]) -> None:
        folded = [fold(text) for text in texts]
        self._all = _END + _END.join(folded) + _END
        self._starts = list(accumulate((len(text) + 1 for text in folded[:-1]), initial=1))

    def search(self, query: str, limit: int) -> list[int]:
        """Return the places of at most `limit` texts that match, the best first.

        The best are equal to the query, then come those that begin with it, those in which a word does, and those that
        hold its words anywhere. An empty query finds nothing.
        """
        folded = fold(query)
        if not folded:
            return []
        words = folded.split()
        found: dict[int, None] = {}
        for pattern in (_END + folded + _END, _END + folded, " " + folded):
            for row in self._rows_with(pattern):
                found[row] = None
                if len(found) == limit:
                    return list(found)
        for scanned, row in enumerate(self._rows_with(max(words, key=len))):
            if len(found) == limit or scanned == _MAX_SCANNED:
                break
            if all(word in self._text(row) for word in words):
                found[row] = None
        return list(found)

    def _rows_with(self, pattern: str) -> Iterator[int]:
        place = self._all.find(pattern)
        while place >= 0:
            row = bisect_right(self._starts, place + (pattern[0] == _END)) - 1
            yield row
            # On to the end of this text: each is found once.
            place = self._all.find(pattern, self._end(row))

    def _text(self, row: int) -> str:
        return self._all[self._starts[row] : self._end(row)]

    def _end(self, row: int) -> int:
        return (self._starts[row + 1] if row + 1 < len(self._starts) else len(self._all)) - 1
