"""The signatures of an exported module share what is here: its tables, its search, and the checks of requests."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

import numpy as np
import tensorflow as tf

from tf_hqgnn.export.layout import MAX_PADDED_K
from tf_hqgnn.export.traced_once import TracedOnce
from tf_hqgnn.graph.csr import CSR
from tf_hqgnn.retrieval.exact import ExactTopK
from tf_hqgnn.retrieval.filters import Blocked, SeenItems, block_any, block_listed
from tf_hqgnn.retrieval.histories import HistoryEncoder
from tf_hqgnn.retrieval.ids import IdTable
from tf_hqgnn.retrieval.item_filter import ItemFilter
from tf_hqgnn.retrieval.popular import PopularItems
from tf_hqgnn.retrieval.queries import Queries
from tf_hqgnn.retrieval.rows import RowTable
from tf_hqgnn.retrieval.sizes import size_of
from tf_hqgnn.retrieval.slices import candidate_bytes, in_slices
from tf_hqgnn.retrieval.top_k import TopK, best, pad_to
from tf_hqgnn.retrieval.variables import gather
from tf_hqgnn.types import BoolArray, Float32Array, ObjectArray

# The score of padding. Clients read any JSON of it, which -inf has no place in.
PADDING_SCORE = float(np.finfo(np.float32).min)

STRINGS = tf.TensorSpec([None], tf.string)
STRING_LISTS = tf.TensorSpec([None, None], tf.string)
FLAGS = tf.TensorSpec([None], tf.bool)
NUMBERS = tf.TensorSpec([None], tf.float32)
K = tf.TensorSpec([], tf.int32)

Outputs = dict[str, tf.Tensor]


# What an input of each rank is, as the name of the operation that refuses another rank says it.
_RANKS = ("a_scalar", "a_vector", "a_matrix")


def signature(inputs: Sequence[tf.TensorSpec]) -> Callable[[Callable[..., Any]], Any]:
    """Return a decorator that makes a `tf.function`, which refuses inputs of a wrong rank.

    TF Serving and clients in other languages pass on what they are given. An operation for each input checks it: its
    message says what shape came and what was expected, and its name, which TensorFlow adds, which input it was, as in
    `user_id_must_be_a_vector`. AutoGraph is off: nothing here needs it, and it takes most of an export's time.

    Args:
      inputs: a spec of each input.

    Example:
      >>> double = signature([tf.TensorSpec([None], tf.float32)])(lambda values: 2.0 * values)
      >>> double(tf.constant([1.0])).numpy().tolist()
      [2.0]
    """

    def decorate(function: Callable[..., Any]) -> Any:
        arguments = inspect.signature(function)

        @wraps(function)
        def checked(*given: Any, **by_name: Any) -> Any:
            bound = arguments.bind(*given, **by_name)
            # The last ones are tensors, and what comes before them is the module.
            for name, spec in zip(list(bound.arguments)[-len(inputs) :], inputs):
                wish = f"{name}_must_be_{_RANKS[spec.shape.rank]}"
                bound.arguments[name] = tf.ensure_shape(bound.arguments[name], spec.shape, name=wish)
            return function(*bound.args, **bound.kwargs)

        return tf.function(checked, input_signature=inputs, autograph=False)

    return decorate


class ServingParts(tf.Module):
    """The tables that an exported module answers from.

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
      known_users: bool [U], False for ids that are answered as an unknown user's; None if all are known.
      learnt: as `seen`, the items that each user's row was learnt from; None for all that it has seen.
      catalogue_items: how many items a k may ask for; None for N.
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
        known_users: BoolArray | None = None,
        learnt: CSR | None = None,
        catalogue_items: int | None = None,
    ) -> None:
        super().__init__(name="hqgnn")
        self.user_ids = IdTable(user_ids)
        self.item_ids = IdTable(item_ids)
        self.users = users
        self.items = items
        self.top_k = top_k
        self.seen = SeenItems(*seen, num_items=items.num_rows)
        if learnt is not None:
            self.learnt = SeenItems(*learnt, num_items=items.num_rows)
        self.popular = PopularItems(popularity, item_filter)
        self.history = history
        self.item_filter = item_filter
        self.similar = ExactTopK(users)
        self._known_filter: ItemFilter | None = None
        if known_users is not None:
            self._known_filter = ItemFilter(users.num_rows, available=known_users)
            self.known_users = tf.Variable(known_users.astype(np.int32), trainable=False, name="known_users")
        self._num_items = items.num_rows
        self._catalogue_items = catalogue_items or items.num_rows
        self._search = TracedOnce(self._best_items)
        self._choose = TracedOnce(self._best_candidates)
        self._score_pairs = TracedOnce(self._scores_of_pairs)

    @property
    def _histories(self) -> SeenItems:
        """What users' rows were learnt from: dislikes, for example, are seen items that no row comes from."""
        return self.learnt if hasattr(self, "learnt") else self.seen

    def _is_known(self, user_index: tf.Tensor) -> tf.Tensor:
        """Whether more is known of users, rows int64 [B] or -1, than what must not come back to them: bool [B]."""
        known = user_index >= 0
        if not hasattr(self, "known_users"):
            return known
        return known & (gather(self.known_users, tf.maximum(user_index, 0)) > 0)

    def _answer_queries(
        self,
        queries: Queries,
        known: tf.Tensor,
        k: tf.Tensor,
        user_index: tf.Tensor,
        excluded: tf.Tensor,
        wanted: tf.Tensor,
    ) -> Outputs:
        """The best items of known queries, and the popular ones for the others.

        Args:
          queries: B of them.
          known: bool [B].
          k: int32 scalar.
          user_index: int64 [B], whose seen items don't come back; -1 for nobody's.
          excluded: int64 [B, E], rows of items that don't, either; -1 for none.
          wanted: int32 [B], the category that each query asks for, or ANY.
        """
        unwanted = tf.zeros([size_of(wanted, 0), 0], tf.int32)
        scores, item_index = self._search(queries, known, k, user_index, excluded, wanted[:, tf.newaxis], unwanted)
        return {**self._answer(scores, item_index, k), "known_user": known}

    def _best_items(
        self,
        queries: Queries,
        known: tf.Tensor,
        k: tf.Tensor,
        user_index: tf.Tensor,
        excluded: tf.Tensor,
        wanted: tf.Tensor,
        unwanted: tf.Tensor,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """As `_answer_queries`, `(scores, item_index)` [B, k], of any of the categories `wanted` [B, C].

        A query that isn't known may want one category at most, and leave none out (`PopularItems.call`).
        """
        blocked = self._blocked(user_index, excluded, wanted, unwanted)
        scores, item_index = self.top_k.call(queries, k, blocked)
        popularity, popular = self.popular.call(k, blocked, ~known)
        column = known[:, tf.newaxis]
        scores = tf.where(column, pad_to(scores, k, -np.inf), pad_to(popularity, k, -np.inf))
        return scores, tf.where(column, pad_to(item_index, k, 0), pad_to(popular, k, 0))

    def _best_candidates(
        self,
        queries: Queries,
        known: tf.Tensor,
        k: tf.Tensor,
        user_index: tf.Tensor,
        excluded: tf.Tensor,
        wanted: tf.Tensor,
        unwanted: tf.Tensor,
        popularity: tf.Tensor,
        candidates: tf.Tensor,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """As `_best_items`, among the items `candidates` of each query alone: rows int64 [B, M], -1 for none.

        To their scores comes `popularity` (float32 [B]) times the logarithm of their share of it.
        """
        # In the order of rows, so that equal scores go to the lower one, as in every other answer.
        candidates = tf.sort(candidates, axis=1)
        batch = size_of(candidates, 0)
        before = tf.concat([tf.fill([batch, 1], tf.constant(-1, tf.int64)), candidates], axis=1)[:, :-1]
        place = tf.maximum(candidates, 0)
        allowed = (candidates >= 0) & tf.not_equal(candidates, before)
        allowed &= ~self._blocked(user_index, excluded, wanted, unwanted).contains(place)
        scores = tf.where(known[:, tf.newaxis], self._score_pairs(queries, place), self.popular.scores(place))
        scores += popularity[:, tf.newaxis] * self.popular.log_shares(place)
        return best(tf.where(allowed, scores, -np.inf), tf.cast(place, tf.int32), k)

    def _blocked(self, user_index: tf.Tensor, excluded: tf.Tensor, wanted: tf.Tensor, unwanted: tf.Tensor) -> Blocked:
        """What must not come back, by the arguments of `_best_items`."""
        blocked = block_any(self.seen.blocked(user_index), block_listed(excluded, self._num_items))
        return blocked.within(self.item_filter, wanted, unwanted)

    def _scores_of_pairs(self, queries: Queries, item_index: tf.Tensor) -> tf.Tensor:
        """The scores of items (rows int64 [B, C]) for B queries, float32 [B, C]; a slice of the batch at a time."""

        def scores(part: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            items = tf.gather(item_index, part)
            return self.items.score_at(queries.at(part), items), tf.cast(items, tf.int32)

        batch, width = tf.unstack(tf.shape(item_index))
        bytes_per_row = tf.cast(width, tf.int64) * candidate_bytes(self.items.embedding_dim)
        return in_slices(scores, tf.range(batch), width, bytes_per_row)[0]

    def _answer(
        self, scores: tf.Tensor, index: tf.Tensor, k: tf.Tensor, name: str = "item_id", ids: IdTable | None = None
    ) -> Outputs:
        """The outputs of every search: the ids of rows, from `ids` (None: items), and their scores, k to a query."""
        scores, index = pad_to(scores, k, -np.inf), pad_to(index, k, 0)
        valid = scores > -np.inf
        return {
            name: tf.where(valid, (ids or self.item_ids).ids(index), ""),
            "score": tf.where(valid, scores, PADDING_SCORE),
            "num_valid": tf.reduce_sum(tf.cast(valid, tf.int32), axis=1),
        }

    def _rows_for(self, item_id: tf.Tensor, batch: tf.Tensor) -> tf.Tensor:
        """Look up the rows of items, string [B, E], or [1, E] for all queries: int64 [B, E], -1 for unknown ones."""
        return for_each(self.item_ids.lookup(tf.identity(item_id)), batch)

    def _wanted_for(self, category: tf.Tensor, batch: tf.Tensor) -> tf.Tensor:
        """The numbers of categories, string [B, ...] or [1, ...]: int32 [B, ...]."""
        return for_each(self.item_filter.wanted(tf.identity(category)), batch)

    def _check_request_options(
        self, name: str, asked: tf.Tensor, k: tf.Tensor, exclude_item_id: tf.Tensor, category: tf.Tensor
    ) -> list[tf.Operation]:
        """K is in range, and there is a wish for each row of the input `name`, or none at all."""
        return [
            self._check_k(k),
            check_unused_or_batch("exclude_item_id", exclude_item_id, name, asked),
            check_unused_or_batch("category", category, name, asked),
        ]

    def _check_k(self, k: tf.Tensor) -> tf.Operation:
        return check_k(k, self._catalogue_items, f"the catalogue has {self._catalogue_items} items")


def check_k(k: tf.Tensor, num_rows: int, reason: str) -> tf.Operation:
    """Fail unless `k` is in range for a table of `num_rows` rows."""
    highest = max(num_rows, MAX_PADDED_K)
    return tf.debugging.Assert((k >= 0) & (k <= highest), [f"k must be from 0 to {highest} ({reason}), got", k])


def check_unused_or_batch(name: str, values: tf.Tensor, of_name: str, of: tf.Tensor) -> tf.Operation:
    """Fail unless the optional input `name` has a row for each row of `of`, or a single row that holds no id."""
    size, batch = size_of(values, 0), size_of(of, 0)
    unused = tf.equal(size, 1) & tf.reduce_all(tf.equal(values, ""))
    message = [f"{name} must have a row for each row of {of_name} (pad with empty strings), got", size, "for", batch]
    return tf.debugging.Assert(tf.equal(size, batch) | unused, message)


def check_batch(name: str, values: tf.Tensor, of_name: str, of: tf.Tensor) -> tf.Operation:
    """Fail unless the input `name` has a row for each row of `of`."""
    size, batch = size_of(values, 0), size_of(of, 0)
    message = [f"{name} must have a row for each row of {of_name}, got", size, "for", batch]
    return tf.debugging.Assert(tf.equal(size, batch), message)


def check_one_or_batch(name: str, values: tf.Tensor, of_name: str, of: tf.Tensor) -> tf.Operation:
    """Fail unless the input `name` has a row for each row of `of`, or one row for all of them."""
    size, batch = size_of(values, 0), size_of(of, 0)
    message = [f"{name} must have a row for each row of {of_name}, or one for all of them, got", size, "for", batch]
    return tf.debugging.Assert(tf.equal(size, batch) | tf.equal(size, 1), message)


def for_each(values: tf.Tensor, batch: tf.Tensor) -> tf.Tensor:
    """`values` [B, ...], or [1, ...] repeated for each row of a batch."""
    return tf.broadcast_to(values, tf.concat([[batch], tf.shape(values)[1:]], axis=0))
