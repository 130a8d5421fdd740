"""How sharp the softmax over a user's scores has to be, for distillation to be about the first places."""

from __future__ import annotations

import numpy as np

from tf_hqgnn.graph.csr import CSR
from tf_hqgnn.types import Float32Array, FloatArray

_NUM_USERS = 256
_NUM_HALVINGS = 20


def score_deviation(users: FloatArray, items: FloatArray) -> Float32Array:
    """The standard deviation over items of each user's scores: a thousandth of its mean over users at least, and not 0.

    >>> score_deviation(np.array([[1.0], [-2.0]]), np.array([[1.0], [3.0]])).tolist()
    [1.0, 2.0]
    """
    covariance = np.atleast_2d(np.cov(items.T, bias=True))
    deviation = np.sqrt(np.maximum(np.einsum("ud,de,ue->u", users, covariance, users, optimize=True), 0.0))
    bounded: FloatArray = np.maximum(deviation, 1e-3 * deviation.mean() or 1.0)
    return bounded.astype(np.float32)


def relative_temperature(users: FloatArray, items: FloatArray, seen: CSR, top_share: float, k: int, seed: int) -> float:
    """The temperature, in deviations of a user's scores, at which the k best unseen items have `top_share` of the mass.

    How far the best items are ahead of the rest, in standard deviations, grows with the size of the catalogue and
    differs between data sets, so no fixed temperature serves all. The share is a mean over (at most 256) users.

    Args:
      users: float32 [U, d].
      items: float32 [I, d].
      seen: `(indptr, indices)`, the items of each user that aren't ranked.
      top_share: Within 0 .. 1.
      k: >= 1.
      seed: Of the sample of users.

    Returns:
      Within 0.01 .. 100.

    Example:
      >>> nothing = np.zeros(2, np.int64), np.zeros(0, np.int32)
      >>> t = relative_temperature(np.ones([1, 1]), np.array([[0.0], [2.0]]), nothing, top_share=0.9, k=1, seed=0)
      >>> round(float(np.exp(2 / t) / (1 + np.exp(2 / t))), 3)  # the softmax of scores 0 and 2, whose deviation is 1
      0.9
    """
    sample = np.random.default_rng(seed).choice(len(users), min(_NUM_USERS, len(users)), replace=False)
    deviation = score_deviation(users, items)[sample]
    scores = (users[sample] @ items.T) / deviation[:, np.newaxis]
    indptr, indices = seen
    for row, user in enumerate(sample):
        scores[row, indices[indptr[user] : indptr[user + 1]]] = -np.inf
    scores = scores[np.isfinite(scores).any(axis=1)]
    if not len(scores):
        return 1.0
    scores -= scores.max(axis=1, keepdims=True)
    first = max(scores.shape[1] - k, 0)
    scores = np.partition(scores, first, axis=1) if first else scores
    low, high = np.log(0.01), np.log(100.0)
    for _ in range(_NUM_HALVINGS):
        middle = (low + high) / 2
        mass = np.exp(scores * np.float32(np.exp(-middle)))
        share = float((mass[:, first:].sum(axis=1) / mass.sum(axis=1)).mean())
        low, high = (middle, high) if share > top_share else (low, middle)
    return float(np.exp((low + high) / 2))


def user_temperatures(
    users: FloatArray, items: FloatArray, seen: CSR, top_share: float, k: int, seed: int
) -> Float32Array:
    """The temperature of each user's softmax over scores: `relative_temperature` times `score_deviation`, float32 [U].

    Args:
      users: As in `relative_temperature`, as are all others.
      items: float32 [I, d].
      seen: `(indptr, indices)`.
      top_share: Within 0 .. 1.
      k: >= 1.
      seed: Of the sample of users.

    Example:
      >>> nothing = np.zeros(3, np.int64), np.zeros(0, np.int32)
      >>> users, items = np.array([[1.0], [2.0]]), np.array([[0.0], [2.0]])
      >>> temperatures = user_temperatures(users, items, nothing, top_share=0.9, k=1, seed=0)
      >>> round(float(temperatures[1] / temperatures[0]), 3)
      2.0
    """
    return np.float32(relative_temperature(users, items, seen, top_share, k, seed)) * score_deviation(users, items)
