"""The refit: once everything is chosen and measured, train once more on what was held out, too; and its guard.

Nothing is held out any more to judge a refitted model by. So it is compared with the model that was judged: a refit
that went wrong ranks otherwise, or knows the interactions that it has learnt no better than a model without them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tf_hqgnn.config import Config
from tf_hqgnn.data.split_dataset import SplitDataset
from tf_hqgnn.evaluation.full_ranking import evaluate_embeddings
from tf_hqgnn.evaluation.ranking import rank
from tf_hqgnn.evaluation.stock import in_stock
from tf_hqgnn.graph.interaction_graph import InteractionGraph
from tf_hqgnn.training.making import MadeModel
from tf_hqgnn.types import BoolArray, Float32Array, Interactions, concatenate

# Users whose rankings are compared, and how many first items: fewer in a catalogue where chance finds many of 20.
_USERS = 2000
_TOP, _TOP_SHARE = 20, 0.1
# A refitted model has learnt the held-out interactions; one that ranks them this much worse than a model that hasn't
# is broken. What codes lose is less.
_KNOWS = 0.9


@dataclass(frozen=True)
class Refit:
    """What became of a refit on the whole log.

    Args:
      interactions: that it was trained on.
      agreement: mean share of a user's first items that both models have; None where training diverged.
      held_out_ndcg: NDCG@20 of the judged model on all that was held out.
      refitted_ndcg: the same of the refitted model, which has learnt it; None where training diverged.
      served: whether the refitted model is served.
      note: in words, what is served and what the metrics are of.
    """

    interactions: int
    agreement: float | None
    held_out_ndcg: float | None
    refitted_ndcg: float | None
    served: bool
    note: str


def refit_interactions(dataset: SplitDataset, config: Config) -> Interactions | None:
    """What a refit trains on by `training.refit`; None where there is none, or nothing was held out."""
    if not config.training.refit:
        return None
    if config.training.refit == "all":
        held_out = concatenate(dataset.valid, dataset.test)
        return concatenate(dataset.train, held_out) if len(held_out) else None
    # What isn't available judges nothing, so there is nothing to refit after.
    judged = in_stock(dataset.valid, dataset.available)
    return concatenate(dataset.train, dataset.valid) if len(judged) else None


def compare(
    judged: MadeModel, refitted: MadeModel, dataset: SplitDataset, graph: InteractionGraph, config: Config
) -> Refit:
    """Looks whether a refitted model may be served.

    Args:
      judged: what was trained without the held-out interactions.
      refitted: what was trained on all of them.
      dataset: of both.
      graph: of all interactions.
      config: all settings; `training.min_refit_agreement`, `evaluation.chunk_size` and the seed count.
    """
    tables = _served(judged), _served(refitted)
    counted = len(dataset.train) + len(dataset.valid) + len(dataset.test)
    if not all(np.isfinite(table).all() for table in tables[1]):
        return not_served(counted, "its rows aren't finite")
    known = ~judged.untrained.items
    comparable = known if dataset.available is None else known & dataset.available
    agreement = _agreement(tables, ~judged.untrained.users, comparable, graph, config)
    targets = in_stock(concatenate(dataset.valid, dataset.test), comparable)
    seen = dataset.masked(dataset.train)
    before, after = (
        evaluate_embeddings(
            *table, targets, seen, graph.item_degree, [_TOP], config.evaluation.chunk_size, comparable
        ).values[f"ndcg@{_TOP}"]
        if len(targets)
        else 0.0
        for table in tables
    )
    fault = None
    if agreement < config.training.min_refit_agreement:
        fault = (
            f"its first items are {agreement:.0%} those of the model that was judged, at least "
            f"{config.training.min_refit_agreement:.0%} is asked (training.min_refit_agreement)"
        )
    elif after < _KNOWS * before:
        fault = (
            f"its NDCG@20 on the interactions that were held out is {after:.4f}, that of a model that hasn't learnt "
            f"them {before:.4f}"
        )
    if fault is not None:
        return not_served(counted, fault, agreement, before, after)
    note = (
        f"the model that is served was trained once more, on all {counted:,} interactions; all metrics are those of "
        f"the model before that, which doesn't know the held-out interactions; {agreement:.0%} of their first items "
        "are the same"
    )
    return Refit(counted, agreement, before, after, True, note)


def not_served(
    interactions: int,
    fault: str,
    agreement: float | None = None,
    held_out_ndcg: float | None = None,
    refitted_ndcg: float | None = None,
) -> Refit:
    """The refit that isn't served because of `fault`."""
    note = f"the refit failed: {fault}; served is the model that was judged, which doesn't know what was held out"
    return Refit(interactions, agreement, held_out_ndcg, refitted_ndcg, False, note)


def _served(model: MadeModel) -> tuple[Float32Array, Float32Array]:
    return (model.users, model.items) if model.coded is None else model.coded.dequantize()


def _agreement(
    tables: tuple[tuple[Float32Array, Float32Array], tuple[Float32Array, Float32Array]],
    users: BoolArray,
    items: BoolArray,
    graph: InteractionGraph,
    config: Config,
) -> float:
    """Mean share of the first items of a sample of `users` among `items` that both tables rank first."""
    known = np.flatnonzero(users)
    chosen = np.sort(np.random.default_rng(config.seed).choice(known, min(_USERS, len(known)), replace=False))
    k = max(1, min(_TOP, int(_TOP_SHARE * items.sum())))
    first, second = (
        rank(*table, chosen, graph.masked(), k, config.evaluation.chunk_size, available=items) for table in tables
    )
    shares = [np.isin(one[one >= 0], other).mean() for one, other in zip(first, second) if (one >= 0).any()]
    return float(np.mean(shares)) if shares else 1.0
