"""The questions that a recommender answers, wherever the model is."""

from __future__ import annotations

import abc
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from tf_hqgnn.data.frames import library_of
from tf_hqgnn.data.id_types import IdType, as_list, id_texts
from tf_hqgnn.queries.arrays import as_objects, encoded, feature_texts, padded
from tf_hqgnn.queries.tables import AnswerForm, Answers, decoded
from tf_hqgnn.types import Array, Float32Array, InputError, ObjectArray

# Users of one call of the model: bounds the memory that answers for everybody take besides the table.
CHUNK_USERS = 4096
ALL = "all"


class Queries(abc.ABC):
    """Asks a model by ids and answers with tables; subclasses say where the model is."""

    @abc.abstractmethod
    def _predict(self, signature: str, inputs: dict[str, Array]) -> dict[str, Array]:
        """Calls a signature of the model with arrays, strings as objects of bytes."""

    @abc.abstractmethod
    def _form(self, users: Any = None, items: Any = None) -> AnswerForm:
        """What answers look like, given the ids that were asked with."""

    def _all_users(self) -> ObjectArray:
        raise InputError(f"users: {ALL!r} needs a model in this process; name the users")

    def _largest_k(self, k: int) -> int:
        return k

    def _largest_user_k(self, k: int) -> int:
        return k

    def recommend(
        self, users: Any, k: int = 10, *, exclude: Any = (), category: Any = None, as_arrays: bool = False
    ) -> Any:
        """Recommend to each user the best items that they haven't taken yet.

        Users that the model doesn't know get popular items, and False in the column `known`.

        Args:
          users: ids of users, or "all" for every user of the log.
          k: items per user at most, at least 1.
          exclude: items never to return: ids for all users, or one list of ids for each user.
          category: of the items to return, for all users or one for each; None for any.
          as_arrays: return arrays instead of a table.

        Returns:
          A table with the columns `user_id`, `rank` (from 1), `item_id`, `score`, `known`, and `title` where items were
          given; of polars where the log is, else of pandas. With `as_arrays` `(scores, item_ids)`, both [users, k], in
          the order of `users`; places for which there is no item hold -inf, and "" or -1.

        Raises:
          InputError: An argument is wrong.
        """
        k = check_k(k)
        texts = self._texts(users)
        form = as_asked(self._form(users=users), users)
        options = _RequestOptions(len(texts), exclude, category)
        answers = Answers(form, k)
        for part in chunks(len(texts)):
            inputs = {"user_id": encoded(texts[part]), "k": self._k(k), **options.inputs(part)}
            answers.add(self._predict("recommend", inputs), "known_user")
        return answers.arrays() if as_arrays else answers.table({"user_id": (texts, form.user_id)})

    def recommend_for_history(
        self, histories: Any, k: int = 10, *, exclude: Any = (), category: Any = None, as_arrays: bool = False
    ) -> Any:
        """Recommend to users of whom nothing is known but the items that they took.

        Items that the model doesn't know count for nothing. A history without a known item gets popular items, and
        False in the column `known`.

        Args:
          histories: a list of ids of items for each user, or a mapping of ids of users to such lists.
          k: items per user at most, at least 1.
          exclude: items never to return: ids for all users, or one list of ids for each user.
          category: category of the items to return, for all users or one for each; None for any.
          as_arrays: return arrays instead of a table.

        Returns:
          As `recommend`. `user_id` is the key of the mapping, or the place of the history in the list, from 0.

        Raises:
          InputError: An argument is wrong.
        """
        k = check_k(k)
        names: tuple[ObjectArray, IdType]
        if hasattr(histories, "to_dict") and library_of(histories) is None:
            # A column of lists of pandas, whose index says whose they are.
            histories = histories.to_dict()
        if isinstance(histories, Mapping):
            names = id_texts("histories", list(histories)), self._form(users=list(histories)).user_id
            lists = list(histories.values())
        else:
            lists = _lists(histories)
            names = np.array([str(place) for place in range(len(lists))], object), IdType("int64")
        texts = [encoded(id_texts("histories", one)) for one in lists]
        asked = np.concatenate([as_list("histories", one) for one in lists]) if lists else []
        options = _RequestOptions(len(texts), exclude, category)
        answers = Answers(self._form(items=asked), k)
        for part in chunks(len(texts)):
            inputs = {
                "history_item_id": padded(texts[part]),
                "k": self._k(k),
                **options.inputs(part),
            }
            answers.add(self._predict("recommend_for_history", inputs), "known_user")
        return answers.arrays() if as_arrays else answers.table({"user_id": names})

    def recommend_with_history(
        self,
        users: Any,
        histories: Any,
        k: int = 10,
        *,
        exclude: Any = (),
        category: Any = None,
        as_arrays: bool = False,
    ) -> Any:
        """Recommend to users who have taken more items since training, without training again.

        The new items don't come back. Those that the model doesn't know count for nothing, nor do those that a user
        took before. A user that it doesn't know is answered by the new items alone.

        Args:
          users: ids of users, or "all" for every user of the log.
          histories: ids of the new items of each user, one list for each.
          k: items per user at most, at least 1.
          exclude: items never to return: ids for all users, or one list of ids for each user.
          category: category of the items to return, for all users or one for each; None for any.
          as_arrays: return arrays instead of a table.

        Returns:
          As `recommend`; `known` is False where neither the user nor any of the items is known.

        Raises:
          InputError: An argument is wrong, or the model was exported before it could be asked this.
        """
        k = check_k(k)
        texts = self._texts(users)
        form = as_asked(self._form(users=users), users)
        lists = [encoded(id_texts("histories", one)) for one in _lists(histories)]
        if len(lists) != len(texts):
            raise InputError(f"histories: expected one list for each of the {len(texts)} users, got {len(lists)}")
        options = _RequestOptions(len(texts), exclude, category)
        answers = Answers(form, k)
        for part in chunks(len(texts)):
            inputs = {"user_id": encoded(texts[part]), "history_item_id": padded(lists[part]), "k": self._k(k)}
            answers.add(self._predict("recommend_with_history", {**inputs, **options.inputs(part)}), "known_user")
        return answers.arrays() if as_arrays else answers.table({"user_id": (texts, form.user_id)})

    def recommend_for_features(
        self, features: Any, k: int = 10, *, exclude: Any = (), category: Any = None, as_arrays: bool = False
    ) -> Any:
        """Recommend to users of whom nothing is known but features, such as their age.

        What the model doesn't know, by name or value, counts for nothing. A user without a known feature gets popular
        items, and False in the column `known`.

        Args:
          features: a table with a row for each user and a column for each feature, and maybe `user_id`; or a list with
            a mapping for each user, such as `{"age": 24, "tags": ["a", "b"]}`.
          k: items per user at most, at least 1.
          exclude: items never to return: ids for all users, or one list of ids for each user.
          category: category of the items to return, for all users or one for each; None for any.
          as_arrays: return arrays instead of a table.

        Returns:
          As `recommend`. `user_id` is that of the table, or the place of the user, from 0.

        Raises:
          InputError: An argument is wrong, or the model hasn't learnt from features of users.
        """
        k = check_k(k)
        names: tuple[ObjectArray, IdType] | None = None
        if library_of(features) in ("pandas", "polars", "arrow"):
            columns = _columns_of(features)
            if (ids := columns.pop("user_id", None)) is not None:
                names = id_texts("features", ids), self._form(users=ids).user_id
            features = [dict(zip(columns, row)) for row in zip(*columns.values())]
        listed = as_list("features", [features] if isinstance(features, Mapping) else features)
        texts = [encoded(feature_texts(one)) for one in listed]
        if names is None:
            names = np.array([str(place) for place in range(len(texts))], object), IdType("int64")
        options = _RequestOptions(len(texts), exclude, category)
        answers = Answers(self._form(), k)
        for part in chunks(len(texts)):
            inputs = {"user_feature": padded(texts[part]), "k": self._k(k), **options.inputs(part)}
            answers.add(self._predict("recommend_for_features", inputs), "known_user")
        return answers.arrays() if as_arrays else answers.table({"user_id": names})

    def similar_items(self, items: Any, k: int = 10, *, as_arrays: bool = False) -> Any:
        """Find the items most similar to each item, by the cosine of their embeddings.

        Args:
          items: ids of items; for one that the model doesn't know there is no answer.
          k: answers per item at most, at least 1.
          as_arrays: return arrays instead of a table.

        Returns:
          A table with the columns `target_item_id` (as asked), `rank`, `item_id` (the answer), `score`, `known` and
          maybe `title`; or arrays, as of `recommend`.

        Raises:
          InputError: An argument is wrong.
        """
        k = check_k(k)
        texts = id_texts("items", items)
        form = as_asked(self._form(items=items), items)
        answers = Answers(form, k)
        for part in chunks(len(texts)):
            inputs = {"item_id": encoded(texts[part]), "k": self._k(k)}
            answers.add(self._predict("similar_items", inputs), "known_item")
        return answers.arrays() if as_arrays else answers.table({"target_item_id": (texts, form.item_id)})

    def user_embeddings(self, users: Any = ALL) -> tuple[Array, Float32Array]:
        """Look up the embeddings of users, with which items are scored.

        Args:
          users: ids of users, or "all".

        Returns:
          `(user_ids, embeddings)`, [U] and float32 [U, d]; zeros for a user that the model doesn't know.

        Raises:
          InputError: An id is none.
        """
        texts = self._texts(users)
        parts = [{"user_id": encoded(texts[part])} for part in chunks(len(texts))]
        rows = [self._predict("embed_user", inputs)["embedding"] for inputs in parts]
        return decoded(texts, self._form(users=users).user_id), np.concatenate(rows) if rows else np.zeros(
            (0, 0), np.float32
        )

    def _texts(self, users: Any) -> ObjectArray:
        return self._all_users() if isinstance(users, str) and users == ALL else id_texts("users", users)

    def _k(self, k: int) -> Array:
        return np.array(self._largest_k(k), np.int32)


