"""The best propagation of a trained model. No solver or time takes part in training, so all are tried for free."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from tf_hqgnn.config import PropagationConfig
from tf_hqgnn.files.durable import write_csv

# One Euler step to T is one hop of weight T / (1 + T).
_HOP_WEIGHTS = (0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.65)
_EXACT_TIMES = (0.1, 0.25, 0.5, 1.0, 2.0)


@dataclass(frozen=True)
class Candidate:
    """A propagation that was tried.

    Args:
      propagation: how the trained rows were propagated.
      value: the monitor's value for the result on the validation split, or a sample of it.
    """

    propagation: PropagationConfig
    value: float


def search_propagation(
    start: PropagationConfig, judge: Callable[[PropagationConfig], float]
) -> tuple[PropagationConfig, list[Candidate]]:
    """Tries none, and climbs two ladders: one hop of rising weight (one Euler step), and the exact solution.

    Of each ladder it tries the rung nearest to the best so far and goes up or down as long as that is better: accuracy
    rises with the time up to a point and falls after it. Last come the times halfway from the best to its neighbours.
    `normalize` stays as it is: the loss has decided whether rows have a length.

    Args:
      start: the propagation of the settings, which wins a tie.
      judge: propagation -> NDCG@20 of the propagated rows.

    Returns:
      The best, and all that was tried in the order of trying, `start` first.

    Example:
      >>> start = PropagationConfig(solver="euler", t1=1.0)
      >>> best, tried = search_propagation(start, lambda p: -abs(p.t1 - 0.4) - (p.solver != "exact"))
      >>> best.solver, round(best.t1, 2), len(tried)
      ('exact', 0.35, 15)
    """
    tried = [Candidate(start, judge(start))]

    def attempt(solver: str, t1: float) -> float:
        values = start.model_dump() | {"solver": solver, "t1": t1, "num_steps": 1}
        propagation = PropagationConfig.model_validate(values)
        for candidate in tried:
            if candidate.propagation == propagation:
                return candidate.value
        tried.append(Candidate(propagation, judge(propagation)))
        return tried[-1].value

    attempt("none", 0.0)
    ladders = {"euler": [weight / (1 - weight) for weight in _HOP_WEIGHTS], "exact": list(_EXACT_TIMES)}
    for solver, ladder in ladders.items():
        _climb(ladder, _best(tried).propagation.t1, partial(attempt, solver))
    best = _best(tried).propagation
    if best.solver in ladders and best.num_steps == 1:
        for t1 in _between(best.t1, [c.propagation.t1 for c in tried if c.propagation.solver == best.solver]):
            attempt(best.solver, t1)
    return _best(tried).propagation, tried


def _climb(ladder: Sequence[float], start: float, value: Callable[[float], float]) -> None:
    """Asks for the value of the rung nearest to `start`, then of those above or below, as long as they get better."""
    nearest = int(np.argmin(np.abs(np.array(ladder) - start)))
    best = value(ladder[nearest])
    for way in (ladder[nearest + 1 :], ladder[:nearest][::-1]):
        improved = False
        for t1 in way:
            if (reached := value(t1)) <= best:
                break
            best, improved = reached, True
        if improved:
            return


def write_candidates(path: Path, tried: list[Candidate], monitor: str = "ndcg@20") -> None:
    """A CSV with a row for each; `monitor` names the metric of their values."""
    names = ("solver", "t1", "num_steps", "normalize")
    rows = [{name: getattr(candidate.propagation, name) for name in names} for candidate in tried]
    write_csv(path, [row | {f"valid_{monitor}": candidate.value} for row, candidate in zip(rows, tried)])


def describe_search(tried: Sequence[Candidate], monitor: str) -> str:
    """Say in a line what the search was worth: the metric without propagation, with that of the settings, and best.

    Args:
      tried: what `search_propagation` tried, the propagation of the settings first.
      monitor: the name of the metric.

    Example:
      >>> of = lambda value, **values: Candidate(PropagationConfig(**values), value)
      >>> tried = [of(0.13, t1=0.25), of(0.12, solver="none", t1=0.0), of(0.16, solver="exact", t1=2.83)]
      >>> describe_search(tried, "ndcg@20").split("; ")[0]
      'validation ndcg@20: before propagation 0.1200, after it 0.1600 (exact to t1 = 2.83, the best of 3)'
    """

    def described(propagation: PropagationConfig) -> str:
        return propagation.make_solver().describe(propagation.t1, propagation.num_steps)

    start, best = tried[0], _best(list(tried))
    plain = next((one for one in tried if not one.propagation.make_solver().propagates), start)
    if best is plain:
        return f"validation {monitor}: {best.value:.4f} without propagation, the best of {len(tried)} that were tried"
    text = (
        f"validation {monitor}: before propagation {plain.value:.4f}, after it {best.value:.4f} "
        f"({described(best.propagation)}, the best of {len(tried)})"
    )
    if start in (plain, best):
        return text
    return f"{text}; epochs were judged after {described(start.propagation)}, which gives {start.value:.4f}"


def _best(tried: list[Candidate]) -> Candidate:
    return max(tried, key=lambda candidate: candidate.value)


def _between(t1: float, times: list[float]) -> list[float]:
    """Halfway to the nearest time below (0 if there is none) and above."""
    below = max((t for t in times if t < t1), default=0.0)
    above = min((t for t in times if t > t1), default=2 * t1)
    return [float(np.sqrt(max(below, t1 / 4) * t1)), float(np.sqrt(above * t1))]
