"""Questions about users and items that are named, wherever the model is."""

from __future__ import annotations

from typing import Any

import numpy as np

from tf_hqgnn.data.id_types import id_texts
from tf_hqgnn.queries.arrays import as_objects, encoded, flags_of, numbers_of
from tf_hqgnn.queries.queries import ItemLists, Queries, as_asked, check_k, chunks
from tf_hqgnn.queries.tables import Answers, decoded, make_table
from tf_hqgnn.types import Array, InputError, ObjectArray


class PairQueries(Queries):
    """Asks about named users and items, besides all that `Queries` asks."""

    def score(self, users: Any, items: Any, *, as_arrays: bool = False) -> Any:
        """Return the numbers by which `recommend` ranks, for users and items that you name.

        Items that a user took have a score as all others.

        Args:
          users: ids of users, or "all" for every user of the log.
          items: ids of items to score for all users, or one list of ids for each user.
          as_arrays: return the scores alone.

        Returns:
          A table as of `recommend`, in which `rank` orders the items of a user. Where the user or the item isn't known,
          `known` is False and the score NaN. With `as_arrays` float32 [users, items], in the order of both; rows of
          shorter lists end in NaN.

        Raises:
          InputError: An argument is wrong, or the model was exported before it could be asked this.
        """
        texts = self._texts(users)
        lists = ItemLists("items", items, len(texts))
        form = as_asked(self._form(users=users), users)
        rows: list[ObjectArray] = lists.texts * len(texts) if lists.same else lists.texts
        sizes = np.array([len(row) for row in rows], np.int64)
        scores = np.full((len(texts), max(sizes, default=0)), np.nan, np.float32)
        for part in chunks(len(texts)):
            found = self._predict("score", {"user_id": encoded(texts[part]), "item_id": lists.array(part)})
            known = found["known_user"][:, np.newaxis] & found["known_item"]
            width = scores.shape[1]
            scores[part] = np.where(known, found["score"], np.nan)[:, :width]
        if as_arrays:
            return scores
        # Padding sorts behind items that aren't known, which have no score either.
        there = np.arange(scores.shape[1]) < sizes[:, np.newaxis]
        order = np.lexsort((-scores, ~there), axis=1) if scores.size else np.zeros(scores.shape, np.int64)
        place = order[there]
        user = np.repeat(np.arange(len(texts)), sizes)
        ranked = as_objects([rows[one][other] for one, other in zip(user, place)])
        found_scores: Array = scores[user, place]
        columns = {
            "user_id": (decoded(texts[user], form.user_id), form.user_id),
            "rank": (np.arange(len(user)) - np.repeat(np.cumsum(sizes) - sizes, sizes) + 1, None),
            "item_id": (decoded(ranked, form.item_id), form.item_id),
            "score": (found_scores, None),
            "known": (~np.isnan(found_scores), None),
        }
        return make_table(columns, form, ranked)

    def similar_users(self, users: Any, k: int = 10, *, as_arrays: bool = False) -> Any:
        """Find the users who are most similar to each user, by the cosine of their embeddings.

        Args:
          users: ids of users, or "all"; for one that the model doesn't know there is no answer.
          k: answers per user at most, at least 1.
          as_arrays: return arrays instead of a table.

        Returns:
          A table with the columns `target_user_id` (as asked), `rank`, `user_id` (the answer), `score` and `known`; or
          arrays `(scores, user_ids)`, as of `recommend`.

        Raises:
          InputError: An argument is wrong, or the model was exported before it could be asked this.
        """
        k = check_k(k)
        texts = self._texts(users)
        form = as_asked(self._form(users=users), users)
        answers = Answers(form, k, "user_id")
        for part in chunks(len(texts)):
            inputs = {"user_id": encoded(texts[part]), "k": np.array(self._largest_user_k(k), np.int32)}
            answers.add(self._predict("similar_users", inputs), "known_user", "similar_user_id")
        return answers.arrays() if as_arrays else answers.table({"target_user_id": (texts, form.user_id)})

    def rerank(
        self, users: Any, candidates: Any, k: int = 10, *, allow_seen: Any = False, as_arrays: bool = False
    ) -> Any:
        """Recommend to each user the best of the items that you name.

        Candidates that the model doesn't know, or that aren't available, don't come back. Users that it doesn't know
        get the most popular candidates.

        Args:
          users: ids of users, or "all" for every user of the log.
          candidates: ids of items to choose from, for all users, or one list of ids for each user.
          k: items per user at most, at least 1.
          allow_seen: whether items that a user took may come back, for all users or one for each.
          as_arrays: return arrays instead of a table.

        Returns:
          As `recommend`.

        Raises:
          InputError: An argument is wrong, or the model was exported before it could be asked this.
        """
        k = check_k(k)
        texts = self._texts(users)
        form = as_asked(self._form(users=users), users)
        lists = ItemLists("candidates", candidates, len(texts))
        may_see = flags_of("allow_seen", allow_seen, len(texts))
        answers = Answers(form, k)
        for part in chunks(len(texts)):
            inputs = {"user_id": encoded(texts[part]), "candidate_item_id": lists.array(part), "k": self._k(k)}
            inputs["allow_seen"] = _part(may_see, part)
            answers.add(self._predict("rerank", inputs), "known_user")
        return answers.arrays() if as_arrays else answers.table({"user_id": (texts, form.user_id)})

    def recommend_where(
        self,
        users: Any,
        k: int = 10,
        *,
        exclude: Any = (),
        include: Any = (),
        category: Any = (),
        exclude_category: Any = (),
        allow_seen: Any = False,
        diversity: Any = 0.0,
        popularity: Any = 0.0,
        as_arrays: bool = False,
    ) -> Any:
        """Recommend with more options: which items may come back, and what moves them up.

        Every argument after `k` is for all users, or a list with one for each.

        Args:
          users: ids of users, or "all" for every user of the log.
          k: items per user at most, at least 1.
          exclude: ids of items never to return, or a list of them for each user.
          include: ids of the only items that may come back, or a list of them for each user; none for all items.
          category: categories of which an item must have any, or a list of them for each user; none for all items.
          exclude_category: categories of which an item must have none, or a list of them for each user.
          allow_seen: whether items that a user took may come back.
          diversity: from 0 to 1: the higher, the more an item that differs from those above it moves up.
          popularity: this number times the logarithm of the item's share of all interactions is added to the score;
            negative numbers favour items that are rarely taken.
          as_arrays: return arrays instead of a table.

        Returns:
          As `recommend`. With `diversity` the scores of a user need not descend.

        Raises:
          InputError: An argument is wrong, or the model was exported before it could be asked this.
        """
        k = check_k(k)
        texts = self._texts(users)
        form = as_asked(self._form(users=users), users)
        lists = {
            "exclude_item_id": ItemLists("exclude", exclude, len(texts)),
            "include_item_id": ItemLists("include", include, len(texts)),
            "category": ItemLists("category", category, len(texts)),
            "exclude_category": ItemLists("exclude_category", exclude_category, len(texts)),
        }
        values = {
            "allow_seen": flags_of("allow_seen", allow_seen, len(texts)),
            "diversity": numbers_of("diversity", diversity, len(texts)),
            "popularity": numbers_of("popularity", popularity, len(texts)),
        }
        answers = Answers(form, k)
        for part in chunks(len(texts)):
            inputs = {"user_id": encoded(texts[part]), "k": self._k(k)}
            inputs |= {name: one.array(part) for name, one in lists.items()}
            inputs |= {name: _part(one, part) for name, one in values.items()}
            answers.add(self._predict("recommend_where", inputs), "known_user")
        return answers.arrays() if as_arrays else answers.table({"user_id": (texts, form.user_id)})

    def explain(self, users: Any, items: Any, k: int = 10) -> Any:
        """Find the items of each user's history that contribute most to the score of an item.

        The shares of all of the history and a `rest` add up to the score: see the signature `explain` in
        `tf_hqgnn.export.pair_signatures`.

        Args:
          users: ids of users.
          items: ids of items, one for each user.
          k: items of the history per user at most, at least 1.

        Returns:
          A table with the columns `user_id` and `target_item_id` (as asked), `rank`, `item_id` (of the history),
          `share`, `score` (of the item that was asked about), `rest`, and maybe `title` (of the history's item). Where
          the user or the item isn't known there is no row.

        Raises:
          InputError: An argument is wrong, or the model was exported before it could be asked this.
        """
        k = check_k(k)
        texts, targets = self._texts(users), id_texts("items", items)
        if len(texts) != len(targets):
            raise InputError(f"items: expected one for each of the {len(texts)} users, got {len(targets)}")
        form = as_asked(self._form(users=users), users)
        parts = [
            self._predict(
                "explain", {"user_id": encoded(texts[part]), "item_id": encoded(targets[part]), "k": self._k(k)}
            )
            for part in chunks(len(texts))
        ]
        counts = np.concatenate([np.zeros(0, np.int64), *(part["num_valid"] for part in parts)]).astype(np.int64)
        real = [np.arange(part["share"].shape[1]) < part["num_valid"][:, np.newaxis] for part in parts]
        names = as_objects(
            [name.decode() for part, is_real in zip(parts, real) for name in part["history_item_id"][is_real]]
        )

        def numbers(name: str) -> Array:
            return np.concatenate([np.zeros(0, np.float32), *(part[name] for part in parts)])

        shares = [part["share"][is_real] for part, is_real in zip(parts, real)]
        columns = {
            "user_id": (np.repeat(decoded(texts, form.user_id), counts), form.user_id),
            "target_item_id": (np.repeat(decoded(targets, form.item_id), counts), form.item_id),
            "rank": (np.arange(len(names)) - np.repeat(np.cumsum(counts) - counts, counts) + 1, None),
            "item_id": (decoded(names, form.item_id), form.item_id),
            "share": (np.concatenate([np.zeros(0, np.float32), *shares]), None),
            "score": (np.repeat(numbers("score"), counts), None),
            "rest": (np.repeat(numbers("rest"), counts), None),
        }
        return make_table(columns, form, names)


def _part(values: Array, part: slice) -> Array:
    """Return those of some of the users, or the one that is for all."""
    return values if len(values) == 1 else values[part]
