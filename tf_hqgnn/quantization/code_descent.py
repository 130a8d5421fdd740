"""Codes by discrete least squares: coordinate descent on levels, and the codes that fit all scores of two tables."""

from __future__ import annotations

import numpy as np

from tf_hqgnn.quantization.ranges import CLIPPING
from tf_hqgnn.quantization.rotation import coding_rotation
from tf_hqgnn.types import Float32Array, FloatArray

# Relative to the mean square of a column: keeps least squares solvable where codes don't span all dimensions.
RIDGE = 1e-3


def nearest_levels(values: FloatArray, num_bits: int) -> Float32Array:
    """Round values to the nearest of the 2^b levels that are equally spaced from -1 to 1; halfway to the upper one.

    Args:
      values: float, of any shape.
      num_bits: b, at least 1.

    Example:
      >>> nearest_levels(np.array([-3.0, -0.1, 0.0, 0.8]), num_bits=1).tolist()
      [-1.0, -1.0, 1.0, 1.0]
    """
    finest = np.float32(2**num_bits - 1)
    codes = np.clip(np.floor((values + 1) * (finest / 2) + np.float32(0.5)), 0, finest)
    rounded: Float32Array = ((2 * codes - finest) / finest).astype(np.float32)
    return rounded


def descend_levels(
    levels: Float32Array,
    scale: Float32Array,
    gram: Float32Array,
    wanted: Float32Array,
    num_bits: int,
    num_sweeps: int = 3,
) -> tuple[Float32Array, Float32Array]:
    """Lower a quadratic objective of each row's levels and scale, one coordinate after the other.

    The objective of a row with levels b and scale s is that of least squares without its constant:

        f(b, s) = s^2 b' H b - 2 s b' p

    A sweep sets each b_k to the level nearest to (p_k - s sum_(l != k) H_kl b_l) / (s H_kk), where f is least with all
    else fixed, and then s to b'p / b'Hb, with the signs of a row turned around if that is negative. No step raises f.

    Args:
      levels: b, float32 [n, d], levels of `num_bits` as by `nearest_levels`.
      scale: s, float32 [n], >= 0.
      gram: H, positive semidefinite: float32 [d, d] of all rows, or [n, d, d].
      wanted: p, float32 [n, d].
      num_bits: 1 to 8.
      num_sweeps: The most sweeps; they end when nothing changes.

    Returns:
      New levels and scales.

    Reference:
      The discrete coordinate descent of Shen et al., CVPR 2015 (Supervised Discrete Hashing), and of Zhang et al.,
      SIGIR 2016 (Discrete Collaborative Filtering); more than two levels and the scales are ours.

    Example:
      >>> gram, wanted = np.eye(2, dtype=np.float32), np.array([[3.0, -1.0]], np.float32)
      >>> levels, scale = descend_levels(np.ones([1, 2], np.float32), np.ones(1, np.float32), gram, wanted, num_bits=1)
      >>> levels.tolist(), scale.tolist()
      ([[1.0, -1.0]], [2.0])
    """
    levels, scale = levels.copy(), scale.copy()
    shared = gram.ndim == 2
    smallest = np.float32(1e-20)
    for _ in range(num_sweeps):
        before = levels.copy()
        for column in range(levels.shape[1]):
            row = gram[column] if shared else gram[:, column]
            own = row[..., column]
            products = levels @ row if shared else np.einsum("nd,nd->n", levels, row)
            rest = wanted[:, column] - scale * (products - own * levels[:, column])
            levels[:, column] = nearest_levels(rest / np.maximum(scale * own, smallest), num_bits)
        products = levels @ gram if shared else np.matmul(gram, levels[:, :, np.newaxis])[:, :, 0]
        square, fit = np.einsum("nd,nd->n", levels, products), np.einsum("nd,nd->n", levels, wanted)
        levels[fit < 0] *= -1
        scale = np.where(square > smallest, np.abs(fit) / np.maximum(square, smallest), scale)
        if np.array_equal(before, levels):
            break
    return levels, scale


def fit_all_scores(
    users: Float32Array, items: Float32Array, num_bits: int, seed: int, num_iterations: int = 30
) -> tuple[Float32Array, Float32Array, Float32Array]:
    """Codes and users whose scores come close to those of two tables, up to a constant for each user.

        minimise  sum_u sum_i (u.e_i - v_u.(s_i b_i) - c_u)^2  over levels b, scales s, users v and constants c

    A constant changes no ranking. Users follow in closed form and are linear in u, so an iteration costs products of
    [d, d] matrices only; items follow by `descend_levels`. It starts from the signs of `coding_rotation`. Unlike
    a rotation, users that are fitted can weigh columns: directions that the scores depend on get more of the bits.

    Args:
      users: u, float32 [U, d].
      items: e, float32 [I, d].
      num_bits: 1 to 4.
      seed: Of the rotation.
      num_iterations: >= 0.

    Returns:
      Users float32 [U, d], levels float32 [I, d] and scales float32 [I].

    Reference:
      Asymmetric hashing (Jiang and Li, AAAI 2018: only one side is discrete), with the scores of a trained model as
      the target, scales and constants, which are ours.

    Example:
      >>> items = np.array([[1.0, 2.0], [-1.0, -2.0], [1.0, -2.0]], np.float32)
      >>> users, levels, scale = fit_all_scores(np.eye(2, dtype=np.float32), items, num_bits=1, seed=0)
      >>> scores = users @ (scale[:, np.newaxis] * levels).T
      >>> np.ptp(scores, axis=1).round(2).tolist()  # as those of the items, 1, -1, 1 and 2, -2, -2
      [2.0, 4.0]
    """
    rotated = (items - items.mean(axis=0)) @ coding_rotation(items - items.mean(axis=0), seed)
    if num_bits == 1:
        scale = np.abs(rotated).mean(axis=1)
    else:
        scale = CLIPPING[num_bits] * np.sqrt(np.square(rotated).mean(axis=1))
    levels = nearest_levels(rotated / np.maximum(scale, np.float32(1e-20))[:, np.newaxis], num_bits)
    covariance = users.T @ users / np.float32(len(users))
    for _ in range(num_iterations):
        fit = _linear_fit(items, levels, scale)
        weighted = fit[:-1] @ covariance
        levels, scale = descend_levels(levels, scale, weighted @ fit[:-1].T, (items - fit[-1]) @ weighted.T, num_bits)
    return users @ _linear_fit(items, levels, scale)[:-1].T, levels, scale


def _linear_fit(items: Float32Array, levels: Float32Array, scale: Float32Array) -> Float32Array:
    """The rows that items are nearest to a sum of, weighted by their decoded values and 1: float32 [d + 1, d]."""
    decoded = with_constant(scale[:, np.newaxis] * levels)
    gram = decoded.T @ decoded
    gram += RIDGE * np.trace(gram) / len(gram) * np.eye(len(gram), dtype=np.float32)
    fit: Float32Array = np.linalg.solve(gram, decoded.T @ items)
    return fit


def with_constant(rows: Float32Array) -> Float32Array:
    """The rows [n, d] with a column of ones after their last."""
    return np.concatenate([rows, np.ones((len(rows), 1), np.float32)], axis=1)
