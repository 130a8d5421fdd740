"""Columns of EASE beside trained ones: scores that are the sum of both, from one row for each user and item."""

from __future__ import annotations

import logging
from collections.abc import Callable

import numpy as np

from tf_hqgnn.config.ease import EaseConfig
from tf_hqgnn.graph.ease import MOST_ITEMS, ease_rows
from tf_hqgnn.graph.interaction_graph import InteractionGraph
from tf_hqgnn.types import Float32Array, InputError

# Of EASE's scores, where the trained ones count 1.
_WEIGHTS = (0.0, 0.1, 0.15, 0.2, 0.3, 0.45, 0.6, 1.0)
Rows = tuple[Float32Array, Float32Array]
log = logging.getLogger(__name__)


def check_ease(config: EaseConfig, num_items: int) -> None:
    """Refuses columns of EASE for more items than a matrix of all their pairs can have."""
    if config.columns and num_items > MOST_ITEMS:
        raise InputError(
            f"ease.columns={config.columns}: EASE needs a matrix of all pairs of items, and there are {num_items:,} "
            f"items; expected at most {MOST_ITEMS:,}; set ease.columns=0"
        )


def add_ease(
    trained: Rows, graph: InteractionGraph, config: EaseConfig, seed: int, value: Callable[..., float] | None
) -> tuple[Rows, EaseConfig]:
    """Rows with the columns of EASE, and the settings with the weight that was found.

    Args:
      trained: float32 [U, d] and [I, d].
      graph: of the training interactions.
      config: with columns.
      seed: of the singular vectors.
      value: of rows on the validation split, to choose the weight by; None to take that of the settings.

    Returns:
      float32 [U, d + k] and [I, d + k]; the trained rows as they are where EASE counts nothing.
    """
    closed = ease_rows(graph.seen(), graph.num_items, config.columns, config.regularization, seed)
    weight = config.weight
    if value is not None and config.search:
        found = {one: value(*mixed(trained, closed, one)) for one in sorted({*_WEIGHTS, weight})}
        weight = max(found, key=lambda one: found[one])
        log.info("ease: %s", ", ".join(f"{one:g} {reached:.4f}" for one, reached in found.items()))
    rows = even_columns(mixed(trained, closed, weight), seed) if weight else trained
    return rows, config.model_copy(update={"weight": weight})


def mixed(first: Rows, second: Rows, weight: float) -> Rows:
    """Rows whose scores are those of `first` and `weight` times those of `second`.

    Each is divided by the standard deviation of its scores for each user before.

    Example:
      >>> one = np.float32([[2.0]]), np.float32([[1.0], [-1.0]])
      >>> other = np.float32([[1.0]]), np.float32([[0.0], [6.0]])
      >>> users, items = mixed(one, other, 0.5)
      >>> (users @ items.T).tolist()
      [[1.0, 0.0]]
    """
    users = [scaled(rows) * np.float32(part) for rows, part in ((first, 1.0), (second, weight))]
    return np.hstack(users), np.hstack([first[1], second[1]])


def scaled(rows: Rows) -> Float32Array:
    """Rows of users [U, d] divided by the standard deviation of their scores over all items; zeros stay zeros."""
    users, items = rows
    centred = items - items.mean(axis=0)
    # Without a table of all scores.
    variance = np.einsum("ud,ud->u", users @ (centred.T @ centred / len(items)), users)
    found: Float32Array = (users / np.sqrt(np.maximum(variance, 1e-12))[:, np.newaxis]).astype(np.float32)
    return found


def even_columns(rows: Rows, seed: int) -> Rows:
    """Rows with the same dot products, whose columns are about alike, on both sides: codes cut off less of them.

    Args:
      rows: float32 [U, d] and [I, d]; d less come back where there are fewer users or items.
      seed: of the rotation.
    """
    (users, left), (items, right) = (np.linalg.qr(side.astype(np.float64)) for side in rows)
    first, strength, second = np.linalg.svd(left @ right.T, full_matrices=False)
    rotation = np.linalg.qr(np.random.default_rng(seed).standard_normal((len(strength), len(strength))))[0]
    even = np.sqrt(strength)[:, np.newaxis] * rotation
    return (users @ first @ even).astype(np.float32), (items @ second.T @ even).astype(np.float32)
