"""Exact search in two stages against scoring all at once: the same rows, the same ties."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tf_hqgnn.quantization.codes import Codes
from tf_hqgnn.retrieval import exact
from tf_hqgnn.retrieval.coded_rows import make_rows
from tf_hqgnn.retrieval.filters import ItemFilter, block_listed
from tf_hqgnn.retrieval.queries import Queries

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
    "4 bits, float32": (4, None, True),
}


def tables(item_bits, user_bits):
    def rows(values, bits):
        return make_rows(values if bits is None else Codes.quantize(values, bits, symmetric=item_bits != 2))

    return rows(VALUES, item_bits), rows(USERS, user_bits)


@pytest.fixture(scope="module", params=KINDS)
def searches(request):
    """`search(by_blocks, cosine)` of one kind of rows, as graphs."""
    item_bits, user_bits, jit_compile = KINDS[request.param]
    items, users = tables(item_bits, user_bits)

    def make(by_blocks, cosine, name):
        top_k = exact.ExactTopK(items, jit_compile)

        @tf.function(
            input_signature=[
                tf.TensorSpec([None], tf.int32),
                tf.TensorSpec([], tf.int32),
                tf.TensorSpec([None, None], tf.int64),
                tf.TensorSpec([None], tf.string),
            ]
        )
        def search(user_index, k, listed, category):
            queries = users.queries(user_index)
            queries = queries.to_unit_length() if cosine else queries
            item_filter = FILTERS[name]
            blocked = block_listed(listed, N).within(item_filter, item_filter.wanted(category))
            return top_k.call(queries, k, blocked, cosine)

        before, exact.BY_BLOCKS_FROM = exact.BY_BLOCKS_FROM, 1 if by_blocks else N + 1
        try:
            search.get_concrete_function()
        finally:
            exact.BY_BLOCKS_FROM = before
        return search

    both_coded = {"exact": item_bits is not None and user_bits is not None}
    choices = [(cosine, name) for cosine in (False, True) for name in FILTERS]
    return both_coded | {choice: (make(True, *choice), make(False, *choice)) for choice in choices}


@settings(max_examples=20, deadline=None)
@given(
    users=st.lists(st.integers(0, 4), max_size=5),
    k=st.sampled_from([0, 1, 3, 6, 100, N]),
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
    before, exact.BY_BLOCKS_FROM = exact.BY_BLOCKS_FROM, 1
    try:
        exact.ExactTopK(items).call(users.queries(tf.constant([0])), tf.constant(6))
        assert len(calls) == 1
        exact.ExactTopK(items).call(users.queries(tf.constant([0])), tf.constant(N))
        assert len(calls) == 1
    finally:
        exact.BY_BLOCKS_FROM = before


@pytest.mark.parametrize("bits", [None, 1, 3, 8])
def test_best_of_blocks(bits):
    items, _ = tables(bits, None)
    allowed = tf.constant(RNG.random((1, N)) < 0.02)
    queries = Queries(tf.constant(USERS))
    scores = np.where(allowed.numpy(), items.score_all(queries).numpy(), -np.inf)[:, : N // 64 * 64]
    found = items.best_of_blocks(queries, 64, False, allowed, False)
    np.testing.assert_allclose(found, scores.reshape(5, -1, 64).max(axis=2), rtol=1e-5, atol=1e-5)
    assert not np.isfinite(found).all()
