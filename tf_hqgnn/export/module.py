"""The module that is exported: the signatures of DESIGN.md over any index."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tf_hqgnn.export.layout import FOR_FEATURES
from tf_hqgnn.features.encoder import FeatureRows
from tf_hqgnn.graph.csr import CSR
from tf_hqgnn.retrieval.filters import ANY, ItemFilter, SeenItems, block_any, block_listed
from tf_hqgnn.retrieval.histories import HistoryEncoder
from tf_hqgnn.retrieval.ids import IdTable
from tf_hqgnn.retrieval.popular import PopularItems
from tf_hqgnn.retrieval.queries import Queries, QueryCodes
from tf_hqgnn.retrieval.rows import RowTable
from tf_hqgnn.retrieval.top_k import TopK, pad_to
from tf_hqgnn.retrieval.variables import gather
from tf_hqgnn.types import BoolArray, Float32Array, ObjectArray

# A k may exceed the catalogue, the rest is padding; but a slip of the pen must not make a server allocate gigabytes.
MAX_PADDED_K = 65_536

_STRINGS = tf.TensorSpec([None], tf.string)
_STRING_LISTS = tf.TensorSpec([None, None], tf.string)
_K = tf.TensorSpec([], tf.int32)


def _signature(inputs: Sequence[tf.TensorSpec]) -> Callable[[Callable[..., Any]], Any]:
    """A `tf.function` without AutoGraph: nothing here needs it, and its conversion takes most of an export's time."""
    decorate: Callable[[Callable[..., Any]], Any] = tf.function(input_signature=inputs, autograph=False)
    return decorate


