"""Settings of the loss that a race tries, in the order in which earlier logs speak for them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tf_hqgnn.graph.interaction_graph import InteractionGraph
from tf_hqgnn.logs import quiet_optuna

Settings = dict[str, Any]

# What won on earlier logs, or came within half a percent of it. Dense: MovieLens 100K and LastFM. Sparse: Beauty, Toys
# and Sports; CiteULike; Gowalla. The others stand between these.
_DENSE = (
    {"temperature": 0.2, "popularity_correction": 1.0, "user_balance": 0.5},
    {"temperature": 0.15, "popularity_correction": 1.0},
    {"temperature": 0.2, "popularity_correction": 1.0, "user_balance": 0.5, "negative_weight": 1.3},
    {"temperature": 0.2, "popularity_correction": 1.0, "negative_weight": 1.0},
)
_SPARSE = (
    {"temperature": 0.15, "popularity_correction": 0.75, "negative_weight": 1.3},
    {"temperature": 0.1, "popularity_correction": 0.75, "negative_weight": 1.3},
    {"temperature": 0.1, "popularity_correction": 0.5, "negative_weight": 1.3},
    {"temperature": 0.15, "popularity_correction": 0.75},
)
# Interactions of the mean item: 48 on MovieLens 100K and 12 on LastFM, 16 on Gowalla, 12 to 13 on Amazon's logs, 10 on
# CiteULike.
_DENSE_FROM = 30.0
_PLAIN: Settings = {"temperature": 0.15, "popularity_correction": 0.75, "user_balance": 0.0, "negative_weight": None}


def prior(graph: InteractionGraph) -> list[Settings]:
    """The contestants that earlier logs speak for, the likeliest first; every setting of each is spelt out.

    Args:
      graph: of the training interactions; what counts is how many interactions its items have.

    Example:
      >>> import numpy as np
      >>> from tf_hqgnn.types import Interactions
      >>> sparse = InteractionGraph.from_interactions(Interactions(np.arange(9), np.arange(9)), 9, 9)
      >>> prior(sparse)[0]["temperature"]
      0.15
    """
    items = max(1, int((graph.item_degree > 0).sum()))
    first, second = (_DENSE, _SPARSE) if graph.num_edges / items >= _DENSE_FROM else (_SPARSE, _DENSE)
    # In turns, so that a short race has seen the best of both kinds.
    in_turns = [settings for pair in zip(first, second) for settings in pair]
    found: list[Settings] = []
    for settings in (_PLAIN | one for one in in_turns):
        if settings not in found:
            found.append(settings)
    return found


class Contestants:
    """Asks for one contestant after the other: the prior, then what Optuna's TPE makes of the values so far.

    Args:
      graph: of the training interactions.
      seed: of the sampler.
    """

    def __init__(self, graph: InteractionGraph, seed: int) -> None:
        with quiet_optuna():
            # Now, since it takes half a second that other trainings can spare.
            import optuna
            from optuna.distributions import CategoricalDistribution, FloatDistribution

            self._study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed))
        self._space = {
            "temperature": FloatDistribution(0.05, 0.3, log=True),
            "popularity_correction": FloatDistribution(0.25, 1.0),
            "user_balance": CategoricalDistribution((0.0, 0.5)),
            "negative_weight": CategoricalDistribution((None, 1.0, 1.15, 1.3)),
        }
        for settings in prior(graph):
            self._study.enqueue_trial(settings)

    def ask(self, count: int) -> Iterator[tuple[Settings, Any]]:
        """Yields `count` of them with what `tell` wants back; each is told before the next one is asked for."""
        for _ in range(count):
            trial = self._study.ask(self._space)
            yield dict(trial.params), trial

    def tell(self, trial: Any, value: float) -> None:
        """Stores the value of a contestant."""
        with quiet_optuna():
            self._study.tell(trial, value)
