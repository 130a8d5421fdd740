"""The recommender's questions and answers, wherever the model is: behind a server or in this process."""

from __future__ import annotations

import abc
from dataclasses import dataclass
from typing import Iterable, Mapping, Sequence

import numpy as np

from tf_hqgnn.export.layout import DEFAULT_MODEL, FOR_FEATURES
from tf_hqgnn.queries.arrays import encoded, feature_texts, padded
from tf_hqgnn.types import Array, InputError


@dataclass(frozen=True)
class Recommendation:
    """The items that are recommended to one user, the best first.

    Args:
      user_id: As asked.
      known_user: False if the model hasn't seen the user: the items are the popular ones.
      scores: float32 [n], n <= k.
      item_ids: n ids.
    """

    user_id: str
    known_user: bool
    scores: Array
    item_ids: tuple[str, ...]


@dataclass(frozen=True)
class SimilarItems:
    """The items most similar to one item, the best first.

    Args:
      item_id: As asked.
      known_item: False if the model doesn't know the item: there are no answers then.
      scores: float32 [n], n <= k.
      item_ids: n ids.
    """

    item_id: str
    known_item: bool
    scores: Array
    item_ids: tuple[str, ...]


class QueryClient(abc.ABC):
    """Asks the signatures of an exported model; subclasses say how a signature is called."""

    @abc.abstractmethod
    def predict(
        self,
        signature_name: str,
        inputs: dict[str, Array],
        model: str = DEFAULT_MODEL,
        version: int | None = None,
        output_filter: Sequence[str] = (),
    ) -> dict[str, Array]:
        """Calls any signature with arrays (strings as objects of bytes); returns its outputs as arrays."""

    def recommend(
        self,
        user_ids: Sequence[str],
        k: int = 10,
        exclude: Sequence[str] | Sequence[Sequence[str]] = (),
        model: str = DEFAULT_MODEL,
        version: int | None = None,
        category: str | Sequence[str] = "",
    ) -> list[Recommendation]:
        """Recommend to each user the best items that it hasn't taken yet.

        Args:
          user_ids: The users; unknown ones get popular items.
          k: Answers per user at most, >= 1.
          exclude: Items never to return: ids for all users, or one list of ids per user.
          model: Which model answers.
          version: Which of its versions; None is the one served.
          category: Of items to return, for all users or one for each; "" for any.

        Raises:
          InputError: The arguments are wrong, or the server says so.
          ServerUnavailable: No answer.
        """
        users = ids_of("user_ids", user_ids)
        if not len(users):
            return []
        inputs = {"user_id": users, **_request_options(len(users), k, exclude, category)}
        return recommendations(user_ids, self.predict("recommend", inputs, model, version))

    def recommend_for_history(
        self,
        histories: Sequence[Sequence[str]],
        k: int = 10,
        exclude: Sequence[str] | Sequence[Sequence[str]] = (),
        model: str = DEFAULT_MODEL,
        version: int | None = None,
        category: str | Sequence[str] = "",
    ) -> list[Recommendation]:
        """Recommend to users of whom nothing is known but the items that they took; `user_id` is "" in the answers.

        Unknown items count for nothing; a user without a known one gets popular items, and `known_user` False.
        """
        rows = [ids_of("histories", one) for one in histories]
        options = k, exclude, category
        return self._recommend_strangers("recommend_for_history", "history_item_id", rows, options, model, version)

    def recommend_with_history(
        self,
        user_ids: Sequence[str],
        histories: Sequence[Sequence[str]],
        k: int = 10,
        exclude: Sequence[str] | Sequence[Sequence[str]] = (),
        model: str = DEFAULT_MODEL,
        version: int | None = None,
        category: str | Sequence[str] = "",
    ) -> list[Recommendation]:
        """Recommend to users who have taken more items since the model was trained: `histories`, one list each.

        Unknown items count for nothing. An unknown user is answered as by `recommend_for_history`.
        """
        users = ids_of("user_ids", user_ids)
        rows = [ids_of("histories", one) for one in histories]
        if len(rows) != len(users):
            raise InputError(f"histories: expected one list for each of the {len(users)} users, got {len(rows)}")
        if not rows:
            return []
        inputs = {
            "user_id": users,
            "history_item_id": padded(rows),
            **_request_options(len(users), k, exclude, category),
        }
        return recommendations(user_ids, self.predict("recommend_with_history", inputs, model, version))

    def recommend_for_features(
        self,
        features: Sequence[Mapping[str, str | Sequence[str]] | Sequence[str]],
        k: int = 10,
        exclude: Sequence[str] | Sequence[Sequence[str]] = (),
        model: str = DEFAULT_MODEL,
        version: int | None = None,
        category: str | Sequence[str] = "",
    ) -> list[Recommendation]:
        """Recommend to users of whom nothing is known but features; `user_id` is "" in the answers.

        Args:
          features: of each user: a mapping such as `{"age": "24"}`, or texts such as `age=24`. What the model doesn't
            know counts for nothing; a user without a known feature gets popular items, and `known_user` False.
          k: Answers per user at most, >= 1.
          exclude: see `recommend`.
          model: see `recommend`; it must have learnt from features of users.
          version: see `recommend`.
          category: see `recommend`.
        """
        rows = [encoded(feature_texts(one)) for one in features]
        return self._recommend_strangers(FOR_FEATURES, "user_feature", rows, (k, exclude, category), model, version)

    def _recommend_strangers(
        self,
        signature: str,
        name: str,
        rows: Sequence[Array],
        options: tuple[int, Sequence[str] | Sequence[Sequence[str]], str | Sequence[str]],
        model: str,
        version: int | None,
    ) -> list[Recommendation]:
        """Asks for users without an id, of whom the input `name` says something: a row of texts for each."""
        if not rows:
            return []
        inputs = {name: padded(rows), **_request_options(len(rows), *options)}
        return recommendations([""] * len(rows), self.predict(signature, inputs, model, version))

    def similar_items(
        self, item_ids: Sequence[str], k: int = 10, model: str = DEFAULT_MODEL, version: int | None = None
    ) -> list[SimilarItems]:
        """Find the items most similar to each item; none for an unknown item. Arguments are those of `recommend`."""
        items = ids_of("item_ids", item_ids)
        if not len(items):
            return []
        outputs = self.predict("similar_items", {"item_id": items, "k": check_k(k)}, model, version)
        known = outputs["known_item"]
        rows = valid_rows(outputs)
        return [SimilarItems(item, bool(known[row]), *rows[row]) for row, item in enumerate(item_ids)]

    def unknown_items(self, item_ids: Sequence[str]) -> set[str]:
        """Return those of some items that the model doesn't know."""
        return {one.item_id for one in self.similar_items(item_ids, k=1) if not one.known_item}

    def embed(
        self, user_ids: Sequence[str], model: str = DEFAULT_MODEL, version: int | None = None
    ) -> tuple[Array, Array]:
        """Return embeddings of users, float32 [n, d], and whether each is known, bool [n]; see `recommend`."""
        outputs = self.predict("embed_user", {"user_id": ids_of("user_ids", user_ids)}, model, version)
        return outputs["embedding"], outputs["known_user"]


