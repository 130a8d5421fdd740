"""Seconds and memory of a full-catalogue evaluation at two real sizes: `python -m benchmarks.evaluation`."""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

from benchmarks.timing import describe_run
from tf_hqgnn.evaluation.full_ranking import evaluate_embeddings
from tf_hqgnn.types import Interactions

# Users, items, seen, targets, and the most seconds and MiB that the project allows itself.
_SHAPES = {
    "beauty": (22_363, 12_101, 154_000, 22_363, 2.0, None),
    "gowalla": (29_858, 40_981, 810_128, 217_242, 8.0, 2048),
}


def peak_mebibytes() -> float:
    """Of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def numpy_rank(users: np.ndarray, items: np.ndarray, seen: tuple[np.ndarray, np.ndarray], k: int) -> np.ndarray:
    """The peer: what most projects do, in NumPy: product, mask, argpartition, sort."""
    top = np.empty((len(users), k), np.int32)
    indptr, indices = seen
    for start in range(0, len(users), 1024):
        scores = users[start : start + 1024] @ items.T
        for row in range(len(scores)):
            scores[row, indices[indptr[start + row] : indptr[start + row + 1]]] = -np.inf
        part = np.argpartition(-scores, k, axis=1)[:, :k]
        order = np.argsort(-np.take_along_axis(scores, part, 1), axis=1, kind="stable")
        top[start : start + 1024] = np.take_along_axis(part, order, 1)
    return top


def measure(shape: str, repetitions: int, chunk_size: int) -> None:
    """Prints one row, from a process of its own so that the peak of memory is this shape's."""
    num_users, num_items, num_seen, num_targets, seconds_allowed, memory_allowed = _SHAPES[shape]
    rng = np.random.default_rng(0)
    users = rng.normal(size=(num_users, 64)).astype(np.float32)
    items = rng.normal(size=(num_items, 64)).astype(np.float32)

    def pairs(count: int) -> Interactions:
        return Interactions(
            rng.integers(0, num_users, count).astype(np.int32), rng.integers(0, num_items, count).astype(np.int32)
        )

    train, everyone = pairs(num_seen), pairs(num_targets)
    everyone.user_index[:num_users] = np.arange(num_users)  # every user has a target
    popularity, seen = np.bincount(train.item_index, minlength=num_items), train.to_csr(num_users)
    before = peak_mebibytes()
    times = []
    for _ in range(repetitions):
        start = time.perf_counter()
        metrics = evaluate_embeddings(users, items, everyone, seen, popularity, (10, 20, 50), chunk_size)
        times.append(time.perf_counter() - start)
    memory = peak_mebibytes() - before
    start = time.perf_counter()
    numpy_rank(users, items, seen, 50)
    peer = time.perf_counter() - start
    print(
        f"{shape:8}{metrics.num_users:8,} x {num_items:6,}{min(times):8.2f}{np.median(times):9.2f}"
        f"{seconds_allowed:9.1f}{memory:9.0f}{memory_allowed or '-':>9}{peer:8.2f}{peer / min(times):10.1f}x"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", choices=_SHAPES)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--chunk-size", type=int, default=1024)
    arguments = parser.parse_args()
    if arguments.shape:
        measure(arguments.shape, arguments.repetitions, arguments.chunk_size)
        return
    print(describe_run("benchmarks.evaluation"))
    print("64 dimensions, k = 10, 20 and 50, all metrics; memory is the peak above what the process held before")
    columns = {"users x items": 17, "best s": 8, "median s": 9, "target s": 9, "MiB": 9, "target": 9, "NumPy": 8}
    print(f"{'shape':8}" + "".join(f"{name:>{width}}" for name, width in columns.items()) + " NumPy/ours")
    for shape in _SHAPES:
        options = ["--repetitions", str(arguments.repetitions), "--chunk-size", str(arguments.chunk_size)]
        subprocess.run([sys.executable, "-m", "benchmarks.evaluation", "--shape", shape, *options], check=True)


if __name__ == "__main__":
    main()
