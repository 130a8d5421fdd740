"""Answers to a browser, with headers that let it run nothing and ask nobody but this page's own server."""

from __future__ import annotations

import json
from typing import Any

from tf_hqgnn.serving.http_message import Response

# Scripts and styles come from files of the page, never from text in it: ids and titles can't become either.
CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)
_HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def file_response(content: bytes, content_type: str) -> Response:
    """Return a file of the page; browsers ask again each time, so that an upgraded page is never half old."""
    return Response(200, content, content_type, {**_HEADERS, "Cache-Control": "no-cache"})


def json_response(document: Any) -> Response:
    """Return a JSON document."""
    return Response(200, json.dumps(document).encode(), headers={**_HEADERS, "Cache-Control": "no-store"})


def error_response(status: int, message: str) -> Response:
    """Return an error, as TF Serving's REST gives it: {"error": ".."}."""
    return Response(status, json.dumps({"error": message}).encode(), headers=_HEADERS)


def redirect(path: str) -> Response:
    """Return the answer that sends a browser to another path."""
    return Response(302, b"", headers={**_HEADERS, "Location": path})
