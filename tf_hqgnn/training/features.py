"""What features add to trained rows: an embedding for those without interactions, and better ones for those of few."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tf_hqgnn.data.feature_table import FeatureTable
from tf_hqgnn.data.split_dataset import SplitDataset
from tf_hqgnn.features.fit import MIN_ROWS, fit_features
from tf_hqgnn.features.model import FeatureModel, FeatureModels, blend
from tf_hqgnn.graph.interaction_graph import InteractionGraph
from tf_hqgnn.runs.untrained import Untrained
from tf_hqgnn.training.judge import Judge
from tf_hqgnn.types import BoolArray, Float32Array, IntArray

# What features may count for beside the interactions of a trained row, in interactions.
_WORTHS = (0.0, 1.0, 3.0, 10.0, 30.0)
_JUDGED_USERS = 4096
log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class LearntFeatures:
    """What was learnt of features, and the rows with it.

    Args:
      users: float32 [U, d].
      items: float32 [I, d].
      models: of both sides.
      worths: of users and items, in interactions: how far features count in trained rows; chosen on validation.
      report: for metrics.json, by `users` and `items`; empty where nothing was learnt.
      told: of users and items, bool [U] and bool [I], whether features say anything; None where nothing was learnt.
    """

    users: Float32Array
    items: Float32Array
    models: FeatureModels = field(default_factory=FeatureModels)
    worths: tuple[float, float] = (0.0, 0.0)
    report: dict[str, dict[str, Any]] = field(default_factory=dict)
    told: tuple[BoolArray, BoolArray] | None = None


def learn_features(
    dataset: SplitDataset,
    users: Float32Array,
    items: Float32Array,
    untrained: Untrained,
    graph: InteractionGraph,
    judge: Judge,
    seed: int,
    worths: tuple[float, float] | None = None,
) -> LearntFeatures:
    """Learns from the features of a dataset, and gives a row to users and items that have nothing but features.

    Args:
      dataset: with features or without.
      users: float32 [U, d], propagated.
      items: float32 [I, d], the embeddings of items.
      untrained: the rows that no interaction has taught.
      graph: of the training interactions.
      judge: chooses how far features count in trained rows; without targets they don't.
      seed: of the rows that are held out while the ridge is chosen.
      worths: what a judge has chosen before.
    """
    if dataset.user_features is None and dataset.item_features is None:
        return LearntFeatures(users, items)
    pairs = graph.to_matrix()
    pairs.data = np.ones_like(pairs.data)
    user_model = item_model = None
    if dataset.user_features is not None:
        user_model = fit_features(dataset.user_features, users, ~untrained.users, items, seed)
    if dataset.item_features is not None:
        item_model = fit_features(dataset.item_features, items, ~untrained.items, users, seed)
    degrees = np.diff(pairs.indptr), np.bincount(pairs.indices, minlength=len(items))
    sides = (
        _Side.of(users, user_model, dataset.user_features, ~untrained.users, degrees[0]),
        _Side.of(items, item_model, dataset.item_features, ~untrained.items, degrees[1]),
    )
    if worths is None:
        worths = (0.0, 0.0)
        if len(judge.targets):
            value = judge.monitor_only().sample(_JUDGED_USERS, seed).value
            items_worth = _best(sides[1], lambda rows: value(sides[0].rows_with(0.0), rows))
            found = sides[1].rows_with(items_worth)
            worths = _best(sides[0], lambda rows: value(rows, found)), items_worth
    report = {}
    tables = dataset.user_features, dataset.item_features
    for name, side, worth, table in zip(("users", "items"), sides, worths, tables):
        if table is not None and (unused := _unused(table, side.model)):
            log.info("features of %s: %s", name, unused)
        if side.model is not None:
            report[name] = side.report(worth)
            log.info("features of %s: %s; %s", name, side.model.describe(), side.summary(worth))
    models = FeatureModels(user_model, item_model)
    rows = [side.rows_with(worth) for side, worth in zip(sides, worths)]
    return LearntFeatures(rows[0], rows[1], models, worths, report, (sides[0].known, sides[1].known))


@dataclass(frozen=True, eq=False)
class _Side:
    """The rows of users or items, and what features say of them.

    Args:
      rows: float32 [n, d], propagated.
      model: of the features; None where there is none.
      predicted: float32 [n, d], by features.
      known: bool [n], whether features say anything.
      trained: bool [n].
      degree: int [n], interactions.
    """

    rows: Float32Array
    model: FeatureModel | None
    predicted: Float32Array
    known: BoolArray
    trained: BoolArray
    degree: IntArray

    @staticmethod
    def of(
        rows: Float32Array, model: FeatureModel | None, table: FeatureTable | None, trained: BoolArray, degree: IntArray
    ) -> _Side:
        """The side with its predictions."""
        if model is None or table is None:
            return _Side(rows, None, rows, np.zeros(len(rows), bool), trained, degree)
        return _Side(rows, model, *model.predict(table), trained, degree)

    def rows_with(self, worth: float) -> Float32Array:
        """The rows that are served; a row without interactions of its own is what features say."""
        if self.model is None:
            return self.rows
        # A warm start may have trained a row that has no interaction in this log.
        moves = self.known & (~self.trained | (worth > 0))
        mixed = blend(self.predicted, self.rows, np.where(self.trained, self.degree, 0), worth)
        return np.where(moves[:, np.newaxis], mixed, self.rows).astype(np.float32)

    def report(self, worth: float) -> dict[str, Any]:
        """Figures for metrics.json."""
        assert self.model is not None
        return {
            "columns": [column.describe() for column in self.model.columns],
            "strength": self.model.strength,
            "worth": worth,
            "without_interactions": int((self.known & ~self.trained).sum()),
        }

    def summary(self, worth: float) -> str:
        """What was done with them, in words."""
        new = int((self.known & ~self.trained).sum())
        trained = f"count in trained rows as {worth:g} interactions" if worth else "don't count in trained rows"
        return f"they {trained}; {new:,} without interactions have a row by them"


def _unused(table: FeatureTable, model: FeatureModel | None) -> str:
    """Says in words what nothing is learnt of; empty if everything is used."""
    if model is None:
        return f"nothing is learnt, too few trained rows have any ({MIN_ROWS} are needed) or all columns are left out"
    used = {column.name for column in model.columns}
    left_out = [name for name in table.columns if name not in used]
    if not left_out:
        return ""
    return (
        f"left out: {', '.join(left_out)} (empty, or nearly all values differ; a kind behind the name, such as "
        f"{left_out[0]}:category, keeps a column of different values)"
    )


def _best(side: _Side, value: Callable[[Float32Array], float]) -> float:
    """The worth by which a judge finds the rows best; 0 where features make no difference to it."""
    if side.model is None:
        return 0.0
    return max(_WORTHS, key=lambda worth: value(side.rows_with(worth)))
