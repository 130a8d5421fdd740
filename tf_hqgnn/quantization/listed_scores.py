"""Weighted least squares on the scores that decide rankings: the best items of each user, and all others together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tf_hqgnn.quantization.code_descent import RIDGE, descend_levels, with_constant
from tf_hqgnn.types import Float32Array, FloatArray, IntArray

# The arrays of a chunk of users or items need about so many bytes.
_CHUNK_BYTES = 1 << 26


def divergence_weights(teacher: FloatArray, student: FloatArray) -> Float32Array:
    """Weights with which least squares on logits has the gradient of the Kullback-Leibler divergence.

    With p and q the two softmaxes, l and m their logits up to a constant of each user, and

        w = (p - q) / (log p - log q),  the logarithmic mean of p and q,

    the gradient of `1/2 sum_i w_i (m_i - l_i)^2` with fixed w is `q - p`, as that of `KL(p | q)` is.

    Args:
      teacher: p, float, >= 0.
      student: q, likewise.

    Returns:
      float32, between p and q.

    Reference:
      Iteratively reweighted least squares; the weight for this divergence was derived for this project.

    Example:
      >>> [round(float(w), 4) for w in divergence_weights(np.array([0.5, 0.2]), np.array([0.5, 0.1]))]
      [0.5, 0.1443]
    """
    p, q = (np.maximum(np.asarray(share, np.float64), 1e-12) for share in (teacher, student))
    ratio = np.log(p / q)
    is_same = np.abs(ratio) < 1e-4
    mean: FloatArray = np.where(is_same, (p + q) / 2, (p - q) / np.where(is_same, 1.0, ratio))
    return mean.astype(np.float32)


@dataclass(frozen=True, eq=False)
class ListedScores:
    """What scores are fitted to: some items of each user with weights of their own, and one weight for every item.

    With t_ui = u.e_i the teacher's score, z_i what the code of an item stands for, v_u the user of the student and
    c_u a constant of the user, which changes no ranking, the objective is

        sum_u (sum_(i listed) w_ui (t_ui - v_u.z_i - c_u)^2 + a_u sum_i (t_ui - v_u.z_i - c_u)^2 + r (|v_u|^2 + c_u^2))

    with r a small ridge, `RIDGE` times the mean square of a column of z and 1, as the codes are when users are fitted.

    Args:
      users: u, float32 [U, d], the teacher's.
      items: e, float32 [I, d].
      listed: int [U, L], rows of items.
      weights: w, float32 [U, L], >= 0; 0 where there is no item.
      rest: a, float32 [U], > 0.
    """

    users: Float32Array
    items: Float32Array
    listed: IntArray
    weights: Float32Array
    rest: Float32Array

    def fit_users(self, decoded: Float32Array) -> tuple[Float32Array, Float32Array]:
        """The users and constants that are best for given codes, in closed form.

        Args:
          decoded: z, float32 [I, d].

        Returns:
          v, float32 [U, d], and c, float32 [U].
        """
        rows = with_constant(decoded)
        size = rows.shape[1]
        gram, cross = rows.T @ rows, self.items.T @ rows
        ridge = ridge_of(decoded) * np.eye(size, dtype=np.float32)
        fitted = np.empty((len(self.users), size), np.float32)
        for part in chunks(len(self.users), 4 * size * (2 * self.listed.shape[1] + size)):
            users, rest = self.users[part], self.rest[part, np.newaxis]
            chosen = rows[self.listed[part]]
            weighted = (chosen * self.weights[part][:, :, np.newaxis]).transpose(0, 2, 1)
            wanted = np.matmul(weighted, self._targets(part)[:, :, np.newaxis])[:, :, 0] + rest * (users @ cross)
            quadratic = np.matmul(weighted, chosen) + rest[:, :, np.newaxis] * gram + ridge
            fitted[part] = np.linalg.solve(quadratic, wanted[:, :, np.newaxis])[:, :, 0]
        return fitted[:, :-1], fitted[:, -1]

    def fit_items(
        self,
        users: Float32Array,
        constants: Float32Array,
        levels: Float32Array,
        scale: Float32Array,
        num_bits: int,
    ) -> tuple[Float32Array, Float32Array]:
        """Codes that are better for given users than those before, by `descend_levels`.

        Args:
          users: v, float32 [U, d].
          constants: c, float32 [U].
          levels: Of the codes before, float32 [I, d].
          scale: Likewise, float32 [I].
          num_bits: 1 to 8.

        Returns:
          New levels and scales.
        """
        num_items, dim = levels.shape
        weighted = users * self.rest[:, np.newaxis]
        gram = weighted.T @ users
        wanted = self.items @ (self.users.T @ weighted) - constants @ weighted
        # The entries of each item, one item after the other.
        places = np.flatnonzero(self.weights.ravel() > 0)
        places = places[np.argsort(self.listed.ravel()[places], kind="stable")]
        ends = np.cumsum(np.bincount(self.listed.ravel()[places], minlength=num_items))
        of_user = places // self.listed.shape[1]
        weights = self.weights.ravel()[places]
        targets = np.concatenate([self._targets(part) for part in chunks(len(users), 8 * dim * self.listed.shape[1])])
        targets = targets.ravel()[places] - constants[of_user]
        new_levels, new_scale = np.empty_like(levels), np.empty_like(scale)
        for part in chunks(num_items, 8 * dim * dim):
            grams = np.repeat(gram[np.newaxis], len(levels[part]), axis=0)
            for place, item in enumerate(range(part.start, part.start + len(grams))):
                own = slice(ends[item - 1] if item else 0, ends[item])
                rows = users[of_user[own]]
                scaled = rows * weights[own, np.newaxis]
                grams[place] += scaled.T @ rows
                wanted[item] += targets[own] @ scaled
            new_levels[part], new_scale[part] = descend_levels(levels[part], scale[part], grams, wanted[part], num_bits)
        return new_levels, new_scale

    def _targets(self, part: slice) -> Float32Array:
        """The teacher's scores of the listed items, float32 [users of the part, L]."""
        targets: Float32Array = np.matmul(self.items[self.listed[part]], self.users[part][:, :, np.newaxis])[:, :, 0]
        return targets


def ridge_of(decoded: Float32Array) -> np.float32:
    """The ridge of `ListedScores` for codes that stand for `decoded` [I, d]."""
    dim = decoded.shape[1]
    return np.float32(RIDGE * (np.square(decoded, dtype=np.float64).mean() * dim + 1) / (dim + 1))


def chunks(number: int, row_bytes: int) -> list[slice]:
    """Slices of `number` rows, each of as many rows as 64 MiB hold, and of one at least.

    Example:
      >>> chunks(3, 1 << 25)
      [slice(0, 2, None), slice(2, 3, None)]
    """
    size = max(1, _CHUNK_BYTES // row_bytes)
    return [slice(start, min(start + size, number)) for start in range(0, number, size)]