class _RequestOptions:
    """What is asked of the answers besides k: no such items, of this category only."""

    def __init__(self, num_users: int, exclude: Any, category: Any) -> None:
        if isinstance(category, str) or category is None or np.isscalar(category):
            categories = np.full(num_users, "" if category is None else str(category), object)
        else:
            listed = as_list("category", category)
            categories = as_objects(["" if one is None else str(one) for one in listed])
        if len(categories) != num_users:
            raise InputError(f"category: expected one for each of the {num_users} users, got {len(categories)}")
        self._categories = categories
        self._excluded = ItemLists("exclude", exclude, num_users)

    def inputs(self, part: slice) -> dict[str, Array]:
        """The inputs of a signature for some of the users."""
        categories = encoded(self._categories[part])
        excluded = self._excluded.texts * len(categories) if self._excluded.same else self._excluded.texts[part]
        return {"exclude_item_id": padded([encoded(one) for one in excluded]), "category": categories}


class ItemLists:
    """Lists of items: one for all users, or one for each.

    Args:
      name: of the argument, for errors.
      given: ids of items, or a list of ids for each user.
      num_users: how many there are.

    Attributes:
      same: whether there is one list for all users.
      texts: the lists as text, a single one if `same`.

    Raises:
      InputError: An id is none, or there is a list for another number of users.
    """

    def __init__(self, name: str, given: Any, num_users: int) -> None:
        listed = as_list(name, given)
        nested = [not isinstance(one, str | bytes) and not np.isscalar(one) for one in listed]
        if any(nested) and not all(nested):
            raise InputError(f"{name}: expected ids of items or lists of them, not both at once")
        self.same = not any(nested)
        lists = [listed] if self.same else listed
        if not self.same and len(lists) != num_users:
            raise InputError(f"{name}: expected one list for each of the {num_users} users, got {len(lists)}")
        self.texts = [id_texts(name, one) for one in lists]

    def array(self, part: slice) -> ObjectArray:
        """The lists of some users as a signature takes them: object [users, longest], or [1, longest] if `same`."""
        return padded([encoded(one) for one in (self.texts if self.same else self.texts[part])])


