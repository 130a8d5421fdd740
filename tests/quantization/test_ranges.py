"""The ranges of rows, worked out one row at a time; the same for arrays and for tensors, which have gradients."""

import math

import numpy as np
import pytest
import tensorflow as tf

from tf_hqgnn.quantization.ranges import row_ranges

# Max, IRE Trans. Information Theory 1960, table II: half the range of 4, 8 and 16 equally spaced levels.
SIGMAS = {2: 1.494, 3: 2.051, 4: 2.514}


def range_of(row, num_bits, symmetric):
    row = [float(value) for value in row]
    middle = 0.0 if symmetric else sum(row) / len(row)
    least, most = (-max(map(abs, row)), max(map(abs, row))) if symmetric else (min(row), max(row))
    if num_bits > 4:
        return least, most
    if num_bits == 1:
        reach = sum(abs(value - middle) for value in row) / len(row)
    else:
        reach = SIGMAS[num_bits] * math.sqrt(sum((value - middle) ** 2 for value in row) / len(row))
    return max(least, middle - reach), min(most, middle + reach)


@pytest.mark.parametrize("kind", [np.asarray, tf.constant])
@pytest.mark.parametrize("num_bits", range(1, 9))
@pytest.mark.parametrize("symmetric", [True, False])
def test_the_range_of_each_row(kind, num_bits, symmetric):
    rows = np.random.default_rng(num_bits).standard_t(3, size=(50, 24)).astype(np.float32)
    rows[0] = 0.0
    rows[1] = 0.7
    ends = row_ranges(kind(rows), num_bits, symmetric)
    expected = np.array([range_of(row, num_bits, symmetric) for row in rows])
    for got, end in zip(ends, expected.T):
        assert isinstance(got, type(kind(rows)))
        assert got.shape == (50, 1)
        assert got.dtype == np.float32
        np.testing.assert_allclose(got[:, 0], end, rtol=1e-5, atol=1e-6)


def test_the_gradient_of_one_bit_is_that_of_the_mean_magnitude():
    rows = tf.constant([[1.0, -3.0, 0.5, 2.0]])
    with tf.GradientTape() as tape:
        tape.watch(rows)
        upper = row_ranges(rows, 1, symmetric=True)[1]
    np.testing.assert_allclose(tape.gradient(upper, rows), [[0.25, -0.25, 0.25, 0.25]])
