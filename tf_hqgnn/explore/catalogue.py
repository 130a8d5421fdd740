"""The users, items, titles and histories that the page shows, read from an export directory."""

from __future__ import annotations

import logging
import random
import threading
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from tf_hqgnn.explore.text_search import TextIndex
from tf_hqgnn.export.contents import Contents, read_contents
from tf_hqgnn.export.layout import DEFAULT_MODEL
from tf_hqgnn.retrieval.item_filter import split_categories
from tf_hqgnn.serving.directory import check_base_path, find_models, find_versions
from tf_hqgnn.types import InputError

log = logging.getLogger(__name__)

# Items of a history that are sent to the page; it says how many more there are.
MAX_HISTORY = 1000


class Catalogue:
    """Answer what the page asks of the users and items of one model.

    Args:
      contents: what a version of the model says of them.
    """

    def __init__(self, contents: Contents) -> None:
        self._contents = contents
        self._users = {user_id: row for row, user_id in enumerate(contents.user_ids)}
        self._items = {item_id: row for row, item_id in enumerate(contents.item_ids)}
        popularity = contents.item_popularity
        # The most popular first; among equals the lower row, as in the model's own answers.
        self._by_popularity = np.argsort(-popularity, kind="stable")
        self._rank = np.empty(len(popularity), np.int64)
        self._rank[self._by_popularity] = np.arange(1, len(popularity) + 1)
        self._item_index = TextIndex([f"{self._title(row)} {contents.item_ids[row]}" for row in self._by_popularity])
        # 4 comes before 40, and 5 before 10.
        self._user_order = sorted(contents.user_ids, key=lambda user_id: (len(user_id), user_id))
        self._user_index = TextIndex(self._user_order)
        counts = Counter(name for row in range(len(self._items)) for name in self._categories(row))
        self._category_names = [name for name, _ in counts.most_common()]

    def about(self) -> dict[str, Any]:
        """Return the numbers of users and items, the categories, the commonest first, and whether there are titles."""
        return {
            "num_users": len(self._users),
            "num_items": len(self._items),
            "categories": self._category_names,
            "has_titles": self._contents.item_titles is not None,
        }

    def find_users(self, text: str, limit: int) -> list[dict[str, Any]]:
        """Return the users whose ids match a text, the best first."""
        names = [self._user_order[place] for place in self._user_index.search(text, limit)]
        # An id that search folds into nothing, or into another's, is found as it is.
        if text in self._users:
            names = [text, *(name for name in names if name != text)][:limit]
        return [{"user_id": name, "num_taken": len(self._taken(self._users[name]))} for name in names]

    def find_items(self, text: str, limit: int) -> list[dict[str, Any]]:
        """Return the items whose titles or ids match a text; among equal matches the more popular comes first."""
        rows = [int(self._by_popularity[place]) for place in self._item_index.search(text, limit)]
        if text in self._items:
            rows = [self._items[text], *(row for row in rows if row != self._items[text])][:limit]
        return [self._item(row) for row in rows]

    def items(self, item_ids: Iterable[str]) -> list[dict[str, Any]]:
        """Return what is known of the given items; unknown ones are left out."""
        return [self._item(self._items[item_id]) for item_id in item_ids if item_id in self._items]

    def user(self, user_id: str) -> dict[str, Any]:
        """Return a user's history, its most popular items first; that of an unknown user is empty."""
        row = self._users.get(user_id)
        taken = np.zeros(0, np.int32) if row is None else self._taken(row)
        shown = taken[np.argsort(self._rank[taken], kind="stable")][:MAX_HISTORY]
        known = row is not None and (self._contents.known_users is None or bool(self._contents.known_users[row]))
        items = [self._item(int(item)) for item in shown]
        return {"user_id": user_id, "known_user": known, "num_taken": len(taken), "taken": items}

    def random_user_id(self) -> str:
        """Return the id of a user drawn at random, one with a history if there is any."""
        active = np.flatnonzero(np.diff(self._contents.seen[0]))
        rows = active if len(active) else np.arange(len(self._users))
        return str(self._contents.user_ids[random.choice(rows)])

    def _taken(self, row: int) -> Any:
        indptr, indices = self._contents.seen
        return indices[indptr[row] : indptr[row + 1]]

    def _title(self, row: int) -> str:
        titles = self._contents.item_titles
        return "" if titles is None else str(titles[row])

    def _categories(self, row: int) -> list[str]:
        categories = self._contents.item_categories
        return [] if categories is None else split_categories(categories[row])

    def _item(self, row: int) -> dict[str, Any]:
        return {
            "item_id": self._contents.item_ids[row],
            "title": self._title(row),
            "category": ", ".join(self._categories(row)),
            "popularity_rank": int(self._rank[row]),
        }


class NewestCatalogue:
    """Hold the catalogue of the newest version in an export directory, and follow it to newer ones.

    Args:
      export_dir: of `tf-hqgnn export`.

    Raises:
      InputError: It holds no version that says of itself what its users and items are.
    """

    def __init__(self, export_dir: Path) -> None:
        self._export_dir = export_dir
        self._lock = threading.Lock()
        check_base_path(export_dir)
        versions = self._versions()
        first_error: InputError | None = None
        for version_dir in versions:
            try:
                self.current = Catalogue(read_contents(version_dir))
            except InputError as error:
                first_error = first_error or error
                continue
            self._version_dir = self._tried = version_dir
            return
        raise first_error or InputError(f"{export_dir} holds no version of a model")

    @property
    def model_names(self) -> list[str]:
        """The models in the directory, the exact one first."""
        return sorted(find_models(self._export_dir), key=lambda name: (name != DEFAULT_MODEL, name))

    def refresh(self) -> None:
        """Read a newer version if there is one; one that can't be read is tried once, and told of in the log."""
        with self._lock:
            newest = next(iter(self._versions()), None)
            if newest is None or newest in (self._version_dir, self._tried):
                return
            self._tried = newest
            try:
                self.current = Catalogue(read_contents(newest))
                self._version_dir = newest
            except InputError as error:
                log.warning("the page goes on with titles and histories of %s: %s", self._version_dir, error)

    def _versions(self) -> list[Path]:
        """The versions of the first model that has any, the newest first; then those of the others."""
        return [path for name in self.model_names for path in find_versions(self._export_dir / name).values()]
