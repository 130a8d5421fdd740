"""The factors of nodes."""

import numpy as np
import pytest

from tf_hqgnn.graph.degrees import degree_factor


@pytest.mark.parametrize(
    ("exponent", "expected"), [(0.5, [1, 1, 0.5, 0.1]), (0.0, [1, 1, 1, 1]), (1.0, [1, 1, 0.25, 0.01])]
)
def test_powers_of_degrees(exponent, expected):
    factor = degree_factor(np.array([0, 1, 4, 100], np.int32), exponent)
    assert factor.dtype == np.float64
    np.testing.assert_allclose(factor, expected, rtol=1e-15)
