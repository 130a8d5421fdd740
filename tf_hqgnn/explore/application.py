"""The answers of the page's server: the page, what it shows of users and items, and calls in TF Serving's protocol.

GET /explore, /explore/FILE     the page
GET /explore/api/about          models, numbers, categories
POST /explore/api/users         {"text": "4", "limit": 8} -> {"users": [..]}
POST /explore/api/user          {"user_id": "4"}, or {} for a random one -> its history
POST /explore/api/items         {"text": "toy", "limit": 8} or {"item_ids": [..]} -> {"items": [..]}
/v1/models/..                   TF Serving's: by the models here, or by the server that the calls are forwarded to
"""

from __future__ import annotations

import asyncio
import json
import logging
from dataclasses import dataclass
from importlib import resources
from typing import Any, Callable

from tf_hqgnn.explore.catalogue import NewestCatalogue
from tf_hqgnn.explore.responses import error_response, file_response, json_response, redirect
from tf_hqgnn.serving.addresses import AllowedHosts
from tf_hqgnn.serving.http_connection import Application
from tf_hqgnn.serving.http_message import Head, HttpError, Response
from tf_hqgnn.serving.rest import check_sender

log = logging.getLogger(__name__)

PAGE = "/explore"
_API = f"{PAGE}/api/"
_CONTENT_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_MAX_QUESTION_BYTES = 1 << 20
_MAX_TEXT = 500
_MAX_FOUND = 50
_MAX_ITEMS = 2000


class ExploreApp:
    """The application behind the page's port.

    Args:
      catalogue: of the users and items.
      models: answers what is TF Serving's.
      hosts: the names by which the page may be called.
      server: HOST:PORT of the TF Serving that answers; None if the models here do.
      export_name: what the page calls the export directory.
    """

    def __init__(
        self,
        catalogue: NewestCatalogue,
        models: Application,
        hosts: AllowedHosts,
        server: str | None,
        export_name: str,
    ) -> None:
        self._catalogue = catalogue
        self._models = models
        self._hosts = hosts
        self._server = server
        self._export_name = export_name
        folder = resources.files("tf_hqgnn.explore") / "page"
        self._files = {
            f"{PAGE}/{file.name}": file_response(file.read_bytes(), _CONTENT_TYPES[suffix])
            for file in folder.iterdir()
            if (suffix := "." + file.name.rpartition(".")[2]) in _CONTENT_TYPES
        }
        self._files[PAGE] = self._files.pop(f"{PAGE}/index.html")

    @property
    def max_body_bytes(self) -> int:
        """The largest body that is read."""
        return self._models.max_body_bytes

    def check(self, head: Head) -> None:
        """Refuse what a web page of another site may send; see `check_sender`."""
        check_sender(head, self._hosts)

    def refuse(self, head: Head | None, error: HttpError) -> Response:
        """Return the answer to a request that isn't whole or not allowed."""
        if head is None or head.path.startswith(PAGE):
            return error_response(error.status, error.message)
        return self._models.refuse(head, error)

    async def answer(self, head: Head, body: bytes) -> Response:
        """Answer a whole request; raises nothing."""
        method = "GET" if head.method == "HEAD" else head.method
        if method == "GET" and head.path in ("/", f"{PAGE}/"):
            return redirect(PAGE)
        if head.path != PAGE and not head.path.startswith(f"{PAGE}/"):
            return await self._models.answer(head, body)
        if method == "GET" and head.path in self._files:
            return self._files[head.path]
        question = _QUESTIONS.get((method, head.path))
        if question is None:
            return error_response(404, f"the page has no {method[:20]} {head.path[:200]}")
        try:
            # Reading a new version or searching a large catalogue would keep others waiting.
            return json_response(await asyncio.to_thread(question, self, _Question.read(body)))
        except HttpError as error:
            return error_response(error.status, error.message)
        except Exception:  # Whatever it is, the page gets an answer and the server goes on.
            log.exception("%s %.200r failed", method, head.path)
            return error_response(500, "the page's server failed; its log says why")

    def about(self, question: _Question) -> dict[str, Any]:
        """Describe what there is to look at, by the newest version there is now."""
        del question
        self._catalogue.refresh()
        models = self._catalogue.model_names
        return {
            "models": models,
            "server": self._server,
            "export": self._export_name,
            **self._catalogue.current.about(),
        }

    def users(self, question: _Question) -> dict[str, Any]:
        """Find users by their ids."""
        return {"users": self._catalogue.current.find_users(question.text("text"), question.limit())}

    def user(self, question: _Question) -> dict[str, Any]:
        """Look up what a user took."""
        catalogue = self._catalogue.current
        known = "user_id" in question.fields
        return catalogue.user(question.text("user_id") if known else catalogue.random_user_id())

    def items(self, question: _Question) -> dict[str, Any]:
        """Find items by their titles and ids, or look up the named ones."""
        catalogue = self._catalogue.current
        if "item_ids" in question.fields:
            return {"items": catalogue.items(question.ids("item_ids"))}
        return {"items": catalogue.find_items(question.text("text"), question.limit())}


@dataclass(frozen=True)
class _Question:
    """The body of a question; its methods raise HttpError for what isn't as expected."""

    fields: dict[str, Any]

    @staticmethod
    def read(body: bytes) -> _Question:
        if len(body) > _MAX_QUESTION_BYTES:
            raise HttpError(400, f"the question has {len(body)} bytes: at most {_MAX_QUESTION_BYTES} are read")
        try:
            fields = json.loads(body or b"{}")
        except (ValueError, RecursionError) as error:
            raise HttpError(400, f"expected a JSON object: {error}") from error
        if not isinstance(fields, dict):
            raise HttpError(400, "expected a JSON object")
        return _Question(fields)

    def text(self, name: str) -> str:
        text = self.fields.get(name)
        if not isinstance(text, str) or len(text) > _MAX_TEXT:
            raise HttpError(400, f"expected {name}, a string of at most {_MAX_TEXT} characters")
        return text

    def limit(self) -> int:
        limit = self.fields.get("limit", 8)
        if type(limit) is not int or not 1 <= limit <= _MAX_FOUND:
            raise HttpError(400, f"expected limit, a whole number from 1 to {_MAX_FOUND}")
        return limit

    def ids(self, name: str) -> list[str]:
        ids = self.fields[name]
        if not isinstance(ids, list) or len(ids) > _MAX_ITEMS or not all(isinstance(one, str) for one in ids):
            raise HttpError(400, f"expected {name}, a list of at most {_MAX_ITEMS} strings")
        return ids


_QUESTIONS: dict[tuple[str, str], Callable[[ExploreApp, _Question], dict[str, Any]]] = {
    ("GET", f"{_API}about"): ExploreApp.about,
    ("POST", f"{_API}users"): ExploreApp.users,
    ("POST", f"{_API}user"): ExploreApp.user,
    ("POST", f"{_API}items"): ExploreApp.items,
}
