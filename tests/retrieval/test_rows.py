import numpy as np
import pytest
import tensorflow as tf

from tf_hqgnn.quantization.codes import Codes
from tf_hqgnn.retrieval.coded_rows import CodedRows, make_rows
from tf_hqgnn.retrieval.queries import Queries
from tf_hqgnn.retrieval.rows import Float32Rows

RNG = np.random.default_rng(3)
VALUES = RNG.normal(size=(7, 5)).astype(np.float32) * RNG.uniform(0.01, 50, (7, 1)).astype(np.float32)
QUERIES = RNG.normal(size=(3, 5)).astype(np.float32)


@pytest.mark.parametrize(
    "values", [VALUES, Codes.quantize(VALUES, 8), Codes.quantize(VALUES, 3, symmetric=False)], ids=["float32", "8", "3"]
)
def test_all_products_with_floats_agree_with_the_rows_that_the_table_holds(values):
    rows, queries = make_rows(values), Queries(tf.constant(QUERIES))
    held = rows.to_numpy()
    index = np.array([[0, 6, 6], [3, 2, 1], [5, 5, 0]], np.int32)
    unit = held / np.linalg.norm(held, axis=1, keepdims=True)
    for cosine, table in ((False, held), (True, unit)):
        expected = QUERIES @ table.T
        np.testing.assert_allclose(rows.score_all(queries, cosine), expected, rtol=1e-4, atol=1e-4)
        at = rows.score_at(queries, tf.constant(index), cosine)
        np.testing.assert_allclose(at, np.take_along_axis(expected, index, axis=1), rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(rows.gather(tf.constant(index)), held[index])
    np.testing.assert_array_equal(rows.queries(tf.constant([4, 4, 1])).rows, held[[4, 4, 1]])
    assert (rows.num_rows, rows.embedding_dim) == VALUES.shape


def test_a_table_is_of_what_it_is_made_of():
    assert (make_rows(VALUES).num_bits, make_rows(Codes.quantize(VALUES, 5)).num_bits) == (None, 5)
    assert (type(make_rows(VALUES)), type(make_rows(Codes.quantize(VALUES, 5)))) == (Float32Rows, CodedRows)


def test_bytes_per_row_is_what_the_variables_take():
    rows = Float32Rows(VALUES)
    assert rows.bytes_per_row * rows.num_rows == sum(v.numpy().nbytes for v in rows.variables)


def test_a_row_of_zeros_has_the_cosine_zero():
    queries = Queries(tf.ones([1, 3]))
    for values in (np.zeros((2, 3), np.float32), Codes.quantize(np.zeros((2, 3)), 2)):
        rows = make_rows(values)
        assert rows.score_all(queries, cosine=True).numpy().tolist() == [[0.0, 0.0]]
        zeros = rows.queries(tf.constant([1])).to_unit_length()
        assert rows.score_all(zeros, cosine=True).numpy().tolist() == [[0.0, 0.0]]
