"""The distinct rows of a batch in a fixed shape: what `tf.unique` finds, in another order."""

import numpy as np
import pytest
import tensorflow as tf

from tf_hqgnn.graph.unique_rows import unique_rows


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("index", [[5], [3, 3, 3], [4, 0, 2, 0, 4, 9], list(range(20, 0, -1))])
def test_finds_the_distinct_rows(index, jit_compile):
    rows, place, count = tf.function(unique_rows, jit_compile=jit_compile)(tf.constant(index))
    distinct, inverse = np.unique(index, return_inverse=True)
    assert rows.shape == place.shape == (len(index),)
    assert int(count) == len(distinct)
    np.testing.assert_array_equal(rows[: len(distinct)], distinct)
    np.testing.assert_array_equal(rows[len(distinct) :], distinct[0])
    np.testing.assert_array_equal(place, inverse)


def test_no_rows_are_none():
    rows, place, count = unique_rows(tf.zeros([0], tf.int32))
    assert rows.shape == place.shape == (0,)
    assert int(count) == 0
