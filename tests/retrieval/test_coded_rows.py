"""Scores from codes against arithmetic that doesn't round."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from retrieval.exact_scores import exact_cosines, exact_scores, ranking, rounded

from tf_hqgnn.quantization.codes import Codes
from tf_hqgnn.quantization.packing import pack, to_bit_planes
from tf_hqgnn.retrieval import coded_rows
from tf_hqgnn.retrieval.bit_planes import PlaneBlock, pack_words, unpack_planes, unpack_words, word_bytes
from tf_hqgnn.retrieval.blocks import over_blocks
from tf_hqgnn.retrieval.coded_rows import CodedRows
from tf_hqgnn.retrieval.coded_scores import CodeBlock, QueryTerms
from tf_hqgnn.retrieval.queries import Queries

BITS = st.integers(1, 8)
DIMS = st.sampled_from([1, 3, 8, 13, 16, 24, 32, 33, 64, 128])


@st.composite
def some_codes(draw, num_bits, dim, num_rows):
    """Any codes of that size; scales with full mantissas, some 0, of the rows or shared, with offsets or not."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    values = rng.integers(0, 2**num_bits, (num_rows, dim)).astype(np.uint8)
    if draw(st.booleans()):  # twins
        values[1::2] = values[: len(values[1::2])]
    shape = draw(st.sampled_from([num_rows, 1]))
    scale = rng.uniform(0.25, 4, shape) * (rng.random(shape) > draw(st.sampled_from([0, 0.2])))
    offset = rng.uniform(-4, 4, shape).astype(np.float16) if draw(st.booleans()) else None
    return Codes(pack(values, num_bits), scale.astype(np.float16), offset, num_bits, dim)


@st.composite
def sides(draw):
    """`(users, items)` of one dimension, with any bits each."""
    dim = draw(DIMS)
    users = draw(some_codes(draw(BITS), dim, num_rows=5))
    return users, draw(some_codes(draw(BITS), dim, num_rows=draw(st.sampled_from([1, 6, 11]))))


@settings(max_examples=80, deadline=None)
@given(sides(), st.sampled_from([1, 3, 20]))
def test_scores_are_exact_products_rounded_once(both, batch):
    users, items = both
    table, index = CodedRows(items), np.arange(batch) % 5
    queries = CodedRows(users).queries(tf.constant(index))
    scores = table.score_all(queries).numpy()
    expected = np.array([[rounded(score) for score in exact_scores(users, items, row)] for row in index])
    np.testing.assert_array_equal(scores, expected)
    # So they rank as they should, where ties go to the lower row.
    order = tf.math.top_k(scores, len(items)).indices.numpy()
    assert order.tolist() == [ranking(row) for row in expected]
    everything = np.tile(np.arange(len(items)), (batch, 1))
    np.testing.assert_array_equal(table.score_at(queries, tf.constant(everything)), expected)


@settings(max_examples=40, deadline=None)
@given(sides())
def test_cosines_are_those_of_the_stored_rows(both):
    users, items = both
    table, index = CodedRows(items), tf.range(5)
    queries = CodedRows(users).queries(index).to_unit_length()
    expected = np.array([exact_cosines(items, row, users) for row in range(5)], float)
    np.testing.assert_allclose(table.score_all(queries, cosine=True), expected, rtol=1e-6, atol=1e-6)
    everything = tf.tile(tf.range(len(items))[None], [5, 1])
    np.testing.assert_allclose(table.score_at(queries, everything, cosine=True), expected, rtol=1e-6, atol=1e-6)
    # Rows of one direction tie, whatever their scale is.
    for row, exact in zip(table.score_all(queries, cosine=True).numpy(), expected):
        twins = exact[:, None] == exact
        assert (np.abs(row[:, None] - row)[twins] <= 2 * np.spacing(np.float32(1))).all()


@settings(max_examples=40, deadline=None)
@given(sides())
def test_float_queries_over_codes(both):
    users, items = both
    rows = users.dequantize()
    scores = CodedRows(items).score_all(Queries(tf.constant(rows))).numpy()
    expected = rows.astype(float) @ items.dequantize().astype(float).T
    bound = np.abs(rows).sum(axis=1, keepdims=True) * 8  # |q|_1 times the largest value of a row
    assert (np.abs(scores - expected) <= 1e-6 * bound).all()


@settings(max_examples=60, deadline=None)
@given(sides())
def test_both_ways_to_the_integers_agree(both):
    users, items = both
    query = QueryTerms.of(CodedRows(users).queries(tf.range(5)))
    levels, asked = (2 * codes.unpack().astype(int) - (2**codes.num_bits - 1) for codes in (items, users))
    planes = PlaneBlock(pack_words(items.unpack(), items.num_bits), items.dim)
    codes = coded_rows.CodeBlock(tf.constant(items.unpack()), 2**items.num_bits - 1)
    fused = PlaneBlock(planes.words, items.dim, fused=True)
    for block in (planes, fused, codes):
        np.testing.assert_array_equal(block.inner(query), asked @ levels.T)
        np.testing.assert_array_equal(block.sums(tf.float64), levels.sum(axis=1)[None])
        np.testing.assert_array_equal(block.squares(tf.float64), (levels**2).sum(axis=1)[None])


def test_bit_planes_multiply_codes_only():
    block = PlaneBlock(pack_words(np.zeros((2, 3), np.uint8), 1), 3)
    with pytest.raises(ValueError, match="bit planes multiply codes, but the queries are floats: score them"):
        block.inner(QueryTerms.of(Queries(tf.ones([1, 3]))))


