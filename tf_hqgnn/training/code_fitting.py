"""Codes that start out close to a ranking: discrete least squares on the scores that decide it, in a few rounds."""

from __future__ import annotations

import logging

import numpy as np

from tf_hqgnn.evaluation.ranking import rank
from tf_hqgnn.graph.csr import CSR, select_rows
from tf_hqgnn.quantization.code_descent import fit_all_scores
from tf_hqgnn.quantization.codes import Codes
from tf_hqgnn.quantization.listed_scores import ListedScores, chunks, divergence_weights
from tf_hqgnn.types import Float32Array, Int32Array

log = logging.getLogger(__name__)

# So many best items of the teacher and of the student have weights of their own.
_LISTED = 100

# Codes are fitted to the scores of a sample of at most so many users, and the other users to the codes afterwards, so
# that time and memory don't grow with their number in every round.
MOST_USERS = 1 << 16
_PASSES_OF_OTHERS = 2

# The items that aren't listed have at least this share of the weight of a user.
_LEAST_REST = 0.02

# The logit of an item that a user has seen, which has no part of the softmax.
_SEEN = -1e9


def fit_codes(
    users: Float32Array,
    items: Float32Array,
    seen: CSR,
    temperature: Float32Array,
    num_bits: int,
    num_rounds: int,
    seed: int,
) -> tuple[Float32Array, Codes]:
    """Codes of items, and users for them, that rank as two full-precision tables do.

    It begins with `fit_all_scores`. Each round lists the items that the teacher or the student ranks first, weighs them
    by `divergence_weights` of the two softmaxes, so that least squares lowers their divergence, and fits users in
    closed form and codes by coordinate descent (`ListedScores`). There is no learning rate, and bits can flip.

    Args:
      users: float32 [U, d], the teacher's.
      items: float32 [I, d].
      seen: `(indptr, indices)`, the items of each user that aren't ranked.
      temperature: float32 [U], that of each user's softmax.
      num_bits: 1 to 4.
      num_rounds: >= 1.
      seed: Of the rotation that codes start from.

    Returns:
      Users float32 [U, d], and codes of the items with a scale each. Their scores are on the scale of the teacher's,
      up to a constant of each user.

    Example:
      >>> rows = np.random.default_rng(0).normal(size=(12, 4)).astype(np.float32)
      >>> nothing = np.zeros(13, np.int64), np.zeros(0, np.int32)
      >>> fitted, codes = fit_codes(rows, rows, nothing, np.ones(12, np.float32), num_bits=1, num_rounds=2, seed=0)
      >>> print(codes)
      12 rows of 4 x 1 bits, 3 bytes each
    """
    # Scores are logits, and items have a mean square of 1, as the constants of users have.
    size = np.float32(np.sqrt(np.mean(np.square(items, dtype=np.float64))) or 1.0)
    users, items = users * (size / temperature[:, np.newaxis]), items / size
    sample = np.random.default_rng(seed).permutation(len(users))[:MOST_USERS]
    teacher = _Ranking(users[sample], items, select_rows(seen, sample))
    fitted, levels, scale = fit_all_scores(teacher.users, items, num_bits, seed)
    for number in range(1, num_rounds + 1):
        decoded = scale[:, np.newaxis] * levels
        scores = _scores_that_decide(teacher, _Ranking(fitted, decoded, teacher.seen))
        fitted, constants = scores.fit_users(decoded)
        before = levels
        levels, scale = scores.fit_items(fitted, constants, levels, scale, num_bits)
        changed = 100 * np.mean(before != levels)
        log.info("codes: least squares, round %d/%d changed %.2f%% of the levels", number, num_rounds, changed)
        fitted, _ = scores.fit_users(scale[:, np.newaxis] * levels)
    decoded = scale[:, np.newaxis] * levels
    linear = np.linalg.lstsq(teacher.users, fitted, rcond=None)[0].astype(np.float32)
    all_users = users @ linear
    all_users[sample] = fitted
    others = np.setdiff1d(np.arange(len(users)), sample)
    for start in range(0, len(others), MOST_USERS):
        part = others[start : start + MOST_USERS]
        teacher = _Ranking(users[part], items, select_rows(seen, part))
        for _ in range(_PASSES_OF_OTHERS):
            scores = _scores_that_decide(teacher, _Ranking(all_users[part], decoded, teacher.seen))
            all_users[part], _ = scores.fit_users(decoded)
    largest = scale * size
    codes = Codes.quantize(levels * largest[:, np.newaxis], num_bits, ranges=(-largest, largest))
    return all_users * (temperature[:, np.newaxis] / size), codes


class _Ranking:
    """Two tables whose dot products are logits, and the softmax over the items that a user hasn't seen."""

    def __init__(self, users: Float32Array, items: Float32Array, seen: CSR) -> None:
        self.users, self.items, self.seen = users, items, seen
        self.first = rank(users, items, np.arange(len(users)), seen, _LISTED)
        self._log_total = np.empty(len(users), np.float32)
        indptr, indices = seen
        for part in chunks(len(users), 4 * len(items)):
            logits = users[part] @ items.T
            own = slice(indptr[part.start], indptr[part.start + len(logits)])
            rows = np.repeat(np.arange(len(logits)), np.diff(indptr[part.start : part.start + len(logits) + 1]))
            logits[rows, indices[own]] = _SEEN
            most = logits.max(axis=1)
            self._log_total[part] = most + np.log(np.exp(logits - most[:, np.newaxis]).sum(axis=1))

    def shares(self, listed: Int32Array, part: slice) -> Float32Array:
        """The parts of the softmax that unseen items [B, L] have with a slice of B users."""
        logits = np.matmul(self.items[listed], self.users[part][:, :, np.newaxis])[:, :, 0]
        shares: Float32Array = np.exp(np.minimum(logits - self._log_total[part, np.newaxis], 0))
        return shares


def _scores_that_decide(teacher: _Ranking, student: _Ranking) -> ListedScores:
    """The objective of a round: the first items of both rankings, weighted by both softmaxes."""
    listed = np.concatenate([teacher.first, student.first], axis=1)
    weights, rest = np.empty(listed.shape, np.float32), np.empty(len(listed), np.float32)
    for part in chunks(len(listed), 64 * listed.shape[1]):
        # An item that both list counts once, at its first place.
        items = listed[part]
        order = np.argsort(items, axis=1, kind="stable")
        ascending = np.take_along_axis(items, order, axis=1)
        again = np.zeros(items.shape, bool)
        np.put_along_axis(again, order[:, 1:], ascending[:, 1:] == ascending[:, :-1], axis=1)
        counts = (items >= 0) & ~again
        items[items < 0] = 0
        p, q = (np.where(counts, ranking.shares(items, part), 0) for ranking in (teacher, student))
        weights[part] = np.where(counts, divergence_weights(p, q), 0)
        rest[part] = np.maximum(1 - (p + q).sum(axis=1) / 2, _LEAST_REST) / len(teacher.items)
    return ListedScores(teacher.users, teacher.items, listed, weights, rest)
