import sys

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tf_hqgnn.config import RetrievalConfig
from tf_hqgnn.quantization.codes import Codes
from tf_hqgnn.retrieval.coded_rows import make_rows
from tf_hqgnn.retrieval.exact import ExactTopK
from tf_hqgnn.retrieval.filters import block_listed
from tf_hqgnn.retrieval.ids import IdTable
from tf_hqgnn.retrieval.popular import PopularItems
from tf_hqgnn.retrieval.queries import Queries
from tf_hqgnn.retrieval.rows import Float32Rows
from tf_hqgnn.retrieval.scann import BRUTE_FORCE_BELOW, ScannSizing, ScannTopK
from tf_hqgnn.types import InputError

RNG = np.random.default_rng(5)
N, D = 300, 8
VALUES = RNG.normal(size=(N, D)).astype(np.float32) * RNG.uniform(0.3, 2, (N, 1)).astype(np.float32)
VALUES[11] = VALUES[10]
QUERIES = RNG.normal(size=(4, D)).astype(np.float32)
ASKED = Queries(tf.constant(QUERIES))
# Two of the 20 leaves hold far fewer than 100 items.
FEW_LEAVES = RetrievalConfig(num_leaves=20, num_leaves_to_search=2)


def traced(top_k, cosine=False):
    """`top_k.call` as a graph, as it is exported."""
    listed_spec = tf.TensorSpec([None, None], tf.int64)

    @tf.function(input_signature=[tf.TensorSpec([None, D]), tf.TensorSpec([], tf.int32), listed_spec])
    def call(queries, k, listed):
        return top_k.call(Queries(queries), k, block_listed(listed, N), cosine)

    return call


def oracle(queries, k, listed, values=VALUES):
    """`(scores, item_index)` lists of each query, without padding."""
    answers = []
    for query, items in zip(queries, listed):
        scores = (values.astype(np.float64) * query).sum(axis=1)
        rows = sorted(set(range(len(values))) - set(items), key=lambda row: (-scores[row], row))[:k]
        answers.append((scores[rows], rows))
    return answers


@pytest.fixture(scope="module", params=["exact float32", "exact 8", "scann float32", "scann 3"])
def index(request):
    """`(call, call for cosines, the rows it holds)` of every index that must be exact at this size."""
    kind, precision = request.param.split()
    rows = make_rows(VALUES if precision == "float32" else Codes.quantize(VALUES, int(precision)))
    top_k = ExactTopK(rows) if kind == "exact" else ScannTopK(rows, RetrievalConfig())
    assert top_k.is_exact()
    return traced(top_k), traced(top_k, cosine=True), rows.to_numpy()


@settings(max_examples=25, deadline=None)
@given(
    batch=st.integers(0, 4),
    k=st.sampled_from([0, 1, 7, N - 1, N, N + 10]),
    listed=st.lists(st.lists(st.integers(-1, N - 1), min_size=6, max_size=6), min_size=4, max_size=4),
)
def test_exact_indices_answer_as_brute_force(index, batch, k, listed):
    call, _, values = index
    listed = np.array(listed, np.int64)[:batch]
    scores, item_index = call(QUERIES[:batch], k, listed)
    assert scores.shape == item_index.shape
    for row, (expected, rows) in enumerate(oracle(QUERIES[:batch], k, listed.tolist(), values)):
        assert item_index.numpy()[row, : len(rows)].tolist() == rows
        np.testing.assert_allclose(scores.numpy()[row, : len(rows)], expected, rtol=1e-5, atol=1e-5)
        assert (scores.numpy()[row, len(rows) :] == -np.inf).all()


def test_cosine(index):
    _, call, values = index
    unit = values / np.linalg.norm(values, axis=1, keepdims=True)
    scores, item_index = call(QUERIES, 9, [[0], [1], [2], [3]])
    for row, (expected, rows) in enumerate(oracle(QUERIES, 9, [[0], [1], [2], [3]], unit)):
        assert item_index.numpy()[row].tolist() == rows
        np.testing.assert_allclose(scores.numpy()[row], expected, rtol=1e-5, atol=1e-5)


def test_blocked_is_optional():
    for top_k in (ExactTopK(Float32Rows(VALUES)), ScannTopK(Float32Rows(VALUES), RetrievalConfig())):
        _, item_index = top_k.call(ASKED, tf.constant(5))
        assert item_index.numpy().tolist() == [rows for _, rows in oracle(QUERIES, 5, [[]] * 4)]


def test_scann_pads_with_item_0_and_the_index_masks_it():
    top_k = ScannTopK(Float32Rows(VALUES), FEW_LEAVES)
    distances, raw = top_k._searcher.search(ASKED.rows, tf.constant(100))
    padding = np.isnan(distances.numpy())
    assert padding.any(), "the trap isn't there: give the index fewer leaves to search"
    assert (raw.numpy()[padding] == 0).all()

    scores, item_index = traced(top_k)(QUERIES, 100, tf.zeros([4, 0], tf.int64))
    assert not top_k.is_exact()
    assert scores.shape == (4, 100)
    found = np.isfinite(scores.numpy())
    assert (found.sum(axis=1) < 100).all()
    assert found.any(axis=1).all()
    for row in range(4):
        rows = item_index.numpy()[row][found[row]]
        assert len(set(rows)) == len(rows)
        np.testing.assert_allclose(scores.numpy()[row][found[row]], VALUES[rows] @ QUERIES[row], rtol=1e-4, atol=1e-5)
        assert (np.diff(scores.numpy()[row][found[row]]) <= 0).all()


