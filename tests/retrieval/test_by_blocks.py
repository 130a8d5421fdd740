"""Exact search in two stages against scoring all at once: the same rows, the same ties."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tf_hqgnn.quantization.codes import Codes
from tf_hqgnn.retrieval.coded_rows import make_rows
from tf_hqgnn.retrieval.exact import ExactTopK
from tf_hqgnn.retrieval.filters import block_listed
from tf_hqgnn.retrieval.item_filter import ItemFilter
from tf_hqgnn.retrieval.queries import Queries
from tf_hqgnn.retrieval.stripes import Stripes

N, D = 64 * 50 + 7, 16
RNG = np.random.default_rng(3)
# Rows come in a dozen kinds: ties in and across blocks.
VALUES = RNG.normal(size=(12, D)).astype(np.float32)[RNG.integers(0, 12, N)]
VALUES[::5] = RNG.normal(size=(len(VALUES[::5]), D))
USERS = RNG.normal(size=(5, D)).astype(np.float32)
FILTERS = {
    "all": ItemFilter(N),
    "some": ItemFilter(N, RNG.random(N) < 0.5, np.array(["", "film", "rare"])[(RNG.random(N) * 2.02).astype(int)]),
}
KINDS = {
    "float32": (None, None, False),
    "8 bits": (8, 8, False),
    "1 bit": (1, 1, False),
    "1 bit, XLA": (1, 1, True),
    "2 bits, 8 bits, offsets, XLA": (2, 8, True),
    "4 bits, XLA": (4, 4, True),
    "4 bits, float32": (4, None, True),
}


pytestmark = pytest.mark.integration


def tables(item_bits, user_bits, by_blocks=True):
    def rows(values, bits, by_blocks):
        codes = values if bits is None else Codes.quantize(values, bits, symmetric=item_bits != 2)
        return make_rows(codes, by_blocks)

    return rows(VALUES, item_bits, by_blocks), rows(USERS, user_bits, False)


@pytest.fixture(scope="module", params=KINDS)
def searches(request):
    """`search(by_blocks, cosine)` of one kind of rows, as graphs."""
    item_bits, user_bits, jit_compile = KINDS[request.param]

    def make(by_blocks, cosine, name):
        items, users = tables(item_bits, user_bits, by_blocks)
        top_k = ExactTopK(items, jit_compile)

        @tf.function(
            input_signature=[
                tf.TensorSpec([None], tf.int32),
                tf.TensorSpec([], tf.int32),
                tf.TensorSpec([None, None], tf.int64),
                tf.TensorSpec([None], tf.string),
            ],
            autograph=False,
        )
        def search(user_index, k, listed, category):
            queries = users.queries(user_index)
            queries = queries.to_unit_length() if cosine else queries
            item_filter = FILTERS[name]
            blocked = block_listed(listed, N).within(item_filter, item_filter.wanted(category))
            return top_k.call(queries, k, blocked, cosine)

        return search

    both_coded = {"exact": item_bits is not None and user_bits is not None}
    choices = [(cosine, name) for cosine in (False, True) for name in FILTERS]
    return both_coded | {choice: (make(True, *choice), make(False, *choice)) for choice in choices}


@settings(max_examples=8, deadline=None)
@given(
    # Few sizes: XLA compiles every one of them.
    users=st.one_of(st.just([]), st.integers(0, 4).map(lambda user: [user]), st.permutations(range(5))),
    k=st.sampled_from([0, 1, 6, 100, N]),
    category=st.sampled_from(["", "", "film", "rare", "none"]),
    cosine=st.booleans(),
    name=st.sampled_from(list(FILTERS)),
    data=st.data(),
)
def test_blocks_find_what_scoring_all_rows_finds(searches, users, k, category, cosine, name, data):
    listed = data.draw(st.lists(st.integers(-1, N - 1), min_size=3, max_size=3))
    asked = np.array(users, np.int32), k, np.array([listed] * len(users), np.int64).reshape(len(users), 3)
    by_blocks, at_once = (
        search(*asked, np.array([category] * len(users), object)) for search in searches[cosine, name]
    )
    np.testing.assert_allclose(by_blocks[0], at_once[0], rtol=1e-5)
    found = at_once[0].numpy() > -np.inf
    # Of floats, equal rows need not get equal products: a tie may break either way. Codes are compared row by row.
    rows = [answer[1].numpy()[found] for answer in (by_blocks, at_once)]
    if searches["exact"]:
        assert rows[0].tolist() == rows[1].tolist()
    np.testing.assert_allclose(VALUES[rows[0]], VALUES[rows[1]])


def test_the_two_stages_are_taken():
    """At this size, or the test above would compare a thing with itself."""
    items, users = tables(1, 1)
    calls = []
    items.best_of_blocks = lambda *args: calls.append(args) or tf.zeros([1, N // 64])
    ExactTopK(items).call(users.queries(tf.constant([0])), tf.constant(6))
    assert len(calls) == 1
    ExactTopK(items).call(users.queries(tf.constant([0])), tf.constant(N))
    assert len(calls) == 1


@pytest.mark.parametrize("bits", [None, 1, 3, 8])
def test_best_of_blocks(bits):
    items, _ = tables(bits, None)
    allowed = tf.constant(RNG.random((1, N)) < 0.02)
    queries = Queries(tf.constant(USERS))
    scores = np.where(allowed.numpy(), items.score_all(queries).numpy(), -np.inf)[:, : N // 64 * 64]
    found = items.best_of_blocks(queries, False, allowed, False)
    np.testing.assert_allclose(found, scores.reshape(5, -1, 64).max(axis=2), rtol=1e-5, atol=1e-5)
    assert not np.isfinite(found).all()


@pytest.mark.parametrize("bits", [1, 2, 3, 8])
@pytest.mark.parametrize("dim", [16, 24, 64])
def test_the_order_in_which_rows_are_stored_is_not_seen(bits, dim):
    codes = Codes.quantize(RNG.normal(size=(64 * 3 + 5, dim)).astype(np.float32), bits)
    stored, plain = make_rows(codes, by_blocks=True), make_rows(codes, by_blocks=False)
    np.testing.assert_array_equal(stored.to_numpy(), codes.dequantize())
    assert stored.bytes_per_row == plain.bytes_per_row
    index = tf.constant([[0, 1, 64], [130, 191, 196]])
    np.testing.assert_array_equal(stored.gather(index), codes.dequantize()[index.numpy()])
    queries = plain.queries(tf.constant([3, 77]))
    np.testing.assert_array_equal(stored.score_all(queries), plain.score_all(queries))
    np.testing.assert_array_equal(stored.score_at(queries, index), plain.score_at(queries, index))
    own = stored.queries(tf.constant([3, 77]))
    np.testing.assert_array_equal(own.codes.codes, queries.codes.codes)


def test_rows_that_are_not_stored_by_blocks():
    rows = make_rows(Codes.quantize(VALUES, 1), by_blocks=False)
    with pytest.raises(ValueError, match="make the table with by_blocks=True"):
        rows.best_of_blocks(Queries(tf.constant(USERS)), False, None, False)


@pytest.mark.parametrize("size", [8, 64])
@pytest.mark.parametrize("n", [0, 63, 64, 200])
def test_stripes(n, size):
    stripes, values = Stripes(n, size), np.arange(2 * n).reshape(n, 2)
    stored = stripes.store(values)
    assert sorted(stored[:, 0]) == values[:, 0].tolist()
    np.testing.assert_array_equal(stripes.restore(stored), values)
    np.testing.assert_array_equal(stored[stripes.place(tf.range(n))], values)
    columns = stripes.store_columns(tf.constant(values.T))
    np.testing.assert_array_equal(columns, stored.T)
    np.testing.assert_array_equal(stripes.restore_columns(columns), values.T)
    blocks = stored[: n // size * size, 0].reshape(size, -1)
    assert (blocks // 2 // size == np.arange(n // size)).all()
