"""Questions to a model about users and items that are named: behind a server or in this process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tf_hqgnn.export.layout import DEFAULT_MODEL
from tf_hqgnn.queries.arrays import flags_of, numbers_of, padded
from tf_hqgnn.serving.answers import QueryClient, Recommendation, check_k, ids_of, lists_of, recommendations, valid_rows
from tf_hqgnn.types import Array, InputError


@dataclass(frozen=True)
class Scores:
    """The scores of one user.

    Args:
      user_id: As asked.
      known_user: False if the model hasn't seen the user: all scores are 0.
      scores: float32 [n], in the order of the items that were asked for; 0 for an unknown one.
      known_items: bool [n].
    """

    user_id: str
    known_user: bool
    scores: Array
    known_items: Array


@dataclass(frozen=True)
class SimilarUsers:
    """The users nearest to one user; only real answers, best first.

    Args:
      user_id: As asked.
      known_user: False if the model hasn't seen the user: there are no answers then.
      scores: float32 [n], n <= k, the cosines.
      user_ids: n ids.
    """

    user_id: str
    known_user: bool
    scores: Array
    user_ids: tuple[str, ...]


@dataclass(frozen=True)
class Explanation:
    """The answer which items of a user's history contribute most to a score, the highest share first.

    Args:
      user_id: As asked.
      item_id: As asked.
      known_user: Whether the model knows the user.
      known_item: Whether the model knows the item.
      score: Of the item; 0 where something is unknown.
      rest: What is left of the score after the shares of all of the history.
      shares: float32 [n], n <= k.
      item_ids: n ids of the history.
    """

    user_id: str
    item_id: str
    known_user: bool
    known_item: bool
    score: float
    rest: float
    shares: Array
    item_ids: tuple[str, ...]


class PairClient(QueryClient):
    """Asks about named users and items, besides all that `QueryClient` asks."""

    def score(
        self,
        user_ids: Sequence[str],
        item_ids: Sequence[str] | Sequence[Sequence[str]],
        model: str = DEFAULT_MODEL,
        version: int | None = None,
    ) -> list[Scores]:
        """Scores items for each user: the numbers by which `recommend` ranks.

        Args:
          user_ids: The users; unknown ones get zeros.
          item_ids: Items to score for all users, or one list of ids per user.
          model: As in `recommend`.
          version: As in `recommend`.

        Raises:
          InputError: The arguments are wrong, or the server says so; or the model was exported before it had `score`.
          ServerUnavailable: No answer.
        """
        users = ids_of("user_ids", user_ids)
        if not len(users):
            return []
        lists = lists_of("item_ids", item_ids, len(users))
        found = self.predict("score", {"user_id": users, "item_id": padded(lists)}, model, version)
        sizes = [len(one) for one in lists] * (len(users) if len(lists) == 1 else 1)
        return [
            Scores(user, bool(found["known_user"][row]), found["score"][row][:size], found["known_item"][row][:size])
            for row, (user, size) in enumerate(zip(user_ids, sizes))
        ]

    def similar_users(
        self, user_ids: Sequence[str], k: int = 10, model: str = DEFAULT_MODEL, version: int | None = None
    ) -> list[SimilarUsers]:
        """The users nearest to each user by cosine; none for an unknown one. Arguments as in `recommend`."""
        users = ids_of("user_ids", user_ids)
        if not len(users):
            return []
        outputs = self.predict("similar_users", {"user_id": users, "k": check_k(k)}, model, version)
        known, rows = outputs["known_user"], valid_rows(outputs, "similar_user_id")
        return [SimilarUsers(user, bool(known[row]), *rows[row]) for row, user in enumerate(user_ids)]

    def rerank(
        self,
        user_ids: Sequence[str],
        candidates: Sequence[str] | Sequence[Sequence[str]],
        k: int = 10,
        allow_seen: bool | Sequence[bool] = False,
        model: str = DEFAULT_MODEL,
        version: int | None = None,
    ) -> list[Recommendation]:
        """The best of some items for each user, as `recommend` finds the best of all.

        Args:
          user_ids: The users; unknown ones get the most popular candidates.
          candidates: Ids of items to choose from, for all users, or one list of ids per user; unknown ones are ignored.
          k: As in `recommend`.
          allow_seen: Whether items that a user has seen may come back, for all users or for each.
          model: As in `recommend`.
          version: As in `recommend`.

        Raises:
          InputError: The arguments are wrong, or the server says so; or the model was exported before it had `rerank`.
          ServerUnavailable: No answer.
        """
        users = ids_of("user_ids", user_ids)
        if not len(users):
            return []
        may_see = flags_of("allow_seen", allow_seen, len(users))
        inputs = {"user_id": users, "candidate_item_id": padded(lists_of("candidates", candidates, len(users)))}
        inputs |= {"k": check_k(k), "allow_seen": may_see}
        return recommendations(user_ids, self.predict("rerank", inputs, model, version))

    def recommend_where(
        self,
        user_ids: Sequence[str],
        k: int = 10,
        exclude: Sequence[str] | Sequence[Sequence[str]] = (),
        model: str = DEFAULT_MODEL,
        version: int | None = None,
        *,
        include: Sequence[str] | Sequence[Sequence[str]] = (),
        category: str | Sequence[str] | Sequence[Sequence[str]] = (),
        exclude_category: str | Sequence[str] | Sequence[Sequence[str]] = (),
        allow_seen: bool | Sequence[bool] = False,
        diversity: float | Sequence[float] = 0.0,
        popularity: float | Sequence[float] = 0.0,
    ) -> list[Recommendation]:
        """The best items of each user, among those and in the order that is asked for.

        Every list, flag and number is for all users, or there is one for each user.

        Args:
          user_ids: The users; unknown ones get popular items.
          k: As in `recommend`.
          exclude: Ids of items never to return.
          model: As in `recommend`.
          version: As in `recommend`.
          include: Ids of items of which only those may come back; none for all items.
          category: Categories of which an item must have any; none for all items.
          exclude_category: Categories of which an item must have none.
          allow_seen: Whether items that a user has seen may come back.
          diversity: From 0, which changes nothing, to 1: how much less an item counts that is like those before it.
          popularity: This multiple of the logarithm of an item's share of all interactions is added to its score.

        Raises:
          InputError: The arguments are wrong, or the server says so; or the model was exported before it had
            `recommend_where`.
          ServerUnavailable: No answer.
        """
        users = ids_of("user_ids", user_ids)
        if not len(users):
            return []
        inputs = {"user_id": users, "k": check_k(k), "allow_seen": flags_of("allow_seen", allow_seen, len(users))}
        for name, item_ids in {"exclude": exclude, "include": include}.items():
            inputs[f"{name}_item_id"] = padded(lists_of(name, item_ids, len(users)))
        for name, categories in {"category": category, "exclude_category": exclude_category}.items():
            listed = [categories] if isinstance(categories, str) else categories
            inputs[name] = padded(lists_of(name, listed, len(users)))
        inputs["diversity"] = numbers_of("diversity", diversity, len(users))
        inputs["popularity"] = numbers_of("popularity", popularity, len(users))
        return recommendations(user_ids, self.predict("recommend_where", inputs, model, version))

    def explain(
        self,
        user_ids: Sequence[str],
        item_ids: Sequence[str],
        k: int = 10,
        model: str = DEFAULT_MODEL,
        version: int | None = None,
    ) -> list[Explanation]:
        """The items of each user's history that contribute most to its score of an item: `item_ids`, one for each user.

        Raises:
          InputError: The arguments are wrong, or the server says so; or the model was exported before it had `explain`.
          ServerUnavailable: No answer.
        """
        users, items = ids_of("user_ids", user_ids), ids_of("item_ids", item_ids)
        if len(users) != len(items):
            raise InputError(f"item_ids: expected one for each of the {len(users)} users, got {len(items)}")
        if not len(users):
            return []
        found = self.predict("explain", {"user_id": users, "item_id": items, "k": check_k(k)}, model, version)
        shares = valid_rows({**found, "score": found["share"]}, "history_item_id")
        return [
            Explanation(
                user,
                item,
                bool(found["known_user"][row]),
                bool(found["known_item"][row]),
                float(found["score"][row]),
                float(found["rest"][row]),
                *shares[row],
            )
            for row, (user, item) in enumerate(zip(user_ids, item_ids))
        ]
