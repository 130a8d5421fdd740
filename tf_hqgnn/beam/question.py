"""The question that a batch run asks the model about each user."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tf_hqgnn.queries.arrays import as_objects, encoded, padded


@dataclass(frozen=True)
class Question:
    """A question that is the same for all users; which signature answers it follows from what it holds.

    Args:
      k: answers of a user, at most.
      exclude: ids of items that never come back.
      candidates: ids of items to choose from; none for the whole catalogue.
      allow_seen: whether items may come back that a user has seen.
      category: categories of which an item must have any; none for all items.
      exclude_category: categories of which an item must have none.
      diversity: as of the signature `recommend_where`.
      popularity: as of the signature `recommend_where`.

    Example:
      >>> Question(10).signature, Question(10, candidates=("i1",)).signature, Question(10, diversity=0.5).signature
      ('recommend', 'rerank', 'recommend_where')
    """

    k: int
    exclude: tuple[str, ...] = ()
    candidates: tuple[str, ...] = ()
    allow_seen: bool = False
    category: tuple[str, ...] = ()
    exclude_category: tuple[str, ...] = ()
    diversity: float = 0.0
    popularity: float = 0.0

    @property
    def is_plain(self) -> bool:
        """Whether it asks for nothing but items that aren't excluded."""
        return self == Question(self.k, self.exclude)

    @property
    def signature(self) -> str:
        """The signature that answers it; older models have no `recommend_where`."""
        if self.is_plain:
            return "recommend"
        if self.candidates and self == Question(self.k, candidates=self.candidates, allow_seen=self.allow_seen):
            return "rerank"
        return "recommend_where"

    def inputs(self, user_ids: Sequence[bytes]) -> dict[str, Any]:
        """The tensors that the signature takes for some users."""
        import tensorflow as tf

        def texts(*values: str) -> Any:
            """One row for all users."""
            return tf.constant([list(values)], tf.string, [1, len(values)])

        size = len(user_ids)
        inputs = {"user_id": tf.constant(as_objects(user_ids)), "k": tf.constant(self.k, tf.int32)}
        if self.is_plain:
            excluded = tf.broadcast_to(texts(*self.exclude), [size, len(self.exclude)])
            return {**inputs, "exclude_item_id": excluded, "category": tf.fill([size], "")}
        inputs["allow_seen"] = tf.constant([self.allow_seen])
        if self.signature == "rerank":
            return {**inputs, "candidate_item_id": texts(*self.candidates)}
        return {
            **inputs,
            "exclude_item_id": texts(*self.exclude),
            "include_item_id": texts(*self.candidates),
            "category": texts(*self.category),
            "exclude_category": texts(*self.exclude_category),
            "diversity": tf.constant([self.diversity], tf.float32),
            "popularity": tf.constant([self.popularity], tf.float32),
        }

    def with_histories(self, user_ids: Sequence[bytes], histories: Mapping[bytes, list[str]]) -> dict[str, Any]:
        """The tensors for `recommend_with_history`; a plain question, with the new items of users by their ids."""
        import tensorflow as tf

        lists = [encoded(histories.get(user, [])) for user in user_ids]
        return {**self.inputs(user_ids), "history_item_id": tf.constant(padded(lists))}