class ServingModule(tf.Module):
    """Answers requests by ids: finds the rows, searches, leaves out what must not come back, pads.

    Every answer is a dict of `item_id` string [B, k], `score` float32 [B, k], `num_valid` int32 [B] and a bool [B] that
    says whether the user or item was known. Rows with fewer than k answers end in "" with the score -inf.

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
    ) -> None:
        super().__init__(name="hqgnn")
        self.user_ids = IdTable(user_ids)
        self.item_ids = IdTable(item_ids)
        self.users = users
        self.items = items
        self.top_k = top_k
        self.seen = SeenItems(*seen, num_items=items.num_rows)
        self.popular = PopularItems(popularity, item_filter)
        self.history = history
        self.item_filter = item_filter
        self.features = features
        if known_users is not None:
            self.known_users = tf.Variable(known_users.astype(np.int32), trainable=False, name="known_users")
        self._default_k = default_k
        self._num_items = items.num_rows
        self._answer_queries = _TracedOnce(self._best_items)
        if features is not None:
            # Every function that a module has by its class is saved with it.
            inputs = [_STRING_LISTS, _K, _STRING_LISTS, _STRINGS]
            self.recommend_for_features = _signature(inputs)(self._recommend_for_features)

    def signatures(self) -> dict[str, Any]:
        """What `tf.saved_model.save` takes as `signatures`."""
        signatures = {
            "serving_default": self.serving_default,
            "recommend": self.recommend,
            "recommend_for_history": self.recommend_for_history,
            "similar_items": self.similar_items,
            "embed_user": self.embed_user,
            "tf_example": self.tf_example,
        }
        return signatures if self.features is None else {**signatures, FOR_FEATURES: self.recommend_for_features}

    @_signature([_STRINGS])
    def serving_default(self, user_id: tf.Tensor) -> dict[str, tf.Tensor]:
        """The best `default_k` items for each user."""
        size = tf.shape(user_id)[:1]
        excluded = tf.zeros(tf.concat([size, [0]], axis=0), tf.int64)
        return self._recommend(user_id, tf.constant(self._default_k), excluded, tf.fill(size, ANY))

    @_signature([_STRINGS, _K, _STRING_LISTS, _STRINGS])
    def recommend(
        self, user_id: tf.Tensor, k: tf.Tensor, exclude_item_id: tf.Tensor, category: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        """The best k items for each user, of its `category` ("" for any), without those in its `exclude_item_id`.

        Rows of `exclude_item_id` are padded with "".
        """
        with tf.control_dependencies(self._check_wishes("user_id", user_id, k, exclude_item_id, category)):
            excluded = self.item_ids.lookup(exclude_item_id)
            return self._recommend(user_id, tf.identity(k), excluded, self.item_filter.wanted(category))

    @_signature([_STRING_LISTS, _K, _STRING_LISTS, _STRINGS])
    def recommend_for_history(
        self, history_item_id: tf.Tensor, k: tf.Tensor, exclude_item_id: tf.Tensor, category: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        """As `recommend`, for users of whom nothing is known but the items they took (rows padded with "").

        Those items don't come back. Unknown ones are ignored; `num_unknown` int32 [B] says how many. Without a known
        one the answer is what is popular, and `known_user` is False.
        """
        checks = self._check_wishes("history_item_id", history_item_id, k, exclude_item_id, category)
        with tf.control_dependencies(checks):
            item_index = self.item_ids.lookup(history_item_id)
        known = item_index >= 0
        answer = self._answer_queries(
            self.history.call(item_index),
            tf.reduce_any(known, axis=1),
            tf.identity(k),
            tf.fill([tf.shape(item_index)[0]], tf.constant(-1, tf.int64)),
            tf.concat([item_index, self.item_ids.lookup(exclude_item_id)], axis=1),
            self.item_filter.wanted(category),
        )
        unknown = tf.not_equal(history_item_id, "") & ~known
        return {**answer, "num_unknown": tf.reduce_sum(tf.cast(unknown, tf.int32), axis=1)}

    def _recommend_for_features(
        self, user_feature: tf.Tensor, k: tf.Tensor, exclude_item_id: tf.Tensor, category: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        """As `recommend`, for users of whom nothing is known but features, as `age=24` (rows padded with "").

        Without a known one the answer is what is popular, and `known_user` is False.
        """
        assert self.features is not None
        with tf.control_dependencies(self._check_wishes("user_feature", user_feature, k, exclude_item_id, category)):
            rows, known = self.features.call(tf.identity(user_feature))
        nobody = tf.fill([tf.shape(user_feature)[0]], tf.constant(-1, tf.int64))
        excluded, wanted = self.item_ids.lookup(exclude_item_id), self.item_filter.wanted(category)
        return self._answer_queries(Queries(rows), known, tf.identity(k), nobody, excluded, wanted)

    @_signature([_STRINGS, _K])
    def similar_items(self, item_id: tf.Tensor, k: tf.Tensor) -> dict[str, tf.Tensor]:
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

    @_signature([_STRINGS])
    def embed_user(self, user_id: tf.Tensor) -> dict[str, tf.Tensor]:
        """The row of each user, float32 [B, d], as it is scored with; zeros for an unknown one."""
        user_index = self.user_ids.lookup(user_id)
        known = self._is_known(user_index)
        rows = self.users.gather(tf.maximum(user_index, 0))
        return {"embedding": tf.where(known[:, tf.newaxis], rows, 0.0), "known_user": known}

    @_signature([_STRINGS])
    def tf_example(self, examples: tf.Tensor) -> dict[str, tf.Tensor]:
        """As `serving_default`, from serialized tf.Examples with a feature `user_id`; without it, an unknown user."""
        feature = tf.io.FixedLenFeature([], tf.string, default_value="")
        # Traced once for both signatures.
        answer: dict[str, tf.Tensor] = self.serving_default(
            tf.io.parse_example(examples, {"user_id": feature})["user_id"]
        )
        return answer

    def _recommend(
        self, user_id: tf.Tensor, k: tf.Tensor, excluded: tf.Tensor, wanted: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        user_index = self.user_ids.lookup(user_id)
        queries = self.users.queries(tf.maximum(user_index, 0))
        return self._answer_queries(queries, self._is_known(user_index), k, user_index, excluded, wanted)

    def _is_known(self, user_index: tf.Tensor) -> tf.Tensor:
        """Whether more is known of users, rows int64 [B] or -1, than what must not come back to them: bool [B]."""
        known = user_index >= 0
        if not hasattr(self, "known_users"):
            return known
        return known & (gather(self.known_users, tf.maximum(user_index, 0)) > 0)

    def _best_items(
        self,
        queries: Queries,
        known: tf.Tensor,
        k: tf.Tensor,
        user_index: tf.Tensor,
        excluded: tf.Tensor,
        wanted: tf.Tensor,
    ) -> dict[str, tf.Tensor]:
        """The best items of known queries, and the popular ones for the others.

        Args:
          queries: B of them.
          known: bool [B].
          k: int32 scalar.
          user_index: int64 [B], whose seen items don't come back; -1 for nobody's.
          excluded: int64 [B, E], rows of items that don't, either; -1 for none.
          wanted: int32 [B], the category that each query asks for, or ANY.
        """
        blocked = block_any(self.seen.blocked(user_index), block_listed(excluded, self._num_items))
        blocked = blocked.within(self.item_filter, wanted)
        scores, item_index = self.top_k.call(queries, k, blocked)
        popularity, popular = self.popular.call(k, blocked, ~known)
        column = known[:, tf.newaxis]
        scores = tf.where(column, pad_to(scores, k, -np.inf), pad_to(popularity, k, -np.inf))
        item_index = tf.where(column, pad_to(item_index, k, 0), pad_to(popular, k, 0))
        return {**self._answer(scores, item_index, k), "known_user": known}

    def _answer(self, scores: tf.Tensor, item_index: tf.Tensor, k: tf.Tensor) -> dict[str, tf.Tensor]:
        scores, item_index = pad_to(scores, k, -np.inf), pad_to(item_index, k, 0)
        valid = scores > -np.inf
        return {
            "item_id": tf.where(valid, self.item_ids.ids(item_index), ""),
            "score": scores,
            "num_valid": tf.reduce_sum(tf.cast(valid, tf.int32), axis=1),
        }

    def _check_wishes(
        self, name: str, asked: tf.Tensor, k: tf.Tensor, exclude_item_id: tf.Tensor, category: tf.Tensor
    ) -> list[tf.Operation]:
        """K is in range, and there is a wish for each row of the input `name`."""
        wishes = {"exclude_item_id": exclude_item_id, "category": category}
        return [self._check_k(k), *(_check_same_batch(wish, values, name, asked) for wish, values in wishes.items())]

    def _check_k(self, k: tf.Tensor) -> tf.Operation:
        highest = max(self._num_items, MAX_PADDED_K)
        message = [f"k must be from 0 to {highest} (the catalogue has {self._num_items} items), got", k]
        return tf.debugging.Assert((k >= 0) & (k <= highest), message)


def _check_same_batch(name: str, values: tf.Tensor, of_name: str, of: tf.Tensor) -> tf.Operation:
    size, batch = tf.shape(values)[0], tf.shape(of)[0]
    message = [f"{name} must have a row for each row of {of_name} (pad with empty strings), got", size, "for", batch]
    return tf.debugging.Assert(tf.equal(size, batch), message)


class _TracedOnce:
    """`ServingModule._best_items` as one function that all signatures call.

    It is most of each of them. Traced into every one it would make an export take twice as long to write and to load.
    Where users are codes and histories aren't, there are two.
    """

    def __init__(self, function: Callable[..., dict[str, tf.Tensor]]) -> None:
        self._function = function
        self._traced: dict[int | None, Callable[..., dict[str, tf.Tensor]]] = {}

    def __call__(self, queries: Queries, *others: tf.Tensor) -> dict[str, tf.Tensor]:
        codes = queries.codes
        num_bits = None if codes is None else codes.num_bits
        parts: tuple[tf.Tensor, ...] = ()
        if codes is not None:
            parts = (codes.codes, codes.scale) if codes.offset is None else (codes.codes, codes.scale, codes.offset)
        if num_bits not in self._traced:

            def of_tensors(rows: tf.Tensor, parts: tuple[tf.Tensor, ...], *others: tf.Tensor) -> dict[str, tf.Tensor]:
                codes = None
                if num_bits is not None:
                    codes = QueryCodes(parts[0], num_bits, parts[1], parts[2] if len(parts) > 2 else None)
                return self._function(Queries(rows, codes), *others)

            def any_batch(tensor: tf.Tensor) -> tf.TensorSpec:
                return tf.TensorSpec([None] * min(1, tensor.shape.rank) + tensor.shape[1:].as_list(), tensor.dtype)

            lists = tf.TensorSpec([None, None], tf.int64)
            known, k, user_index, _, wanted = map(any_batch, others)
            signature = [any_batch(queries.rows), tuple(map(any_batch, parts)), known, k, user_index, lists, wanted]
            self._traced[num_bits] = tf.function(of_tensors, input_signature=signature, autograph=False)
        return self._traced[num_bits](queries.rows, parts, *others)