def ids_of(name: str, ids: Sequence[str]) -> Array:
    """Return ids as UTF-8, object [n], or raise InputError."""
    if isinstance(ids, (str, bytes)) or not isinstance(ids, Iterable) or not all(isinstance(one, str) for one in ids):
        raise InputError(f"{name}: expected a list of strings, got {ids!r}")
    return encoded(ids)


def lists_of(name: str, given: Sequence[str] | Sequence[Sequence[str]], num_users: int) -> list[Array]:
    """Lists of encoded ids: a single one for all users, or one for each.

    Raises:
      InputError: An id is none, or there is a list for another number of users.
    """
    if isinstance(given, (str, bytes)):
        raise InputError(f"{name}: expected a list of item ids or one list per user, got {given!r}")
    lists = [ids_of(name, one) for one in given if not isinstance(one, str)]
    if not lists:
        return [ids_of(name, [str(one) for one in given])]
    if len(lists) != len(given):
        raise InputError(f"{name}: expected item ids or lists of them, not both at once")
    if len(lists) != num_users:
        raise InputError(f"{name}: expected one list for each of the {num_users} users, got {len(lists)}")
    return lists


def _exclusions(exclude: Sequence[str] | Sequence[Sequence[str]], num_users: int) -> Array:
    """[num_users, E] ids as bytes, padded with ""."""
    lists = lists_of("exclude", exclude, num_users)
    return padded(lists * num_users if len(lists) == 1 else lists)


def _request_options(
    num_users: int, k: int, exclude: Sequence[str] | Sequence[Sequence[str]], category: str | Sequence[str]
) -> dict[str, Array]:
    """The inputs that are the same in both ways to recommend."""
    categories = ids_of("category", [category] * num_users if isinstance(category, str) else category)
    if len(categories) != num_users:
        raise InputError(f"category: expected one for each of the {num_users} users, got {len(categories)}")
    return {"k": check_k(k), "exclude_item_id": _exclusions(exclude, num_users), "category": categories}


def recommendations(user_ids: Sequence[str], outputs: dict[str, Array]) -> list[Recommendation]:
    """Return the answer for each user, from the outputs of a signature."""
    known, rows = outputs["known_user"], valid_rows(outputs)
    return [Recommendation(user, bool(known[row]), *rows[row]) for row, user in enumerate(user_ids)]


def check_k(k: int) -> Array:
    """Return the input `k`, or raise InputError."""
    if not 1 <= k < 2**31:
        raise InputError(f"k: expected at least 1, got {k}")
    return np.array(k, np.int32)


def valid_rows(outputs: dict[str, Array], name: str = "item_id") -> list[tuple[Array, tuple[str, ...]]]:
    """Return the scores of each row and its ids, those of the output `name`, without the padding."""
    return [
        (scores[:valid], tuple(item.decode("utf-8") for item in items[:valid]))
        for scores, items, valid in zip(outputs["score"], outputs[name], outputs["num_valid"], strict=True)
    ]
