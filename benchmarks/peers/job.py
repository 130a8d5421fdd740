"""What a process that trains one model is given, measures and hands back. Needs NumPy only: all environments import it.

A job is a folder: `job.json` and the split come in; `result.json` goes out, with `rows.npz` (users [U, d] and items
[I, d], to be scored by the dot product) or, for models without such rows, `lists.npz` (the best unseen items, int32
[U, k], for validation and for test).
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

K = 20
# Users scored at once for lists.
_CHUNK = 512


@dataclass(frozen=True)
class Split:
    """The pairs of a data set, as row numbers.

    Args:
      num_users: U.
      num_items: I.
      parts: int32 [n, 2] (user, item) by `train`, `valid` and `test`; `valid` is empty in a refit.
      seen: by `valid` and `test`, the CSR `(indptr, indices)` of what is masked when they are ranked for.
    """

    num_users: int
    num_items: int
    parts: dict[str, np.ndarray]
    seen: dict[str, tuple[np.ndarray, np.ndarray]]

    def save(self, path: Path) -> None:
        arrays = {f"{name}_pairs": pairs for name, pairs in self.parts.items()}
        for name, (indptr, indices) in self.seen.items():
            arrays |= {f"{name}_seen_indptr": indptr, f"{name}_seen_indices": indices}
        np.savez(path, shape=np.array([self.num_users, self.num_items]), **arrays)

    @staticmethod
    def load(path: Path) -> Split:
        with np.load(path) as arrays:
            num_users, num_items = arrays["shape"].tolist()
            parts = {name: arrays[f"{name}_pairs"] for name in ("train", "valid", "test")}
            seen = {name: (arrays[f"{name}_seen_indptr"], arrays[f"{name}_seen_indices"]) for name in ("valid", "test")}
        return Split(num_users, num_items, parts, seen)


@dataclass
class Job:
    """One training.

    Args:
      folder: of the job.
      model: its name, as its driver knows it.
      settings: its own.
      split: the path of the split.
      seed: of everything random.
      epochs: at most (iterations, for ALS); None leaves it to the settings.
      max_seconds: after which no further epoch begins, for models that take hours; None for no limit.
      measured: seconds, seconds of processor time and peak bytes, once `measure` is left.
    """

    folder: Path
    model: str
    settings: dict[str, Any]
    split: Path
    seed: int
    epochs: int | None = None
    max_seconds: float | None = None
    measured: dict[str, float] = field(default_factory=dict)

    def save(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        values = {
            "model": self.model,
            "settings": self.settings,
            "split": str(self.split.resolve()),
            "seed": self.seed,
            "epochs": self.epochs,
            "max_seconds": self.max_seconds,
        }
        (self.folder / "job.json").write_text(json.dumps(values, indent=2), encoding="utf-8")

    @staticmethod
    def load(folder: Path) -> Job:
        values = json.loads((folder / "job.json").read_text(encoding="utf-8"))
        return Job(folder=folder.resolve(), **{**values, "split": Path(values["split"])})

    @contextmanager
    def measure(self) -> Iterator[None]:
        """Measures what happens inside; the peak is that of the process, with its libraries and the data."""
        start, processor = time.perf_counter(), time.process_time()
        yield
        self.measured = {
            "seconds": time.perf_counter() - start,
            "cpu_seconds": time.process_time() - processor,
            "peak_bytes": _peak_bytes(),
        }

    def finish(self, item_bytes: float, versions: str, **more: Any) -> None:
        """Writes result.json.

        Args:
          item_bytes: memory of what scoring needs besides the user's own history or row, over the number of items.
          versions: of the libraries that did the work.
          **more: such as `epochs` and `best_epoch`.
        """
        result = {"epochs": None, "best_epoch": None, **self.measured, "item_bytes": item_bytes, "versions": versions}
        (self.folder / "result.json").write_text(json.dumps(result | more, indent=2), encoding="utf-8")

    def save_rows(self, users: np.ndarray, items: np.ndarray) -> None:
        np.savez(self.folder / "rows.npz", user=users.astype(np.float32), item=items.astype(np.float32))

    def save_lists(self, split: Split, score: Callable[[np.ndarray], np.ndarray]) -> None:
        """Ranks for all users; `score` gives float [n, I] for the rows of n users."""
        lists = {name: np.full((split.num_users, K), -1, np.int32) for name in split.seen}
        for start in range(0, split.num_users, _CHUNK):
            users = np.arange(start, min(start + _CHUNK, split.num_users))
            scores = np.array(score(users), np.float32)
            for name, seen in split.seen.items():
                lists[name][users] = best_unseen(scores.copy(), seen, users)
        np.savez(self.folder / "lists.npz", **lists)


def best_unseen(scores: np.ndarray, seen: tuple[np.ndarray, np.ndarray], users: np.ndarray) -> np.ndarray:
    """int32 [n, K], the best items that these users haven't seen; equal scores go by the lower item, -1 for none.

    Args:
      scores: float32 [n, I]; what was seen is overwritten.
      seen: the CSR `(indptr, indices)` over all users.
      users: [n], consecutive rows.
    """
    if not np.isfinite(scores).all():
        raise ValueError("a score is not a finite number")
    indptr, indices = seen
    first, last = indptr[users[0]], indptr[users[-1] + 1]
    scores[np.repeat(np.arange(len(users)), np.diff(indptr)[users]), indices[first:last]] = -np.inf
    found = np.full((len(users), K), -1, np.int32)
    width = min(K, scores.shape[1])
    thresholds = np.partition(scores, scores.shape[1] - width, axis=1)[:, -width]
    for row, (line, threshold) in enumerate(zip(scores, thresholds)):
        candidates = np.flatnonzero((line >= threshold) & (line > -np.inf))
        best = candidates[np.argsort(-line[candidates], kind="stable")][:width]
        found[row, : len(best)] = best
    return found


def matrix_of(split: Split) -> Any:
    """The training interactions, a SciPy CSR float32 [U, I] of ones."""
    import scipy.sparse

    users, items = split.parts["train"].T
    ones = np.ones(len(users), np.float32)
    return scipy.sparse.csr_matrix((ones, (users, items)), shape=(split.num_users, split.num_items))


def versions_of(*packages: str, **more: str) -> str:
    """Such as "implicit 0.7.2, numpy 1.26.4"."""
    from importlib.metadata import version

    found: Mapping[str, str] = {**{name: version(name) for name in packages}, **more}
    return ", ".join(f"{name} {number}" for name, number in found.items())


def _peak_bytes() -> int:
    # Not getrusage: its ru_maxrss starts at the peak of the process that started this one.
    with Path("/proc/self/status").open(encoding="utf-8") as file:
        for line in file:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    raise OSError("/proc/self/status has no VmHWM: peak memory can only be measured on Linux")