def as_asked(form: AnswerForm, ids: Any) -> AnswerForm:
    """The form of an answer to a column of polars, which is polars whatever the log was."""
    return replace(form, library="polars") if type(ids).__module__.startswith("polars") else form


def asked_type(values: Any) -> IdType:
    """The type of ids by those that a question names: integers, or text."""
    if values is None or library_of(values) is not None:
        return IdType()
    listed = as_list("ids", values)
    numbers = [isinstance(one, int | float | np.number) and not isinstance(one, bool) for one in listed]
    return IdType("int64") if listed and all(numbers) else IdType()


def _columns_of(table: Any) -> dict[str, list[Any]]:
    """The columns of a table of pandas, polars or Arrow, as lists of Python's values."""
    if hasattr(table, "to_pydict"):
        return dict(table.to_pydict())
    return {str(name): list(table[name]) for name in table.columns}


def _lists(histories: Any) -> list[Any]:
    listed = as_list("histories", histories)
    for one in listed:
        if isinstance(one, str | bytes) or not isinstance(one, Iterable):
            raise InputError(f"histories: expected a list of ids of items for each user, got {one!r} among them")
    return listed


def chunks(num_users: int) -> Iterator[slice]:
    """Return the parts of a list of users that are asked for together."""
    return (slice(start, start + CHUNK_USERS) for start in range(0, num_users, CHUNK_USERS))


def check_k(k: Any) -> int:
    """Return `k` as an int, or raise InputError."""
    if isinstance(k, bool | np.bool_) or not isinstance(k, int | np.integer) or not 1 <= k < 2**31:
        raise InputError(f"k: expected a whole number from 1 on, got {k!r}")
    return int(k)
