"""Cross-origin requests: which web pages of other sites may call the server.

Reference: the Fetch standard, "CORS protocol".
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from tf_hqgnn.serving.http_message import Head
from tf_hqgnn.types import InputError

ANY_ORIGIN = "*"
_ORIGIN = re.compile(r"https?://[^/?#\s,]+", re.IGNORECASE | re.ASCII)
# How long a browser may remember that it was allowed.
_MAX_AGE_SECONDS = 600


class AllowedOrigins:
    """The origins whose pages may read answers.

    Args:
      origins: such as https://shop.example or http://localhost:3000; `*` stands for all; none allows no page.

    Raises:
      InputError: One isn't an origin.

    Example:
      >>> allowed = AllowedOrigins(["https://shop.example"])
      >>> allowed.headers(Head("GET", "/", None, {"origin": "https://shop.example"}))
      {'Vary': 'Origin', 'Access-Control-Allow-Origin': 'https://shop.example'}
      >>> allowed.headers(Head("GET", "/", None, {"origin": "https://evil.example"}))
      {'Vary': 'Origin'}
    """

    def __init__(self, origins: Collection[str] = ()) -> None:
        for origin in origins:
            if origin != ANY_ORIGIN and not _ORIGIN.fullmatch(origin):
                raise InputError(
                    f"allowed origin {origin!r}: expected scheme and host of a page, such as https://shop.example, or *"
                )
        self._origins = frozenset(origin.lower() for origin in origins)

    def __bool__(self) -> bool:
        """Whether any page is allowed."""
        return bool(self._origins)

    def headers(self, head: Head | None) -> Mapping[str, str]:
        """The headers of the answer to a request; None for one that couldn't be read."""
        if not self._origins:
            return {}
        if ANY_ORIGIN in self._origins:
            return {"Access-Control-Allow-Origin": ANY_ORIGIN}
        # Caches must not give one page what was said to another.
        vary = {"Vary": "Origin"}
        origin = None if head is None else head.headers.get("origin")
        if origin is None or origin.lower() not in self._origins:
            return vary
        return {**vary, "Access-Control-Allow-Origin": origin}

    def preflight(self, head: Head) -> Mapping[str, str]:
        """The headers of the answer to OPTIONS, by which a browser asks before it sends what a page wants to send."""
        headers = self.headers(head)
        if "Access-Control-Allow-Origin" not in headers:
            return headers
        return {
            **headers,
            "Access-Control-Allow-Methods": "GET, HEAD, POST, OPTIONS",
            "Access-Control-Allow-Headers": "Content-Type, Content-Encoding",
            "Access-Control-Max-Age": str(_MAX_AGE_SECONDS),
        }