def test_scann_searches_deeper_for_what_is_blocked():
    """Every leaf searched: as if exact, although more is blocked than is asked for."""
    top_k = ScannTopK(Float32Rows(VALUES), RetrievalConfig(num_leaves=10, num_leaves_to_search=10, reorder=1))
    best = [rows for _, rows in oracle(QUERIES, 60, [[]] * 4)]
    _, item_index = traced(top_k)(QUERIES, 3, best)
    assert item_index.numpy().tolist() == [rows for _, rows in oracle(QUERIES, 3, best)]


def test_scann_with_hashes_finds_most_of_the_best_items():
    values = RNG.normal(size=(BRUTE_FORCE_BELOW, D)).astype(np.float32)
    values *= RNG.uniform(0.3, 3, (len(values), 1)).astype(np.float32)
    top_k = ScannTopK(make_rows(Codes.quantize(values, 4)), RetrievalConfig())
    assert not top_k.is_exact()
    exact = ExactTopK(top_k.rows)
    for cosine in (False, True):
        _, expected = exact.call(ASKED, tf.constant(50), None, cosine)
        scores, found = top_k.call(ASKED, tf.constant(50), None, cosine)
        recall = np.mean([len(set(a) & set(b)) / 50 for a, b in zip(expected.numpy(), found.numpy())])
        assert recall > 0.8
        np.testing.assert_allclose(scores, top_k.rows.score_at(ASKED, found, cosine), rtol=1e-5)


def test_scann_sizing_follows_the_catalogue_and_the_config():
    assert ScannSizing.choose(BRUTE_FORCE_BELOW - 1, RetrievalConfig()).num_leaves == 0
    assert ScannSizing.choose(250_000, RetrievalConfig()) == ScannSizing(500, 50, 200)
    given_sizes = RetrievalConfig(num_leaves=30, num_leaves_to_search=7, reorder=9)
    assert ScannSizing.choose(1000, given_sizes) == ScannSizing(30, 7, 9)
    with pytest.raises(InputError, match=r"retrieval.num_leaves is 11, but there are only 10 items"):
        ScannSizing.choose(10, RetrievalConfig(num_leaves=11))
    with pytest.raises(InputError, match=r"num_leaves_to_search is 31, more than the 30 leaves"):
        ScannSizing.choose(1000, RetrievalConfig(num_leaves=30, num_leaves_to_search=31))


def test_scann_says_what_it_is_built_with():
    expected = {"index": "ScannTopK", "exact": False, "num_leaves": 20, "num_leaves_to_search": 2, "reorder": 200}
    assert ScannTopK(Float32Rows(VALUES), FEW_LEAVES).describe() == expected


def test_scann_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "scann.scann_ops.py", None)
    with pytest.raises(ImportError, match=r"needs the package scann .*: install tf_hqgnn\[serving\]"):
        ScannTopK(Float32Rows(VALUES), FEW_LEAVES)


def test_one_item_in_the_catalogue():
    for top_k in (ExactTopK(Float32Rows(VALUES[:1])), ScannTopK(Float32Rows(VALUES[:1]), RetrievalConfig())):
        scores, item_index = top_k.call(ASKED, tf.constant(3))
        assert item_index.numpy().tolist() == [[0]] * 4
        np.testing.assert_allclose(scores[:, 0], QUERIES @ VALUES[0], rtol=1e-5)


def test_popular_items_look_past_what_is_blocked():
    popular = PopularItems(np.array([1, 7, 7, 3, 0], np.float32))
    blocked = block_listed(tf.constant([[1, 3], [-1, -1]], tf.int64), 5)
    scores, item_index = popular.call(tf.constant(3), blocked)
    assert item_index.numpy().tolist() == [[2, 0, 4], [1, 2, 3]]
    assert scores.numpy().tolist() == [[7, 1, 0], [7, 7, 3]]
    scores, _ = popular.call(tf.constant(9), blocked)
    assert (np.isfinite(scores.numpy()).sum(axis=1) == [3, 5]).all()


def test_ids_are_any_strings():
    ids = ["a\nb", "a", "b", "\t", " ", "日本", "a\r\n", "0"]
    table = IdTable(ids)
    assert table.lookup(tf.constant([ids[::-1], ["", "c", "A", *ids[:5]]])).numpy().tolist() == [
        [7, 6, 5, 4, 3, 2, 1, 0],
        [-1, -1, -1, 0, 1, 2, 3, 4],
    ]
    assert [name.decode() for name in table.ids(tf.range(8)).numpy()] == ids
