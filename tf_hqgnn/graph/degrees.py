"""What the degrees of nodes scale a graph's edges by. NumPy only."""

from __future__ import annotations

import numpy as np

from tf_hqgnn.types import Float64Array, IntArray


def degree_factor(degree: IntArray | Float64Array, exponent: float = 0.5) -> Float64Array:
    """`degree^-exponent` of each node: an edge's entry of the normalised adjacency is the product of its ends' factors.

    Args:
      degree: [n], how many edges each node has, or the sum of their weights; 0 counts as 1, since there is no edge to
        scale.
      exponent: p; 1/2 is the symmetric normalisation.

    Returns:
      float64 [n].

    Example:
      >>> degree_factor(np.array([4, 1, 0])).tolist()
      [0.5, 1.0, 1.0]
    """
    scaled: Float64Array = np.where(degree > 0, degree, 1).astype(np.float64) ** -exponent
    return scaled
