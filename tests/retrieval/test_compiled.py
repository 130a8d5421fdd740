"""A whole search compiled by XLA, the tables its arguments, against the same search as it is served."""

import numpy as np
import pytest
import tensorflow as tf

from tf_hqgnn.quantization.codes import Codes
from tf_hqgnn.retrieval.coded_rows import CodedRows, make_rows
from tf_hqgnn.retrieval.exact import ExactTopK
from tf_hqgnn.retrieval.filters import block_any, block_fixed, block_listed
from tf_hqgnn.retrieval.queries import Queries, QueryCodes
from tf_hqgnn.retrieval.rows import Float32Rows
from tf_hqgnn.retrieval.stored_codes import StoredCodes

N, D, K = 64 * 60 + 5, 64, 4
RNG = np.random.default_rng(5)
ITEMS = RNG.normal(size=(N, D)).astype(np.float32)
USERS = RNG.normal(size=(3, D)).astype(np.float32)


def excluded(search, batch):
    """The best item of each query, one that is far from the best, and a place without an item."""
    best = search(tf.fill([batch, 3], -1))[1][:, :1]
    return tf.concat([best, tf.fill([batch, 1], 17), tf.fill([batch, 1], -1)], axis=1)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("by_blocks", [True, False])
@pytest.mark.parametrize(
    ("bits", "query_bits", "fused"),
    [(8, 8, False), (4, 8, True), (4, 8, False), (1, 8, True), (1, 1, True), (1, 1, False)],
)
def test_codes(bits, query_bits, fused, by_blocks, batch):
    codes, asked = Codes.quantize(ITEMS, bits), Codes.quantize(USERS[:batch], query_bits)
    stored = StoredCodes.of(codes, by_blocks)
    query = (asked.unpack(), asked.scale.astype(np.float32))

    def search(table, blocked, k):
        queries = Queries.of_codes(QueryCodes(tf.constant(query[0]), query_bits, tf.constant(query[1]), None))
        return ExactTopK(table, fused).call(queries, k, blocked)

    served = make_rows(codes, by_blocks)
    listed = excluded(lambda listed: search(served, block_listed(tf.cast(listed, tf.int64), N), tf.constant(K)), batch)
    expected = search(served, block_listed(tf.cast(listed, tf.int64), N), tf.constant(K))

    @tf.function(jit_compile=True)
    def compiled(values, words, scale, listed):
        table = CodedRows(StoredCodes(N, D, bits, values, words, scale, None), by_blocks)
        return search(table, block_fixed(listed, N), tf.constant(K))

    values = None if stored.codes is None else tf.constant(stored.codes)
    words = [[tf.constant(word) for word in plane] for plane in stored.words]
    scores, items = compiled(values, words, tf.constant(stored.scale), listed)
    np.testing.assert_array_equal(items, expected[1])
    np.testing.assert_array_equal(scores, expected[0])
    assert not np.isin(items[0], listed[0]).any()


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("cosine", [False, True])
@pytest.mark.parametrize("by_blocks", [True, False])
def test_float32(by_blocks, cosine, batch):
    def search(table, blocked, k):
        return ExactTopK(table).call(Queries(tf.constant(USERS[:batch])), k, blocked, cosine)

    served = Float32Rows(ITEMS, by_blocks)
    listed = excluded(lambda listed: search(served, block_listed(tf.cast(listed, tf.int64), N), tf.constant(K)), batch)
    expected = search(served, block_listed(tf.cast(listed, tf.int64), N), tf.constant(K))
    compiled = tf.function(
        lambda values, listed: search(Float32Rows(values, by_blocks), block_fixed(listed, N), tf.constant(K)),
        jit_compile=True,
    )
    scores, items = compiled(tf.constant(ITEMS), listed)
    np.testing.assert_array_equal(items, expected[1])
    np.testing.assert_allclose(scores, expected[0], rtol=1e-5)


def test_fixed_lists_block_what_lists_block():
    listed = tf.constant([[5, 1, -1], [-1, -1, 0]])
    fixed, keyed = block_fixed(listed, 7), block_listed(tf.cast(listed, tf.int64), 7)
    everything, scores = tf.tile(tf.range(7)[tf.newaxis], [2, 1]), tf.random.normal([2, 7])
    np.testing.assert_array_equal(fixed.contains(everything), keyed.contains(everything))
    np.testing.assert_array_equal(fixed.mask_all(scores), keyed.mask_all(scores))
    np.testing.assert_array_equal(fixed.counts, keyed.counts)
    assert (fixed.most, keyed.most) == (3, None)
    both = block_any(fixed, block_fixed(tf.constant([[2], [-1]]), 7), keyed)
    assert both.most is None
    np.testing.assert_array_equal(both.contains(everything)[0], [False, True, True, False, False, True, False])


def test_a_search_deeper_than_the_catalogue_is_compiled_too():
    compiled = tf.function(
        lambda values, listed: ExactTopK(Float32Rows(values, True)).call(
            Queries(tf.constant(USERS)), tf.constant(N + 10), block_fixed(listed, N)
        ),
        jit_compile=True,
    )
    scores, items = compiled(tf.constant(ITEMS), tf.constant([[0], [1], [-1]]))
    np.testing.assert_array_equal(np.sort(items, axis=1), np.tile(np.arange(N), [3, 1]))
    assert np.isneginf(scores[:, -1]).tolist() == [True, True, False]