@pytest.mark.parametrize("dim", [259, 600])
def test_products_beyond_the_integers_of_float32(dim):
    """All codes at their highest: the sum exceeds 2^24 and is odd."""
    highest = Codes(np.full((2, dim), 255, np.uint8), np.array([1, 2], np.float16), None, 8, dim)
    low = np.full((2, dim), 255, np.uint8)
    low[:, 0] = 127
    users = Codes(low, np.ones(1, np.float16), None, 8, dim)
    scores = CodedRows(highest).score_all(CodedRows(users).queries(tf.constant([0])))
    assert scores.numpy().tolist() == [[rounded(score) for score in exact_scores(users, highest, 0)]]
    inner = coded_rows.CodeBlock(tf.constant(highest.packed), 255).inner(
        QueryTerms.of(CodedRows(users).queries(tf.constant([0])))
    )
    assert inner.numpy().tolist() == [[255 * 255 * (dim - 1) - 255] * 2]


@pytest.mark.parametrize("dim", [3, 258, 259])
def test_lengths_are_exact_and_take_no_float64_of_all_codes_where_float32_will_do(dim):
    """A cosine needs them of every item: in float64 they took most of the time of `similar_items`."""
    codes = np.stack([np.full(dim, 255), np.zeros(dim), np.arange(dim) % 256, np.arange(dim)[::-1] * 7 % 256])
    block = CodeBlock(tf.constant(codes.astype(np.uint8)), 255)
    levels = 2 * codes.astype(int) - 255
    assert block.squares(tf.float64).numpy().tolist() == [(levels**2).sum(axis=1).tolist()]
    assert block.sums(tf.float64).numpy().tolist() == [levels.sum(axis=1).tolist()]
    with tf.Graph().as_default() as graph:
        CodeBlock(tf.zeros([4, dim], tf.uint8), 255).squares(tf.float64)
    wide = {one.dtype for node in graph.get_operations() for one in node.outputs if one.shape[-1:] == [dim]}
    assert (tf.float64 in wide) == (dim * 255**2 >= 2**24)


@settings(max_examples=60, deadline=None)
@given(sides())
def test_a_table_holds_its_codes_and_no_more(both):
    for codes in both:
        table = CodedRows(codes)
        np.testing.assert_array_equal(table.to_numpy(), codes.dequantize())
        held = sum(variable.numpy().nbytes for variable in table.variables)
        assert table.bytes_per_row == held / len(codes)
        # Planes end at a byte each, packed codes all together.
        spare = len(codes) * (codes.num_bits * -(-codes.dim // 8) - codes.packed.shape[1]) if codes.num_bits < 8 else 0
        assert held == codes.num_bytes + spare
        if codes.dim % 8 == 0:
            assert table.bytes_per_row == codes.bytes_per_item


@settings(deadline=None)
@given(st.integers(1, 7), DIMS, st.integers(0, 2**32))
def test_words_round_trip(num_bits, dim, seed):
    codes = np.random.default_rng(seed).integers(0, 2**num_bits, (4, dim)).astype(np.uint8)
    words = pack_words(codes, num_bits)
    assert words.shape[1] * words.itemsize == -(-dim // 8)
    np.testing.assert_array_equal(unpack_words(words, dim), codes)
    np.testing.assert_array_equal(unpack_planes(words), to_bit_planes(codes, num_bits))


def test_words_are_as_wide_as_the_dimension_allows():
    assert [word_bytes(dim) for dim in (64, 128, 96, 16, 24, 7, 100)] == [8, 8, 4, 2, 1, 1, 1]


@settings(deadline=None)
@given(st.integers(0, 40), st.integers(1, 60), st.integers(0, 3))
def test_blocks_cover_every_row_once(num_rows, block_rows, batch):
    seen = []

    def score(start, size):
        seen.append(int(size))
        return tf.tile(tf.cast(start + tf.range(size), tf.float32)[None], [batch, 1])

    scores = over_blocks(score, tf.constant(batch), num_rows, tf.constant(block_rows))
    np.testing.assert_array_equal(scores, np.tile(np.arange(num_rows), (batch, 1)))
    assert max(seen) <= block_rows


def test_blocks_of_a_graph(monkeypatch):
    """Rows of several blocks, in both ways, for batches of any size, by one trace."""
    monkeypatch.setattr(coded_rows, "PLANE_BLOCK", 100)
    monkeypatch.setattr(coded_rows, "CODE_BLOCK", 100)
    rng = np.random.default_rng(0)
    users, items = Codes.quantize(rng.normal(size=(9, 16)), 4), Codes.quantize(rng.normal(size=(57, 16)), 2)
    queries, table = CodedRows(users), CodedRows(items)
    index_spec = [tf.TensorSpec([None], tf.int32)]
    score = tf.function(lambda index: table.score_all(queries.queries(index)), input_signature=index_spec)
    for batch in (1, 0, 2, 4, 5, 9):
        expected = [[rounded(value) for value in exact_scores(users, items, row)] for row in range(batch)]
        np.testing.assert_array_equal(score(tf.range(batch)), np.reshape(expected, (batch, 57)))
    assert score.experimental_get_tracing_count() == 1


@pytest.mark.parametrize("num_bits", [1, 4, 8])
def test_no_float_table_is_made(num_bits, monkeypatch):
    """Float queries multiply codes that are unpacked for a block of rows at a time."""
    table = CodedRows(Codes.quantize(np.random.default_rng(0).normal(size=(30_000, 32)), num_bits))
    unpacked = []

    class Recorder(coded_rows.CodeBlock):
        def inner(self, query):
            unpacked.append(self.codes.shape[0])
            return super().inner(query)

    monkeypatch.setattr(coded_rows, "CodeBlock", Recorder)
    assert table.score_all(Queries(tf.ones([3, 32]))).shape == (3, 30_000)
    assert sum(unpacked) >= 30_000
    assert max(unpacked) * 32 <= 2**18
