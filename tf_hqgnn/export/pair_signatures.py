"""Signatures that answer about users and items that the request names, rather than search the catalogue."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from tf_hqgnn.export.parts import (
    FLAGS,
    STRING_LISTS,
    STRINGS,
    K,
    Outputs,
    ServingParts,
    check_batch,
    check_k,
    check_one_or_batch,
    for_each,
    signature,
)
from tf_hqgnn.retrieval.filters import block_listed
from tf_hqgnn.retrieval.queries import Queries
from tf_hqgnn.retrieval.sizes import size_of
from tf_hqgnn.retrieval.top_k import best


class PairSignatures(ServingParts):
    """Signatures for named users and items; a mixin of `ServingModule`, whose arguments it takes."""

    @signature([STRINGS, STRING_LISTS])
    def score(self, user_id: tf.Tensor, item_id: tf.Tensor) -> Outputs:
        """Score C items for each user: the same numbers by which `recommend` ranks.

        Seen items and items that aren't available have scores like all others. The score is 0 where the user or the
        item is unknown; `known_user` and `known_item` tell such a 0 from a score.

        Args:
          user_id: string [B].
          item_id: string [B, C], padded with ""; or [1, C], the same items for all users.

        Returns:
          `score` float32 [B, C], `known_user` bool [B], `known_item` bool [B, C].
        """
        with tf.control_dependencies([check_one_or_batch("item_id", item_id, "user_id", user_id)]):
            item_index = self._rows_for(tf.identity(item_id), size_of(user_id, 0))
        user_index = self.user_ids.lookup(user_id)
        known_user, known_item = self._is_known(user_index), item_index >= 0
        queries = self.users.queries(tf.maximum(user_index, 0))
        scores = self._score_pairs(queries, tf.maximum(item_index, 0))
        known = known_user[:, tf.newaxis] & known_item
        return {"score": tf.where(known, scores, 0.0), "known_user": known_user, "known_item": known_item}

    @signature([STRINGS, K])
    def similar_users(self, user_id: tf.Tensor, k: tf.Tensor) -> Outputs:
        """Find the k users of the highest cosine with each user, among all whom the model knows, without itself.

        An unknown user has none.

        Args:
          user_id: string [B].
          k: int32 scalar.

        Returns:
          `similar_user_id` string [B, k], `score` float32 [B, k], the cosines, `num_valid` int32 [B], `known_user`
          bool [B].
        """
        num_users = self.users.num_rows
        with tf.control_dependencies([check_k(k, num_users, f"the model has {num_users} users")]):
            k = tf.identity(k)
        user_index = self.user_ids.lookup(user_id)
        known = self._is_known(user_index)
        queries = self.users.queries(tf.maximum(user_index, 0)).to_unit_length()
        itself = block_listed(user_index[:, tf.newaxis], num_users)
        if self._known_filter is not None:
            itself = itself.within(self._known_filter)
        scores, similar = self.similar.call(queries, k, itself, cosine=True)
        scores = tf.where(known[:, tf.newaxis], scores, -np.inf)
        return {**self._answer(scores, similar, k, "similar_user_id", self.user_ids), "known_user": known}

    @signature([STRINGS, STRING_LISTS, K, FLAGS])
    def rerank(self, user_id: tf.Tensor, candidate_item_id: tf.Tensor, k: tf.Tensor, allow_seen: tf.Tensor) -> Outputs:
        """Find the best k items for each user among its candidates, as `recommend` does among all items.

        Candidates that the model doesn't know are ignored, and so are repetitions. Items that aren't available never
        come back, nor do those that a user has seen, unless it allows them. An unknown user gets the most popular
        candidates.

        Args:
          user_id: string [B].
          candidate_item_id: string [B, C], padded with ""; or [1, C], the same candidates for all users.
          k: int32 scalar.
          allow_seen: bool [B], or [1] for all users: whether items that the user has seen may come back.

        Returns:
          `item_id` string [B, k], `score` float32 [B, k], `num_valid` int32 [B], `known_user` bool [B].
        """
        checks = [
            self._check_k(k),
            check_one_or_batch("candidate_item_id", candidate_item_id, "user_id", user_id),
            check_one_or_batch("allow_seen", allow_seen, "user_id", user_id),
        ]
        batch = size_of(user_id, 0)
        with tf.control_dependencies(checks):
            k, candidates = tf.identity(k), self._rows_for(candidate_item_id, batch)
            allow_seen = for_each(tf.identity(allow_seen), batch)
        user_index = self.user_ids.lookup(user_id)
        known, nothing = self._is_known(user_index), tf.zeros([batch, 0], tf.int32)
        scores, item_index = self._choose(
            self.users.queries(tf.maximum(user_index, 0)),
            known,
            k,
            tf.where(allow_seen, tf.constant(-1, tf.int64), user_index),
            tf.cast(nothing, tf.int64),
            nothing,
            nothing,
            tf.zeros([batch]),
            candidates,
        )
        return {**self._answer(scores, item_index, k), "known_user": known}

    @signature([STRINGS, STRINGS, K])
    def explain(self, user_id: tf.Tensor, item_id: tf.Tensor, k: tf.Tensor) -> Outputs:
        """Find the k items of each user's history that contribute most to its score of an item.

        The propagation is linear, so that a user's row e_u is nearly one hop over the rows e_h of its n items through
        the map W that the trained users taught (`retrieval.histories`). With e_i the row of the item,

            score = e_u . e_i = sum over h of share_h + rest,
            share_h = (e_h W) . e_i / sqrt(n),
            rest = (e_u - sum e_h W / sqrt(n)) . e_i.

        All rows are those that are served: of codes, what they stand for. `rest` is what the history doesn't explain:
        `score` less the shares of the whole history, also of those beyond k. The history are the items that the user's
        row was learnt from: neither what it disliked, nor what is left out of the training.

        Args:
          user_id: string [B].
          item_id: string [B], the item to explain for each user.
          k: int32 scalar.

        Returns:
          `history_item_id` string [B, k] and `share` float32 [B, k], the highest share first, padded with "" and 0;
          `num_valid` int32 [B], `score` and `rest` float32 [B], `known_user` and `known_item` bool [B]. Where the user
          or the item is unknown there are no shares, and the numbers are 0.
        """
        with tf.control_dependencies([self._check_k(k), check_batch("item_id", item_id, "user_id", user_id)]):
            k, item_id = tf.identity(k), tf.identity(item_id)
        user_index, item_index = self.user_ids.lookup(user_id), self.item_ids.lookup(item_id)
        known_user, known_item = self._is_known(user_index), item_index >= 0
        known = known_user & known_item
        user_index, item_index = tf.maximum(user_index, 0), tf.maximum(item_index, 0)
        history, there = self._histories.lists(tf.where(known, user_index, tf.constant(-1, tf.int64)))
        size = tf.reduce_sum(tf.cast(there, tf.float32), axis=1, keepdims=True)
        # (e_h W) . e_i = e_h . (e_i W^T)
        mapped = tf.matmul(self.items.gather(item_index), self.history.hop_map, transpose_b=True)
        shares = tf.math.divide_no_nan(self._score_pairs(Queries(mapped), history), tf.sqrt(size))
        scores = self._score_pairs(self.users.queries(user_index), item_index[:, tf.newaxis])[:, 0]
        scores = tf.where(known, scores, 0.0)
        rest = scores - tf.reduce_sum(tf.where(there, shares, 0.0), axis=1)
        shares, found = best(tf.where(there, shares, -np.inf), tf.cast(history, tf.int32), k)
        answer = self._answer(shares, found, k, "history_item_id")
        valid = tf.range(k) < answer["num_valid"][:, tf.newaxis]
        return {
            "history_item_id": answer["history_item_id"],
            "share": tf.where(valid, answer["score"], 0.0),
            "num_valid": answer["num_valid"],
            "score": scores,
            "rest": rest,
            "known_user": known_user,
            "known_item": known_item,
        }
