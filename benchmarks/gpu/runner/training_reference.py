"""Losses, their gradients, Adam and HQ-GNN's delta in NumPy and float64, written from the papers' formulas."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-8
_CHUNK = 1024


@dataclass(frozen=True)
class Batch:
    """B pairs and their rows before the step, float64 [B, d]; what a loss doesn't use is None."""

    user_index: np.ndarray
    item_index: np.ndarray
    negative_index: np.ndarray | None
    users: np.ndarray
    items: np.ndarray
    negatives: np.ndarray | None
    log_popularity: np.ndarray | None
    weight: np.ndarray | None


def gradients(loss: dict[str, Any], batch: Batch) -> tuple[float, np.ndarray, np.ndarray]:
    """The loss, and its gradients with respect to the users' and the items' rows, one for each pair."""
    users, user_length = _unit(batch.users)
    items, item_length = _unit(batch.items)
    if loss["name"] == "alignment_uniformity":
        value, by_user, by_item = _alignment_uniformity(users, items, loss["gamma"])
    else:
        value, by_user, by_item = _softmax(users, items, batch, loss)
    by_user, by_item = _through_unit(by_user, users, user_length), _through_unit(by_item, items, item_length)
    decay = loss["weight_decay"] / len(users)
    if decay:
        value += decay * (np.square(batch.users).sum() + np.square(batch.items).sum()) / 2
        by_user, by_item = by_user + decay * batch.users, by_item + decay * batch.items
    return value, by_user, by_item


def adam(m: np.ndarray, v: np.ndarray, gradient: np.ndarray | float, learning_rate: float, step: int) -> np.ndarray:
    """By how much rows move in the step after `step` others."""
    m = BETA_1 * m.astype(np.float64) + (1 - BETA_1) * gradient
    v = BETA_2 * v.astype(np.float64) + (1 - BETA_2) * np.square(gradient)
    correction = np.sqrt(1 - BETA_2 ** (step + 1)) / (1 - BETA_1 ** (step + 1))
    return -learning_rate * correction * m / (np.sqrt(v) + EPSILON)


def hq_bpr(batch: Batch, quantization: dict[str, Any]) -> tuple[float, float, float]:
    """BPR of quantized rows, and the deltas of the users' and the items' quantizers, from the exact traces."""
    if batch.negatives is None or batch.negative_index is None:
        raise ValueError("BPR needs a negative for each pair, the batch has none")
    user_bits, item_bits = quantization["user_bits"], quantization["bits"]
    users, user_width = _quantized(batch.users, user_bits)
    items, item_width = _quantized(batch.items, item_bits)
    negatives, negative_width = _quantized(batch.negatives, item_bits)
    x = (users * (items - negatives)).sum(axis=1)
    loss = float(np.logaddexp(0, -x).mean())
    slope = (-1 / (1 + np.exp(x)) / len(x))[:, np.newaxis]
    curvature = 1 / (1 + np.exp(-x)) / (1 + np.exp(x))
    user_trace = (curvature * np.square(items - negatives).sum(axis=1)).mean()
    item_trace = (curvature * 2 * np.square(users).sum(axis=1)).mean()
    delta_users = _delta(user_trace, batch.user_index, slope * (items - negatives), user_width, user_bits)
    index = np.concatenate([batch.item_index, batch.negative_index])
    gradient = np.concatenate([slope * users, -slope * users])
    width = np.concatenate([item_width, negative_width])
    return loss, delta_users, _delta(item_trace, index, gradient, width, item_bits)


def _alignment_uniformity(users: np.ndarray, items: np.ndarray, gamma: float) -> tuple[float, np.ndarray, np.ndarray]:
    size = len(users)
    of_users, slope_users = _uniformity(users)
    of_items, slope_items = _uniformity(items)
    alignment = np.square(users - items).sum(axis=1).mean()
    pull = 2 * (users - items) / size
    value = alignment + gamma * (of_users + of_items) / 2
    return value, pull + gamma / 2 * slope_users, -pull + gamma / 2 * slope_items


def _uniformity(x: np.ndarray) -> tuple[float, np.ndarray]:
    """`log mean over pairs of exp(-2 |a - b|^2)` of unit rows, and its gradient."""
    size, total, slope = len(x), 0.0, np.zeros_like(x)
    for start in range(0, size, _CHUNK):
        part = slice(start, start + _CHUNK)
        kernel = np.exp(4 * (x[part] @ x.T) - 4)
        kernel[np.arange(len(kernel)), np.arange(start, start + len(kernel))] = 0
        total += kernel.sum()
        # A pair stands in the sum twice, once for each of its rows.
        slope[part] = 8 * kernel @ x
    return float(np.log(total / (size * (size - 1)))), slope / total


def _softmax(
    users: np.ndarray, items: np.ndarray, batch: Batch, loss: dict[str, Any]
) -> tuple[float, np.ndarray, np.ndarray]:
    size, value = len(users), 0.0
    by_user, by_item = np.zeros_like(users), np.zeros_like(items)
    shift = loss["popularity_correction"] * batch.log_popularity
    for start in range(0, size, _CHUNK):
        part = np.arange(start, min(start + _CHUNK, size))
        logits = users[part] @ items.T / loss["temperature"] - shift
        same = batch.item_index[part, np.newaxis] == batch.item_index
        same[np.arange(len(part)), part] = False
        logits[same] = -1e9
        highest = logits.max(axis=1, keepdims=True)
        odds = np.exp(logits - highest)
        totals = odds.sum(axis=1, keepdims=True)
        own = logits[np.arange(len(part)), part]
        weight = batch.weight[part] / size
        value += (weight * (np.log(totals[:, 0]) + highest[:, 0] - own)).sum()
        slope = odds / totals
        slope[np.arange(len(part)), part] -= 1
        slope *= weight[:, np.newaxis] / loss["temperature"]
        by_user[part] = slope @ items
        by_item += slope.T @ users[part]
    return float(value), by_user, by_item


def _unit(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / length, length


def _through_unit(gradient: np.ndarray, unit: np.ndarray, length: np.ndarray) -> np.ndarray:
    """The gradient with respect to rows, of one with respect to the same rows at unit length."""
    return (gradient - unit * (gradient * unit).sum(axis=1, keepdims=True)) / length


def _quantized(rows: np.ndarray, bits: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows rounded to the levels of their own symmetric range, and the widths of the ranges [n, 1]."""
    if bits not in (1, 8):
        raise ValueError(f"the reference rounds to 1 or 8 bits, got {bits}")
    magnitude = np.abs(rows)
    reach = magnitude.mean(axis=1, keepdims=True) if bits == 1 else magnitude.max(axis=1, keepdims=True)
    unit = np.clip((rows + reach) / (2 * reach), 0, 1)
    steps = 2**bits - 1
    return -reach + 2 * reach * np.floor(unit * steps + 0.5) / steps, 2 * reach


def _delta(trace: float, index: np.ndarray, gradient: np.ndarray, width: np.ndarray, bits: int) -> float:
    """GSTE's delta: the mean curvature over three deviations of the gradient, on the scale 0 .. 1 of a range."""
    rows, first, place = np.unique(index, return_index=True, return_inverse=True)
    summed = np.zeros((len(rows), gradient.shape[1]))
    np.add.at(summed, place, gradient)
    scaled = summed * width[first]
    mean_curvature = trace * np.square(width[first]).mean() / scaled.size
    return float(np.clip(mean_curvature / (3 * scaled.std()), 0, 1.8 * (2**bits - 1)))
