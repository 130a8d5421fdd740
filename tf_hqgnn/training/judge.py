"""What decides while a model is made: metrics on the validation split."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from tf_hqgnn.config import EvaluationConfig
from tf_hqgnn.data.split_dataset import SplitDataset
from tf_hqgnn.evaluation.full_ranking import evaluate_embeddings, evaluate_popularity
from tf_hqgnn.evaluation.ranking import rank
from tf_hqgnn.evaluation.stock import in_stock
from tf_hqgnn.graph.interaction_graph import InteractionGraph
from tf_hqgnn.runs.untrained import Untrained
from tf_hqgnn.types import BoolArray, Float32Array, Interactions


@dataclass(frozen=True)
class Judge:
    """Ranks the whole catalogue with training items and disliked ones masked, and compares with held-out interactions.

    Args:
      targets: the held-out interactions; there may be none.
      graph: of the training interactions.
      config: cut-offs, to which 20 and that of the monitor are added, and the size of chunks.
      only: cut-offs in their place; None for those.
      available: bool [I], what can be recommended today (see evaluation/stock.py); None if everything can.
      unknown: whom the rows say nothing of, once a model is made: they are answered as in what is served.
    """

    targets: Interactions
    graph: InteractionGraph
    config: EvaluationConfig
    only: tuple[int, ...] | None = None
    available: BoolArray | None = None
    unknown: Untrained | None = None

    @staticmethod
    def of(dataset: SplitDataset, graph: InteractionGraph, config: EvaluationConfig) -> Judge:
        """The judge by the validation split of a dataset, of the items that are available."""
        return Judge(in_stock(dataset.valid, dataset.available), graph, config, available=dataset.available)

    def __call__(self, users: Float32Array, items: Float32Array) -> dict[str, float]:
        """Metrics by name of users float32 [U, d] and items float32 [I, d]; none without targets."""
        if not len(self.targets):
            return {}
        graph = self.graph
        unknown = None if self.unknown is None else (self.unknown.users, self.unknown.items)
        settings = (self._ks(), self.config.chunk_size, self.available, unknown)
        return evaluate_embeddings(users, items, self.targets, graph.masked(), graph.item_strength, *settings).values

    def value(self, users: Float32Array, items: Float32Array) -> float:
        """The metric by which everything is chosen (`evaluation.monitor`), of the same rows; there must be targets."""
        return self(users, items)[self.config.monitor]

    def popularity(self) -> dict[str, float]:
        """Of recommending what most users took."""
        if not len(self.targets):
            return {}
        graph, unknown = self.graph, None if self.unknown is None else self.unknown.items
        settings = (self._ks(), self.config.chunk_size, self.available, unknown)
        return evaluate_popularity(self.targets, graph.masked(), graph.item_strength, *settings).values

    def sample(self, num_users: int, seed: int) -> Judge:
        """The judge of a random sample of the users with targets."""
        users = np.unique(self.targets.user_index)
        if len(users) <= num_users:
            return self
        chosen = np.random.default_rng(seed).choice(users, num_users, replace=False)
        return replace(self, targets=self.targets.take(np.isin(self.targets.user_index, chosen)))

    def monitor_only(self) -> Judge:
        """The judge of the monitor's cut-off alone: it ranks fewer items."""
        return replace(self, only=(self.config.monitor_k,))

    def _ks(self) -> tuple[int, ...]:
        return self.only or tuple(sorted({*self.config.k, 20, self.config.monitor_k}))


def agreement_judge(
    users: Float32Array,
    items: Float32Array,
    graph: InteractionGraph,
    config: EvaluationConfig,
    num_users: int,
    seed: int,
) -> Judge:
    """A judge without held-out interactions: how far other rows rank as these do.

    The targets are the 20 best unseen items of a sample of users by these rows.

    Args:
      users: float32 [U, d].
      items: float32 [I, d].
      graph: of the training interactions.
      config: as of `Judge`.
      num_users: size of the sample, of users with training interactions.
      seed: of the sample.
    """
    known = np.flatnonzero(graph.user_degree)
    chosen = np.sort(np.random.default_rng(seed).choice(known, min(num_users, len(known)), replace=False))
    top = rank(users, items, chosen, graph.masked(), 20, config.chunk_size)
    place, _ = present = np.nonzero(top >= 0)
    return Judge(Interactions(chosen[place].astype(np.int32), top[present]), graph, config)
