"""tf_hqgnn and RecBole in turns, so that both see the same machine: what an epoch and a validation take."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.peers.job import K
from benchmarks.recbole import peer
from tf_hqgnn.config import Config
from tf_hqgnn.data.datasets import steps_per_epoch
from tf_hqgnn.data.split_dataset import SplitDataset
from tf_hqgnn.evaluation.full_ranking import evaluate_embeddings
from tf_hqgnn.graph.interaction_graph import InteractionGraph
from tf_hqgnn.models.factory import make_model
from tf_hqgnn.training.fitting import loss_batches

# Epochs before one side hands over to the other, where an epoch takes seconds.
TURN = 3


def take_turns(
    dataset: SplitDataset, config: Config, folder: Path, repetitions: int, turn_epochs: int = TURN
) -> dict[str, dict[str, np.ndarray]]:
    """What an epoch of training (the mean of a turn) and a full-ranking validation at a cut-off of 20 take.

    Returns:
      {"train" and "validation": {"ours" and "RecBole": float [repetitions, 2], seconds and seconds of processor time}}.
      The first turn of each side is not among them.
    """
    graph = InteractionGraph.from_interactions(dataset.train, dataset.num_users, dataset.num_items)
    model, training = make_model(config, graph), config.training
    steps = steps_per_epoch(len(dataset.train), training.batch_size)

    def our_epochs(first_epoch: int) -> None:
        batches = loss_batches(config.loss.make(), dataset.train, graph, training.batch_size, config.seed, first_epoch)
        model.fit(batches, epochs=turn_epochs, steps_per_epoch=steps, verbose=0)

    def our_validation() -> None:
        evaluate_embeddings(*model.embeddings(), dataset.valid, graph.seen(), graph.item_degree, (K,))

    seconds: dict[str, dict[str, list]] = {what: {"ours": [], "RecBole": []} for what in ("train", "validation")}
    with peer.Turns(folder) as recbole:
        for turn in range(repetitions + 1):
            seconds["train"]["ours"].append(_timed(lambda epoch=turn * turn_epochs: our_epochs(epoch)) / turn_epochs)
            seconds["train"]["RecBole"].append(sum(recbole.train() for _ in range(turn_epochs)) / turn_epochs)
            seconds["validation"]["ours"].append(_timed(our_validation))
            seconds["validation"]["RecBole"].append(recbole.validate())
            last = (f"{what} {of['ours'][-1][0]:.2f}/{of['RecBole'][-1][0]:.2f}" for what, of in seconds.items())
            print(f"turn {turn}: {', '.join(last)}", file=sys.stderr, flush=True)
    return {what: {side: np.array(values[1:]) for side, values in of.items()} for what, of in seconds.items()}


def _timed(function: Callable[[], object]) -> np.ndarray:
    """[2]: seconds of a call, and of processor time."""
    start, processor = time.perf_counter(), time.process_time()
    function()
    return np.array([time.perf_counter() - start, time.process_time() - processor])
