"""Bodies of requests that are compressed: they are read a piece at a time, so that none grows beyond its bound.

Reference: RFC 9110, section 8.4.1; RFC 1952. TF Serving takes gzip, too.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator

from tf_hqgnn.serving.http_message import Head, HttpError

# What is inflated at a time, before others get their turn.
_PIECE_BYTES = 64 << 10
_GZIP = 16 + zlib.MAX_WBITS


class Plain:
    """A body that isn't compressed."""

    def pieces(self, data: bytes) -> Iterator[bytes]:
        """Yields what `data` says."""
        yield data

    def end(self) -> None:
        """Nothing is missing."""


class Gzip:
    """A body in gzip, of one member or several.

    Example:
      >>> import gzip
      >>> body = Gzip()
      >>> b"".join(body.pieces(gzip.compress(b"two") + gzip.compress(b" members")))
      b'two members'
      >>> body.end()
    """

    def __init__(self) -> None:
        self._member = zlib.decompressobj(_GZIP)
        self._is_between = False

    def pieces(self, data: bytes) -> Iterator[bytes]:
        """Yields what `data`, the next bytes of the body, stand for, in pieces of bounded size.

        Raises:
          HttpError: 400, they aren't gzip.
        """
        while data:
            if self._is_between:
                self._member, self._is_between = zlib.decompressobj(_GZIP), False
            try:
                yield self._member.decompress(data, _PIECE_BYTES)
            except zlib.error as error:
                raise HttpError(
                    400, f"the body isn't gzip, as the header Content-Encoding says it is: {error}"
                ) from error
            self._is_between = self._member.eof
            data = self._member.unused_data if self._is_between else self._member.unconsumed_tail

    def end(self) -> None:
        """Raises HttpError (400) unless the body ended where a member of it did."""
        if not self._is_between:
            raise HttpError(400, "the body is gzip that ends too early: send all of it")


def decoder(head: Head) -> Plain | Gzip:
    """What reads the body of a request.

    Raises:
      HttpError: 400 for an encoding that isn't known.
    """
    stated = head.headers.get("content-encoding", "").strip().lower()
    if stated in ("", "identity"):
        return Plain()
    if stated in ("gzip", "x-gzip"):
        return Gzip()
    raise HttpError(400, f"the body's Content-Encoding is {stated[:200]!r}: expected gzip, or no encoding")
