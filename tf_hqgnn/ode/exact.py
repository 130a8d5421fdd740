"""The exact solution of dh/dt = A h + e as a power series, cut where its proven tail bound allows."""

from __future__ import annotations

import math

import numpy as np
import tensorflow as tf

from tf_hqgnn.graph.propagation import Adjacency, sparse_product
from tf_hqgnn.types import Float64Array

# exp(t1 * norm) overflows float32 from 88 on; far below that the answer is nothing but the first eigenvector.
_MAX_EXPONENT = 50.0


def series_coefficients(t1: float, tolerance: float, norm_bound: float = 1.0) -> Float64Array:
    """c_0..c_K with h(T) = sum_k c_k A^k e, and the fewest of them that keep the relative error within `tolerance`.

    Derivation: with h(0) = e the solution is h(T) = exp(T A) e + integral_0^T exp(s A) e ds. Both exponentials are
    power series in A that converge everywhere, so term by term

        h(T) = sum_k c_k A^k e,    c_k = T^k / k! + T^(k+1) / (k+1)!.

    Bound: |A^k e|_F <= |A|_2^k |e|_F, all c_k are >= 0, so cutting after A^K leaves at most

        |error|_F / |e|_F <= sum_(k>K) c_k L^k    for any L >= |A|_2.

    |A|_2 <= 1 for the symmetric normalisation: x^T (I -+ A) x = sum_edges (x_u/sqrt(d_u) -+ x_i/sqrt(d_i))^2 plus the
    squares of nodes without an edge, which is never negative, so every eigenvalue is in [-1, 1].
    The bound holds with equality in the limit where e is A's first eigenvector, so no smaller K is safe for every e.

    The tail is computed without cancellation: all terms are positive and summed from the smallest up. What follows the
    last one computed, c_M, is at most c_M L^M q / (1 - q) with q = T L / (M + 1) < 1, since c_(k+1) / c_k < T / (k+1).

    Args:
      t1: T >= 0.
      tolerance: Of the Frobenius norm of the truncation error divided by that of e, > 0. The rounding of the dtype in
        which the sum is then made comes on top: some 1e-7 of the norm of the solution in float32.
      norm_bound: L.

    Returns:
      float64 [K + 1]; K is the number of sparse products.

    Raises:
      ValueError: `t1` is negative, not finite or with `norm_bound` too large, or `tolerance` isn't positive.

    Reference:
      The ODE is LightGODE's (arXiv 2407.18910); series and bound are this project's.

    Example:
      >>> [len(series_coefficients(t1, tolerance=1e-6)) - 1 for t1 in (0.8, 1.8, 3.0)]
      [8, 12, 16]
    """
    if not (math.isfinite(t1) and t1 >= 0):
        raise ValueError(f"t1 must be a finite number from 0 on, got {t1}")
    if not (math.isfinite(tolerance) and tolerance > 0):
        raise ValueError(f"tolerance must be a finite number above 0, got {tolerance}")
    growth = t1 * norm_bound
    if not growth <= _MAX_EXPONENT:
        raise ValueError(
            f"t1 times the norm bound of the adjacency is {growth:.3g}, at most {_MAX_EXPONENT:g} can be solved; "
            "lower t1, or use a degree exponent of 1/2 or more"
        )
    powers = [1.0]  # (T L)^k / k!, which can't overflow while T^k / k! and L^k might
    while len(powers) <= 2 * growth + 2 or powers[-1] > 1e-9 * tolerance:
        powers.append(powers[-1] * growth / len(powers))
    tails = np.array(powers) * (1 + t1 / np.arange(1, len(powers) + 1))  # c_k L^k
    q = growth / len(tails)
    terms = np.append(tails, tails[-1] * q / (1 - q))
    # after[K] is the bound when A^K is the last term kept; the factor covers float64's rounding of the sum itself.
    after = np.cumsum(terms[::-1])[::-1][1:] * (1 + 1e-12)
    num_products = int(np.argmax(after <= tolerance))
    factors = t1 / np.arange(1, num_products + 2)  # T^(k+1) / (k+1)! is the product of the first k + 1
    powers_of_t1: Float64Array = np.cumprod(np.append(1.0, factors))
    return powers_of_t1[:-1] + powers_of_t1[1:]


def solve_exact(adjacency: Adjacency, e: tf.Tensor, t1: float, tolerance: float) -> tf.Tensor:
    """h(t1), [n, d], of dh/dt = A h + e with h(0) = `e`; see `series_coefficients` for the bound and what is raised.

    The sum is made by Horner's rule: one product a term, one matrix besides `e`, and the smallest terms come first.
    """
    coefficients = series_coefficients(t1, tolerance, adjacency.norm_bound)
    h = tf.cast(coefficients[-1], e.dtype) * e
    for coefficient in coefficients[-2::-1]:
        h = sparse_product(adjacency, h) + tf.cast(coefficient, e.dtype) * e
    return h
