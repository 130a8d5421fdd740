"""The rows and queries of the comparison, and how an index is timed; NumPy only, for every environment."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

K = 100
BATCHES = (1, 32)
NUM_QUERIES = 256
# Wanted of every approximate index, by its own setting that is tuned on one half of the queries.
TARGET_RECALL = 0.98
_CENTRES = 2_000


@dataclass(frozen=True)
class Built:
    """An index.

    Args:
      search: queries as `encode` leaves them, to the rows int [B, K] of the best items.
      bytes_per_item: that it holds in memory.
      encode: what a server has before a request comes, of float32 [B, d]; not timed.
    """

    search: Callable[[Any], np.ndarray]
    bytes_per_item: float
    encode: Callable[[np.ndarray], Any] = np.ascontiguousarray

    def answer(self, queries: np.ndarray) -> np.ndarray:
        """The best items of float32 [B, d]."""
        return self.search(self.encode(queries))


def generate(num_items: int, dim: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Items and queries as trained embeddings are: in clusters, and popular items longer.

    Returns:
      float32 [num_items, dim] and [256, dim].
    """
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(_CENTRES, dim)).astype(np.float32)

    def around(count: int) -> np.ndarray:
        noise = rng.standard_normal(size=(count, dim), dtype=np.float32)
        noise *= np.float32(0.7)
        noise += centres[rng.integers(0, _CENTRES, count)]
        return noise

    items = around(num_items)
    items *= np.exp(0.2 * rng.standard_normal(size=(num_items, 1), dtype=np.float32))
    return items, around(NUM_QUERIES)


def repeat(run: Path, num_items: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Items and queries of a trained run: its items again and again, each time with other noise, and some of its users.

    Args:
      run: a run directory; its embeddings.npz is read.
      num_items: how many items there are to be; the first are those of the run, without noise.
      seed: of the noise, whose deviation in each dimension is a fifth of that of the items.

    Returns:
      float32 [num_items, d] and [256, d].
    """
    rng = np.random.default_rng(seed)
    with np.load(run / "embeddings.npz") as tables:
        users, trained = tables["user"].astype(np.float32), tables["item"].astype(np.float32)
    items = trained[np.arange(num_items) % len(trained)]
    spread = (0.2 * trained.std(axis=0)).astype(np.float32)
    for start in range(len(trained), num_items, 65_536):
        part = items[start : start + 65_536]
        part += spread * rng.standard_normal(size=part.shape, dtype=np.float32)
    return items, users[rng.choice(len(users), NUM_QUERIES, replace=len(users) < NUM_QUERIES)]


def recall(found: np.ndarray, exact: np.ndarray) -> float:
    """Mean share of the rows of `exact` [Q, K] that are in `found` [Q, at least 0]."""
    return float(np.mean([len(np.intersect1d(a, b)) for a, b in zip(found, exact)]) / exact.shape[1])


def tune(settings: Sequence[int], answer: Callable[[int], np.ndarray], exact: np.ndarray) -> int:
    """The first of `settings`, cheapest first, whose answer has the recall; the last if none has."""
    reached = (setting for setting in settings if recall(answer(setting), exact) >= TARGET_RECALL)
    return next(reached, settings[-1])


def milliseconds(built: Built, queries: np.ndarray, batch: int, seconds: float = 3.0) -> float:
    """The median of a call with `batch` queries, other ones each time."""
    taken: list[float] = []
    built.answer(queries[:batch])
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(taken) < 10:
        first = len(taken) * batch % (len(queries) - batch + 1)
        asked = built.encode(queries[first : first + batch])
        start = time.perf_counter()
        built.search(asked)
        taken.append(1000 * (time.perf_counter() - start))
    return float(np.median(taken))


def main(build: Callable[[str, np.ndarray, np.ndarray, np.ndarray], tuple[Built, int | None]]) -> None:
    """Builds and times one index: `python -m MODULE INDEX FOLDER`; prints a line of JSON.

    Args:
      build: `(index, items, queries, exact)` to the index and the setting that was tuned, if any was.
    """
    index, folder = sys.argv[1], Path(sys.argv[2])
    items, queries, exact = (np.load(folder / f"{name}.npy") for name in ("items", "queries", "exact"))
    # Settings are tuned on one half of the queries, recall and time are of the other.
    half = len(queries) // 2
    start = time.perf_counter()
    built, setting = build(index, items, queries[:half], exact[:half])
    record = {"setting": "" if setting is None else setting, "build_seconds": round(time.perf_counter() - start, 1)}
    record["bytes_per_item"] = round(built.bytes_per_item, 1)
    record["recall"] = round(recall(built.answer(queries[half:]), exact[half:]), 4)
    for batch in BATCHES:
        record |= {f"ms_{batch}": round(milliseconds(built, queries[half:], batch), 3)}
    print(json.dumps(record))
