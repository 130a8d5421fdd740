"""The signature that takes every wish that a recommendation may be asked with."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from tf_hqgnn.export.layout import RANGES
from tf_hqgnn.export.pair_signatures import PairSignatures
from tf_hqgnn.export.parts import (
    FLAGS,
    NUMBERS,
    STRING_LISTS,
    STRINGS,
    K,
    Outputs,
    check_one_or_batch,
    for_each,
    signature,
)
from tf_hqgnn.retrieval.diversity import diversify, shortlist_size
from tf_hqgnn.retrieval.item_filter import ANY
from tf_hqgnn.retrieval.sizes import size_of
from tf_hqgnn.retrieval.slices import Answer, in_slices
from tf_hqgnn.retrieval.top_k import best, pad_to

# What a query takes for each item where all are scored, in bytes: its score, with the copies that masking makes.
_SCORE = 32

Way = Callable[[tf.Tensor], Answer]


class WhereSignature(PairSignatures):
    """The signature `recommend_where`; a mixin of `ServingModule`, whose arguments it takes."""

    @signature([STRINGS, K, STRING_LISTS, STRING_LISTS, STRING_LISTS, STRING_LISTS, FLAGS, NUMBERS, NUMBERS])
    def recommend_where(
        self,
        user_id: tf.Tensor,
        k: tf.Tensor,
        exclude_item_id: tf.Tensor,
        include_item_id: tf.Tensor,
        category: tf.Tensor,
        exclude_category: tf.Tensor,
        allow_seen: tf.Tensor,
        diversity: tf.Tensor,
        popularity: tf.Tensor,
    ) -> Outputs:
        """Recommend as `recommend` does, among the items that a request asks for, and in the order that it asks for.

        Every input but `user_id` and `k` has a row for each user, or one row for all of them. Rows of lists are padded
        with "". A list that isn't used may be [B, 0], [B, 1] of "", or [1, 0] or [1, 1] of "".

        The score of an item is

            score = e_u . e_i + popularity log(share_i),

        where share_i is the item's part of the interactions of all available items; one that nobody has taken counts
        as the rarest that somebody has. With e_u . e_i for a user that the model doesn't know stands the number of the
        item's interactions. `tf_hqgnn.retrieval.diversity` says how `diversity` changes the order of the best. With
        `popularity` the whole catalogue is scored, whatever the index; with `include_item_id` nothing but its items.

        Args:
          user_id: string [B].
          k: int32 scalar.
          exclude_item_id: string [B, E], items that don't come back.
          include_item_id: string [B, M], items of whom only those come back; unknown ones are ignored. Without any id,
            all may.
          category: string [B, C], of which an item must have any; without any, all items may come back.
          exclude_category: string [B, D], of which an item must have none.
          allow_seen: bool [B], whether items that the user has seen may come back.
          diversity: float32 [B], from 0, which changes nothing, to 1.
          popularity: float32 [B]; 0 changes nothing, and negative values favour what is rarely taken.

        Returns:
          `item_id` string [B, k], `score` float32 [B, k], `num_valid` int32 [B], `known_user` bool [B]. With
          `diversity` the scores of a row need not descend.
        """
        given = {
            "exclude_item_id": exclude_item_id,
            "include_item_id": include_item_id,
            "category": category,
            "exclude_category": exclude_category,
            "allow_seen": allow_seen,
            "diversity": diversity,
            "popularity": popularity,
        }
        checks = [check_one_or_batch(name, value, "user_id", user_id) for name, value in given.items()]
        checks += [self._check_k(k), *(_check_range(name, given[name], *limits) for name, limits in RANGES.items())]
        batch = size_of(user_id, 0)
        with tf.control_dependencies(checks):
            excluded, included = self._rows_for(exclude_item_id, batch), self._rows_for(include_item_id, batch)
            wanted, unwanted = self._wanted_for(category, batch), self._wanted_for(exclude_category, batch)
            is_limited = for_each(tf.reduce_any(tf.not_equal(include_item_id, ""), axis=1), batch)
            allow_seen, diversity, popularity = (
                for_each(tf.identity(values), batch) for values in (allow_seen, diversity, popularity)
            )
            k = tf.identity(k)
            size = shortlist_size(k, diversity)
        user_index = self.user_ids.lookup(user_id)
        known, queries = self._is_known(user_index), self.users.queries(tf.maximum(user_index, 0))
        seen_by = tf.where(allow_seen, tf.constant(-1, tf.int64), user_index)
        filters = seen_by, excluded, wanted, unwanted

        def at(rows: tf.Tensor, *values: tf.Tensor) -> list[tf.Tensor]:
            return [tf.gather(value, rows) for value in values]

        def of_candidates(rows: tf.Tensor) -> Answer:
            asked = at(rows, *filters, popularity, included)
            found: Answer = self._choose(queries.at(rows), tf.gather(known, rows), size, *asked)
            return found

        def of_all(rows: tf.Tensor) -> Answer:
            def answer(rows: tf.Tensor) -> Answer:
                scores = self.items.score_all(queries.at(rows))
                scores = tf.where(tf.gather(known, rows)[:, tf.newaxis], scores, self.popular.by_item.read_value())
                scores += tf.gather(popularity, rows)[:, tf.newaxis] * self.popular.log_shares()
                return best(self._blocked(*at(rows, *filters)).mask_all(scores), None, size)

            return in_slices(answer, rows, tf.minimum(size, self._num_items), _SCORE * self._num_items)

        def of_index(rows: tf.Tensor) -> Answer:
            found: Answer = self._search(queries.at(rows), tf.gather(known, rows), size, *at(rows, *filters))
            return found

        num_wanted = tf.reduce_sum(tf.cast(wanted != ANY, tf.int32), axis=1)
        is_filtered = (num_wanted > 1) | tf.reduce_any(unwanted != ANY, axis=1)
        takes_all = ~is_limited & (tf.not_equal(popularity, 0) | (~known & is_filtered))
        groups = (is_limited, of_candidates), (takes_all, of_all), (~is_limited & ~takes_all, of_index)
        scores, item_index = _by_groups(groups, size)

        def diverse(rows: tf.Tensor) -> Answer:
            best_scores, best_items, weight = at(rows, scores, item_index, diversity)
            return diversify(best_scores, best_items, weight, self.items, k)

        def as_they_are(rows: tf.Tensor) -> Answer:
            return tf.gather(scores[:, :k], rows), tf.gather(item_index[:, :k], rows)

        ordered = _by_groups(((diversity > 0, diverse), (diversity <= 0, as_they_are)), k)
        return {**self._answer(ordered[0], ordered[1], k), "known_user": known}


def _by_groups(groups: tuple[tuple[tf.Tensor, Way], ...], width: tf.Tensor) -> Answer:
    """Answer each row of a batch in the way of the one group that it is in: `(scores, item_index)` [B, width].

    A group without rows costs next to nothing.
    """
    rows = [tf.cast(tf.where(is_in)[:, 0], tf.int32) for is_in, _ in groups]
    answers = [answer(part) for (_, answer), part in zip(groups, rows)]
    place = tf.math.invert_permutation(tf.concat(rows, axis=0))
    scores = tf.concat([pad_to(scores, width, -np.inf) for scores, _ in answers], axis=0)
    item_index = tf.concat([pad_to(item_index, width, 0) for _, item_index in answers], axis=0)
    return tf.gather(scores, place), tf.gather(item_index, place)


def _check_range(name: str, values: tf.Tensor, low: float, high: float) -> tf.Operation:
    """Fail unless all `values` are in a range; NaN isn't."""
    in_range = tf.reduce_all((values >= low) & (values <= high))
    return tf.debugging.Assert(in_range, [f"{name} must be from {low:g} to {high:g}, got", values])
