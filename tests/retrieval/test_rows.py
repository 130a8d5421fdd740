import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tf_hqgnn.retrieval.rows import Float32Rows, Int8Rows, make_rows

RNG = np.random.default_rng(3)
VALUES = RNG.normal(size=(7, 5)).astype(np.float32) * RNG.uniform(0.01, 50, (7, 1)).astype(np.float32)
QUERIES = RNG.normal(size=(3, 5)).astype(np.float32)


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_all_products_agree_with_the_rows_that_the_table_holds(precision):
    rows = make_rows(VALUES, precision)
    held = rows.to_numpy()
    index = np.array([[0, 6, 6], [3, 2, 1], [5, 5, 0]], np.int32)
    unit = held / np.linalg.norm(held, axis=1, keepdims=True)
    for cosine, table in ((False, held), (True, unit)):
        expected = QUERIES @ table.T
        np.testing.assert_allclose(rows.score_all(QUERIES, cosine), expected, rtol=1e-4, atol=1e-5)
        at = rows.score_at(QUERIES, tf.constant(index), cosine)
        np.testing.assert_allclose(at, np.take_along_axis(expected, index, axis=1), rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(rows.gather(tf.constant(index)), held[index])
    assert (rows.num_rows, rows.embedding_dim) == VALUES.shape


def test_bytes_per_row_is_what_the_variables_take():
    for rows in (Float32Rows(VALUES), Int8Rows(VALUES)):
        assert rows.bytes_per_row * rows.num_rows == sum(v.numpy().nbytes for v in rows.variables)


def test_a_row_of_zeros_has_the_cosine_zero():
    for rows in (Float32Rows(np.zeros((2, 3))), Int8Rows(np.zeros((2, 3)))):
        assert rows.score_all(tf.ones([1, 3]), cosine=True).numpy().tolist() == [[0.0, 0.0]]


@settings(max_examples=60, deadline=None)
@given(
    hnp.arrays(
        np.float32,
        st.tuples(st.integers(1, 6), st.integers(1, 9)),
        elements=st.one_of(st.just(0.0), st.floats(-1e6, 1e6, width=32).filter(lambda x: abs(x) > 1e-6)),
    ),
    st.integers(0, 2**31),
)
def test_int8_scores_are_within_half_a_step_of_the_scale(values, seed):
    query = np.random.default_rng(seed).normal(size=(1, values.shape[1])).astype(np.float32)
    scale = np.abs(values).max(axis=1).astype(np.float64) / 127
    bound = np.abs(query).sum() * scale / 2
    error = np.abs(Int8Rows(values).score_all(query).numpy() - query.astype(np.float64) @ values.T.astype(np.float64))
    # On top, the rounding of float32 sums.
    assert (error <= bound * 1.001 + 1e-5 * np.abs(query).sum() * np.abs(values).max()).all()


def test_unknown_precision():
    with pytest.raises(ValueError, match="rows must be float32 or int8, got 'int4'"):
        make_rows(VALUES, "int4")
