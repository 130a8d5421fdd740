"""What only a model in this process answers, besides the queries that any model answers."""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tf_hqgnn.data.id_types import id_texts
from tf_hqgnn.queries.queries import Queries
from tf_hqgnn.queries.tables import AnswerForm, decoded, make_table
from tf_hqgnn.types import Array, Float32Array, InputError, ObjectArray

if TYPE_CHECKING:
    from tf_hqgnn.config import DataConfig
    from tf_hqgnn.data.report import BadRowLog
    from tf_hqgnn.recommender.fitted import FittedModel


class LocalQueries(Queries):
    """Answers from a model in memory."""

    @abc.abstractmethod
    def _fitted(self) -> FittedModel:
        """The model, or NotFittedError."""

    def score(self, users: Any, items: Any, *, as_arrays: bool = False) -> Any:
        """Scores every one of some items for every one of some users.

        Args:
          users: ids of users; one that isn't known is scored by the popularity of the items.
          items: ids of items; one that isn't known gets NaN.
          as_arrays: return the scores alone.

        Returns:
          A table as of `recommend`, in which `rank` orders the items of a user; `known` says whether both are known.
          With `as_arrays` float32 [users, items], in the order of both.

        Raises:
          NotFittedError: `fit` comes first.
        """
        model = self._fitted()
        user_texts, item_texts = id_texts("users", users), id_texts("items", items)
        scores, known = model.score(user_texts, item_texts)
        if as_arrays:
            return scores
        order = np.argsort(-scores, axis=1, kind="stable")
        form, ranked = model.form, item_texts[order.ravel()]
        columns = {
            "user_id": (np.repeat(decoded(user_texts, form.user_id), len(item_texts)), form.user_id),
            "rank": (np.tile(np.arange(1, len(item_texts) + 1), len(user_texts)), None),
            "item_id": (decoded(ranked, form.item_id), form.item_id),
            "score": (np.take_along_axis(scores, order, axis=1).ravel(), None),
            "known": (np.take_along_axis(known, order, axis=1).ravel(), None),
        }
        return make_table(columns, form, ranked)

    def evaluate(
        self, log: Any, *, k: Sequence[int] = (10, 20, 50), columns: Mapping[str, Any] | None = None
    ) -> dict[str, float]:
        """Ranks the whole catalogue for the users of a log that was held out, and compares.

        Users that the model doesn't know are left out, and so is what it has learnt from; an item that it doesn't know
        counts as missed.

        Args:
          log: as of `fit`.
          k: cut-offs, each at least 1.
          columns: as of `fit`.

        Returns:
          By name and k, as `ndcg@20`: recall, ndcg, mrr, hit, precision, coverage, popularity.

        Raises:
          InputError: The log can't be used, or nothing of it can be judged.
          NotFittedError: `fit` comes first.
        """
        from tf_hqgnn.data.any_log import read_log

        model = self._fitted()
        ks = (k,) if isinstance(k, int) else tuple(k)
        if not ks or any(isinstance(one, bool) or not isinstance(one, int | np.integer) or one < 1 for one in ks):
            raise InputError(f"k: expected whole numbers from 1 on, got {k!r}")
        with bad_row_log(model.run.config.data) as bad_rows:
            read = read_log(log, "log", model.run.config.data, bad_rows, columns, pairs_only=True)
        return model.evaluate(read.table.compact(), tuple(map(int, ks)))

    def item_embeddings(self) -> tuple[Array, Float32Array]:
        """`(item_ids, embeddings)`: [I] and float32 [I, d], the rows that are scored with.

        Raises:
          NotFittedError: `fit` comes first.
        """
        from tf_hqgnn.export.bundle import as_float32

        model = self._fitted()
        return model.form.item_id.decode(model.bundle.item_ids), np.array(as_float32(model.bundle.items))

    def _predict(self, signature: str, inputs: dict[str, Array]) -> dict[str, Array]:
        return self._fitted().predict(signature, inputs)

    def _form(self, users: Any = None, items: Any = None) -> AnswerForm:
        del users, items  # The log has told.
        return self._fitted().form

    def _all_users(self) -> ObjectArray:
        return self._fitted().bundle.user_ids

    def _largest_k(self, k: int) -> int:
        return min(k, len(self._fitted().bundle.item_ids))


def bad_row_log(config: DataConfig) -> BadRowLog:
    """What collects bad rows by the settings, with advice for callers of Python."""
    from tf_hqgnn.data.report import BadRowLog

    return BadRowLog(config.max_bad_rows, config.quarantine_path, in_python=True)
