"""What only a model in this process answers, besides the queries that any model answers."""

from __future__ import annotations

import abc
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tf_hqgnn.features.columns import pieces
from tf_hqgnn.hints import did_you_mean
from tf_hqgnn.queries.pair_queries import PairQueries
from tf_hqgnn.queries.tables import AnswerForm
from tf_hqgnn.types import Array, Float32Array, InputError, ObjectArray

if TYPE_CHECKING:
    from tf_hqgnn.config import DataConfig
    from tf_hqgnn.data.report import BadRowLog
    from tf_hqgnn.recommender.fitted import FittedModel


class LocalQueries(PairQueries):
    """Answers from a model in memory."""

    @abc.abstractmethod
    def _fitted(self) -> FittedModel:
        """The model, or NotFittedError."""

    def evaluate(
        self, log: Any, *, k: Sequence[int] = (10, 20, 50), columns: Mapping[str, Any] | None = None
    ) -> dict[str, float]:
        """Rank all items for the users of a held-out log, and compare the ranking with what they took.

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
        """Return the ids and the embeddings of all items: [I] and float32 [I, d].

        Raises:
          NotFittedError: `fit` comes first.
        """
        from tf_hqgnn.export.bundle import as_float32

        model = self._fitted()
        return model.form.item_id.decode(model.bundle.item_ids), np.array(as_float32(model.bundle.items))

    def _predict(self, signature: str, inputs: dict[str, Array]) -> dict[str, Array]:
        model = self._fitted()
        if "category" in inputs:
            _warn_of_unknown({one.decode() for one in inputs["category"].ravel()}, model.bundle.item_categories)
        return model.predict(signature, inputs)

    def _form(self, users: Any = None, items: Any = None) -> AnswerForm:
        del users, items  # The log has told.
        return self._fitted().form

    def _all_users(self) -> ObjectArray:
        return self._fitted().bundle.user_ids

    def _largest_k(self, k: int) -> int:
        return min(k, len(self._fitted().bundle.item_ids))

    def _largest_user_k(self, k: int) -> int:
        return min(k, len(self._fitted().bundle.user_ids))


def _warn_of_unknown(asked: set[str], item_categories: ObjectArray | None) -> None:
    """Warns of categories that no item has: nothing can be recommended of them."""
    texts = () if item_categories is None or not asked - {""} else set(item_categories)
    known = {category for text in texts for category in pieces(str(text), "list")}
    for category in sorted(asked - known - {""}):
        # Where `recommend` was called.
        warnings.warn(f"unknown category {category!r}{did_you_mean(category, known - {''})}", stacklevel=4)


def bad_row_log(config: DataConfig) -> BadRowLog:
    """What collects bad rows by the settings, with advice for callers of Python."""
    from tf_hqgnn.data.report import BadRowLog

    return BadRowLog(config.max_bad_rows, config.quarantine_path, in_python=True)
