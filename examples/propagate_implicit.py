"""Embeddings trained by implicit, propagated along the graph ODE, with what that brings.

    python examples/propagate_implicit.py train LOG.csv FACTORS.npz        # needs implicit, not tf_hqgnn
    python examples/propagate_implicit.py propagate LOG.csv FACTORS.npz    # needs tf_hqgnn, not implicit

The two steps may run in environments of their own. Both split the log in the same way: a tenth of the interactions
chooses the diffusion time, another tenth tests.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np

# Diffusion times to choose from; 0 leaves the embeddings as they are.
TIMES = (0.0, 0.1, 0.2, 0.4, 0.8, 1.6)


def read_split(log: str | Path) -> tuple[tuple[int, int], dict[str, np.ndarray]]:
    """The numbers of users and items, and the pairs of rows [n, 2] of train, valid and test, from a CSV file."""
    with Path(log).open(newline="", encoding="utf-8") as file:
        rows = [(row["user_id"], row["item_id"]) for row in csv.DictReader(file)]
    columns = [np.unique(column, return_inverse=True) for column in zip(*rows)]
    pairs = np.stack([index for _, index in columns], axis=1).astype(np.int32)
    part = np.random.default_rng(0).random(len(pairs))
    split = {"train": pairs[part >= 0.2], "valid": pairs[part < 0.1], "test": pairs[(part >= 0.1) & (part < 0.2)]}
    return (len(columns[0][0]), len(columns[1][0])), split


def train(log: str | Path, factors: str | Path) -> None:
    """Trains ALS on the training interactions and writes its factors."""
    import scipy.sparse
    from implicit.als import AlternatingLeastSquares

    shape, split = read_split(log)
    ones = np.ones(len(split["train"]), np.float32)
    matrix = scipy.sparse.csr_matrix((ones, split["train"].T), shape)
    model = AlternatingLeastSquares(factors=64, regularization=0.1, iterations=15, random_state=0, num_threads=1)
    model.fit(matrix, show_progress=False)
    np.savez(factors, users=model.user_factors, items=model.item_factors)


def propagate(log: str | Path, factors: str | Path) -> dict[str, float]:
    """Test NDCG@20 of the factors as they are, and propagated for the time that is best on validation."""
    from tf_hqgnn.evaluation.full_ranking import evaluate_embeddings
    from tf_hqgnn.graph import InteractionGraph
    from tf_hqgnn.layers import GraphODE
    from tf_hqgnn.types import Interactions, concatenate

    (num_users, num_items), split = read_split(log)
    parts = {name: Interactions(*pairs.T) for name, pairs in split.items()}
    graph = InteractionGraph.from_interactions(parts["train"], num_users, num_items)
    with np.load(factors) as arrays:
        embeddings = np.concatenate([arrays["users"], arrays["items"]])

    def ndcg(t1: float, part: str) -> float:
        rows = GraphODE(t1, solver="exact", graph=graph)(embeddings).numpy()
        # What is tested is ranked without the items of validation, too.
        known = parts["train"] if part == "valid" else concatenate(parts["train"], parts["valid"])
        metrics = evaluate_embeddings(
            rows[:num_users], rows[num_users:], parts[part], known.to_csr(num_users), graph.item_degree, ks=[20]
        )
        return metrics.values["ndcg@20"]

    best = max(TIMES, key=lambda t1: ndcg(t1, "valid"))
    result = {"t1": best, "before": ndcg(0.0, "test"), "after": ndcg(best, "test")}
    gain = result["after"] / result["before"] - 1
    print(f"test NDCG@20: {result['before']:.4f} as trained, {result['after']:.4f} at t1 = {best} ({gain:+.1%})")
    return result


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=("train", "propagate"))
    parser.add_argument("log", help="CSV file with the columns user_id and item_id")
    parser.add_argument("factors", help="file that `train` writes and `propagate` reads")
    arguments = vars(parser.parse_args())
    {"train": train, "propagate": propagate}[arguments.pop("step")](**arguments)
