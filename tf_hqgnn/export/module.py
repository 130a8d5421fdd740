"""The module that is exported: the signatures of DESIGN.md over any index."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tf_hqgnn.export.layout import FOR_FEATURES
from tf_hqgnn.export.parts import (
    STRING_LISTS,
    STRINGS,
    K,
    Outputs,
    check_unused_or_batch,
    for_each,
    signature,
)
from tf_hqgnn.export.where_signature import WhereSignature
from tf_hqgnn.features.encoder import FeatureRows
from tf_hqgnn.graph.csr import CSR
from tf_hqgnn.retrieval.filters import block_listed
from tf_hqgnn.retrieval.histories import HistoryEncoder
from tf_hqgnn.retrieval.item_filter import ANY, ItemFilter
from tf_hqgnn.retrieval.queries import Queries
from tf_hqgnn.retrieval.rows import RowTable
from tf_hqgnn.retrieval.sizes import size_of
from tf_hqgnn.retrieval.top_k import TopK
from tf_hqgnn.types import BoolArray, Float32Array, ObjectArray


class ServingModule(WhereSignature):
    """Answers requests by ids: finds the rows, searches, leaves out what must not come back, pads.

    Every answer is a dict of `item_id` string [B, k], `score` float32 [B, k], `num_valid` int32 [B] and a bool [B] that
    says whether the user or item was known. Rows with fewer than k answers end in "" with the lowest finite score.

    Args:
      user_ids: U ids.
      item_ids: N ids.
      users: table of U rows.
      items: table of N rows.
      top_k: an index over `items`.
      seen: `(indptr, indices)`, the items of each user that must not be recommended to it.
      popularity: float32 [N], the score of items for unknown users.
      history: makes queries of histories, over `items`.
      item_filter: which items may come back, and their categories.
      default_k: answers of the signatures without k.
      features: makes queries of the features of users; without it there is no `recommend_for_features`.
      known_users: bool [U], False for ids that are answered as an unknown user's; None if all are known.
      learnt: as `seen`, the items that each user's row was learnt from; None for all that it has seen.
      catalogue_items: how many items a k may ask for; None for N, and more where this is a shard of a model.
    """

    def __init__(
        self,
        user_ids: Sequence[str] | ObjectArray,
        item_ids: Sequence[str] | ObjectArray,
        users: RowTable,
        items: RowTable,
        top_k: TopK,
        seen: CSR,
        popularity: Float32Array,
        history: HistoryEncoder,
        item_filter: ItemFilter,
        default_k: int,
        features: FeatureRows | None = None,
        known_users: BoolArray | None = None,
        learnt: CSR | None = None,
        catalogue_items: int | None = None,
    ) -> None:
        tables = user_ids, item_ids, users, items, top_k, seen, popularity, history, item_filter
        super().__init__(*tables, known_users, learnt, catalogue_items)
        self.features = features
        self._default_k = default_k
        if features is not None:
            # Every function that a module has by its class is saved with it.
            inputs = [STRING_LISTS, K, STRING_LISTS, STRINGS]
            self.recommend_for_features = signature(inputs)(self._recommend_for_features)

    def signatures(self) -> dict[str, Any]:
        """What `tf.saved_model.save` takes as `signatures`."""
        signatures = {
            "serving_default": self.serving_default,
            "recommend": self.recommend,
            "recommend_for_history": self.recommend_for_history,
            "recommend_with_history": self.recommend_with_history,
            "similar_items": self.similar_items,
            "score": self.score,
            "similar_users": self.similar_users,
            "rerank": self.rerank,
            "recommend_where": self.recommend_where,
            "explain": self.explain,
            "embed_user": self.embed_user,
            "tf_example": self.tf_example,
        }
        if self.features is not None:
            signatures[FOR_FEATURES] = self.recommend_for_features
        return {name: function for name, function in signatures.items() if function is not None}

    def keep(self, names: Sequence[str]) -> None:
        """Drop the signatures but for `names`; each takes its time to write and to load."""
        # What is an attribute of the class is saved unless the object has another of that name.
        for name in set(self.signatures()) - set(names):
            setattr(self, name, None)

    @signature([STRINGS])
    def serving_default(self, user_id: tf.Tensor) -> Outputs:
        """The best `default_k` items for each user."""
        size = tf.shape(user_id)[:1]
        excluded = tf.zeros(tf.concat([size, [0]], axis=0), tf.int64)
        return self._recommend(user_id, tf.constant(self._default_k), excluded, tf.fill(size, ANY))

    @signature([STRINGS, K, STRING_LISTS, STRINGS])
    def recommend(self, user_id: tf.Tensor, k: tf.Tensor, exclude_item_id: tf.Tensor, category: tf.Tensor) -> Outputs:
        """The best k items for each user, of its `category` ("" for any), without those in its `exclude_item_id`.

        Rows of `exclude_item_id` are padded with "". To exclude nothing, send [B, 0], [B, 1] of "", or [1, 0] or
        [1, 1] of "" for the whole batch; for any category send [B] or [1] of "". This holds for every signature with
        these inputs.
        """
        with tf.control_dependencies(self._check_request_options("user_id", user_id, k, exclude_item_id, category)):
            batch = size_of(user_id, 0)
            excluded, wanted = self._rows_for(exclude_item_id, batch), self._wanted_for(category, batch)
            return self._recommend(user_id, tf.identity(k), excluded, wanted)

    @signature([STRING_LISTS, K, STRING_LISTS, STRINGS])
    def recommend_for_history(
        self, history_item_id: tf.Tensor, k: tf.Tensor, exclude_item_id: tf.Tensor, category: tf.Tensor
    ) -> Outputs:
        """As `recommend`, for users of whom nothing is known but the items they took (rows padded with "").

        Those items don't come back. Unknown ones are ignored; `num_unknown` int32 [B] says how many. Without a known
        one the answer is what is popular, and `known_user` is False.
        """
        checks = self._check_request_options("history_item_id", history_item_id, k, exclude_item_id, category)
        batch = size_of(history_item_id, 0)
        with tf.control_dependencies(checks):
            k, item_index = tf.identity(k), self.item_ids.lookup(history_item_id)
            excluded, wanted = self._rows_for(exclude_item_id, batch), self._wanted_for(category, batch)
        known = item_index >= 0
        answer = self._answer_queries(
            self.history.call(item_index),
            tf.reduce_any(known, axis=1),
            k,
            tf.fill([batch], tf.constant(-1, tf.int64)),
            tf.concat([item_index, excluded], axis=1),
            wanted,
        )
        unknown = tf.not_equal(history_item_id, "") & ~known
        return {**answer, "num_unknown": tf.reduce_sum(tf.cast(unknown, tf.int32), axis=1)}

    @signature([STRINGS, STRING_LISTS, K, STRING_LISTS, STRINGS])
    def recommend_with_history(
        self,
        user_id: tf.Tensor,
        history_item_id: tf.Tensor,
        k: tf.Tensor,
        exclude_item_id: tf.Tensor,
        category: tf.Tensor,
    ) -> Outputs:
        """Recommend to users who have taken more items since the model was trained (rows padded with "").

        The new items are added to a user's row as `HistoryEncoder.extend` says, and don't come back. Those that its row
        was learnt from are in it already. An unknown user is answered as by `recommend_for_history`, and
        without new items a known one as by `recommend`. `known_user` is False where neither the user nor any of the
        items is known; `num_unknown` int32 [B] says how many items aren't.

        Args:
          user_id: string [B].
          history_item_id: string [B, H]; without new items [B, 0], [B, 1] of "", or [1, 0] for the whole batch.
          k: int32 scalar.
          exclude_item_id: as of `recommend`.
          category: as of `recommend`.
        """
        batch = size_of(user_id, 0)
        checks = self._check_request_options("user_id", user_id, k, exclude_item_id, category)
        checks.append(check_unused_or_batch("history_item_id", history_item_id, "user_id", user_id))
        with tf.control_dependencies(checks):
            k, item_index = tf.identity(k), self._rows_for(history_item_id, batch)
            excluded, wanted = self._rows_for(exclude_item_id, batch), self._wanted_for(category, batch)
            asked = for_each(tf.cast(tf.not_equal(history_item_id, ""), tf.int32), batch)
        user_index = self.user_ids.lookup(user_id)
        is_trained, is_item = self._is_known(user_index), item_index >= 0
        rows = tf.where(is_trained[:, tf.newaxis], self.users.gather(tf.maximum(user_index, 0)), 0.0)
        taken = self._histories.blocked(user_index)
        is_new = is_item & ~(is_trained[:, tf.newaxis] & taken.contains_pairs(tf.maximum(item_index, 0)))
        num_taken = tf.where(is_trained, taken.counts, tf.constant(0, tf.int64))
        answer = self._answer_queries(
            self.history.extend(rows, num_taken, tf.where(is_new, item_index, tf.constant(-1, tf.int64))),
            is_trained | tf.reduce_any(is_item, axis=1),
            k,
            user_index,
            tf.concat([item_index, excluded], axis=1),
            wanted,
        )
        return {**answer, "num_unknown": tf.reduce_sum(asked - tf.cast(is_item, tf.int32), axis=1)}

    def _recommend_for_features(
        self, user_feature: tf.Tensor, k: tf.Tensor, exclude_item_id: tf.Tensor, category: tf.Tensor
    ) -> Outputs:
        """As `recommend`, for users of whom nothing is known but features, as `age=24` (rows padded with "").

        Without a known one the answer is what is popular, and `known_user` is False.
        """
        assert self.features is not None
        batch = size_of(user_feature, 0)
        with tf.control_dependencies(
            self._check_request_options("user_feature", user_feature, k, exclude_item_id, category)
        ):
            k, (rows, known) = tf.identity(k), self.features.call(tf.identity(user_feature))
            excluded, wanted = self._rows_for(exclude_item_id, batch), self._wanted_for(category, batch)
        nobody = tf.fill([batch], tf.constant(-1, tf.int64))
        return self._answer_queries(Queries(rows), known, k, nobody, excluded, wanted)

    @signature([STRINGS, K])
    def similar_items(self, item_id: tf.Tensor, k: tf.Tensor) -> Outputs:
        """The k items of the highest cosine with each item, itself left out; nothing for an unknown item."""
        with tf.control_dependencies([self._check_k(k)]):
            k = tf.identity(k)
        item_index = self.item_ids.lookup(item_id)
        known = item_index >= 0
        queries = self.items.queries(tf.maximum(item_index, 0)).to_unit_length()
        itself = block_listed(item_index[:, tf.newaxis], self._num_items).within(self.item_filter)
        scores, similar = self.top_k.call(queries, k, itself, cosine=True)
        scores = tf.where(known[:, tf.newaxis], scores, -np.inf)
        return {**self._answer(scores, similar, k), "known_item": known}

    @signature([STRINGS])
    def embed_user(self, user_id: tf.Tensor) -> Outputs:
        """The row of each user, float32 [B, d], as it is scored with; zeros for an unknown one."""
        user_index = self.user_ids.lookup(user_id)
        known = self._is_known(user_index)
        rows = self.users.gather(tf.maximum(user_index, 0))
        return {"embedding": tf.where(known[:, tf.newaxis], rows, 0.0), "known_user": known}

    @signature([STRINGS])
    def tf_example(self, examples: tf.Tensor) -> Outputs:
        """As `serving_default`, from serialized tf.Examples with a feature `user_id`; without it, an unknown user."""
        feature = tf.io.FixedLenFeature([], tf.string, default_value="")
        # Traced once for both signatures.
        answer: Outputs = self.serving_default(tf.io.parse_example(examples, {"user_id": feature})["user_id"])
        return answer

    def _recommend(self, user_id: tf.Tensor, k: tf.Tensor, excluded: tf.Tensor, wanted: tf.Tensor) -> Outputs:
        user_index = self.user_ids.lookup(user_id)
        queries = self.users.queries(tf.maximum(user_index, 0))
        known = self._is_known(user_index)
        return self._answer_queries(queries, known, k, user_index, excluded, wanted)
