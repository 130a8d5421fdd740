"""Rows and codes that score closer to the rows: a rotation of both tables, fitted users, and fitted scales of items."""

from __future__ import annotations

import numpy as np

from tf_hqgnn.graph.unit_rows import unit_rows
from tf_hqgnn.types import Float32Array, FloatArray


def coding_rotation(rows: FloatArray, seed: int, num_iterations: int = 40) -> Float32Array:
    """A rotation R after which the signs of rows, each with a scale of its own, come close to the rows.

    Alternates, from a random rotation, between the codes for R and R for the codes (an orthogonal Procrustes problem):

        B = s sign(X R),  s = mean |X R| of each row;    R = U W',  U S W' = X' B (its singular value decomposition)

    with X the rows scaled to unit length, so that the norms (popularity) don't decide. Scores don't change where users
    and items are rotated alike. It serves up to about 4 bits; finer codes have little to gain from it.

    Args:
      rows: float [n, d], finite.
      seed: Of the rotation that it starts from.
      num_iterations: >= 0; 0 leaves the random rotation.

    Returns:
      float32 [d, d], orthogonal.

    Reference:
      Gong and Lazebnik, CVPR 2011 (ITQ); the scale per row is ours.

    Example:
      >>> tilted = np.array([[1.0, 0.0], [0.0, 1.0]])  # an axis is the worst case: one sign is made up
      >>> np.abs(tilted @ coding_rotation(tilted, seed=0)).round(3).tolist()
      [[0.707, 0.707], [0.707, 0.707]]
    """
    rows = np.asarray(rows, np.float32)
    dim = rows.shape[1]
    rotation = np.linalg.qr(np.random.default_rng(seed).normal(size=(dim, dim)))[0].astype(np.float32)
    unit = unit_rows(rows)
    for _ in range(num_iterations):
        rotated = unit @ rotation
        codes = np.copysign(np.abs(rotated).mean(axis=1, keepdims=True), rotated)
        left, _, right = np.linalg.svd((unit.T @ codes).astype(np.float64))
        rotation = (left @ right).astype(np.float32)
    return rotation


def refit_users(users: FloatArray, items: FloatArray, coded_items: FloatArray) -> Float32Array:
    """Users whose scores with coded items are nearest to their scores with the items.

        U* = argmin |U* B' - U V'|^2 = U V' B (B' B)^-1

    with a ridge of 1e-4 of the mean eigenvalue of B' B, since codes of few items may not span all dimensions.

    Args:
      users: float [U, d].
      items: V, float [I, d].
      coded_items: B, float [I, d], what the codes of the items stand for.

    Returns:
      float32 [U, d].

    Example:
      >>> refit_users(np.ones([1, 2]), np.eye(2), 2 * np.eye(2)).round(3).tolist()
      [[0.5, 0.5]]
    """
    coded = np.asarray(coded_items, np.float64)
    gram = coded.T @ coded
    dim = len(gram)
    ridge = max(1e-4 * np.trace(gram) / dim, np.finfo(np.float32).tiny)
    fit = np.linalg.solve(gram + ridge * np.eye(dim), coded.T @ np.asarray(items, np.float64))
    return (np.asarray(users, np.float64) @ fit.T).astype(np.float32)


def fit_scales(users: FloatArray, items: FloatArray, coded_users: FloatArray, coded_items: FloatArray) -> Float32Array:
    """By what each coded item is multiplied, so that its scores come closest to those of the item.

        f_i = argmin_f |f B c_i - U v_i|^2 = (B c_i).(U v_i) / |B c_i|^2

    with B the coded users, c_i the coded item, U and v_i what was coded.

    Args:
      users: U, float [U, d].
      items: rows v_i, float [I, d].
      coded_users: B, float [U, d'].
      coded_items: rows c_i, float [I, d'].

    Returns:
      float32 [I], >= 0; 1 where a coded item scores 0 with everyone.

    Example:
      >>> fit_scales(np.eye(2), np.array([[2.0, 4.0]]), np.eye(2), np.array([[1.0, 1.0]])).tolist()
      [3.0]
    """
    users, items, coded_users, coded_items = (
        np.asarray(table, np.float64) for table in (users, items, coded_users, coded_items)
    )
    wanted = np.einsum("id,de,ie->i", coded_items, coded_users.T @ users, items, optimize=True)
    got = np.einsum("id,de,ie->i", coded_items, coded_users.T @ coded_users, coded_items, optimize=True)
    factor: FloatArray = np.where(got > 0, np.maximum(wanted, 0.0) / np.where(got > 0, got, 1.0), 1.0)
    return factor.astype(np.float32)
