import sys
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tf_hqgnn.config import ExportConfig, RetrievalConfig
from tf_hqgnn.quantization.codes import Codes
from tf_hqgnn.retrieval import choose, scann
from tf_hqgnn.retrieval.coded_rows import make_rows
from tf_hqgnn.retrieval.exact import ExactTopK
from tf_hqgnn.retrieval.filters import block_listed
from tf_hqgnn.retrieval.ids import IdTable
from tf_hqgnn.retrieval.indices.index import INDICES, Index
from tf_hqgnn.retrieval.indices.scann import BRUTE_FORCE_BELOW
from tf_hqgnn.retrieval.item_filter import ItemFilter
from tf_hqgnn.retrieval.popular import PopularItems
from tf_hqgnn.retrieval.queries import Queries
from tf_hqgnn.retrieval.rows import Float32Rows
from tf_hqgnn.retrieval.scann import ScannSizing, ScannTopK
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


@pytest.fixture(scope="module", params=["float32", "8", "3"])
def index(request):
    """`(call, call for cosines, the rows it holds)` of the exact index."""
    rows = make_rows(VALUES if request.param == "float32" else Codes.quantize(VALUES, int(request.param)))
    top_k = ExactTopK(rows)
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
    all_leaves = RetrievalConfig(num_leaves=10, num_leaves_to_search=10)
    for top_k in (ExactTopK(Float32Rows(VALUES)), ScannTopK(Float32Rows(VALUES), all_leaves)):
        _, item_index = top_k.call(ASKED, tf.constant(5))
        assert item_index.numpy().tolist() == [rows for _, rows in oracle(QUERIES, 5, [[]] * 4)]


def test_scann_pads_with_item_0_and_the_index_masks_it():
    top_k = ScannTopK(Float32Rows(VALUES), FEW_LEAVES)
    distances, raw = top_k.searcher.search(ASKED.rows, tf.constant(100), 2)
    padding = np.isnan(distances.numpy())
    assert padding.any(), "the trap isn't there: give the index fewer leaves to search"
    assert (raw.numpy()[padding] == 0).all()

    scores, item_index = traced(top_k)(QUERIES, 100, tf.zeros([4, 0], tf.int64))
    assert not top_k.is_exact()
    assert scores.shape == (4, 100)
    # The leaves hold fewer than 100: every row is scored.
    assert item_index.numpy().tolist() == [rows for _, rows in oracle(QUERIES, 100, [[]] * 4)]

    # They hold 5: candidates are all there is.
    scores, item_index = traced(top_k)(QUERIES, 5, tf.zeros([4, 0], tf.int64))
    for row, rows in enumerate(item_index.numpy()):
        candidates = raw.numpy()[row][~padding[row]]
        expected = sorted(candidates, key=lambda item: (-VALUES[item].astype(np.float64) @ QUERIES[row], item))[:5]
        assert rows.tolist() == expected
        np.testing.assert_allclose(scores.numpy()[row], VALUES[rows] @ QUERIES[row], rtol=1e-4, atol=1e-5)


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


def test_scann_reaches_the_recall_that_is_wanted_at_the_least_cost():
    values = np.random.default_rng(0).normal(size=(4000, D)).astype(np.float32)
    items, sample = Float32Rows(values), Queries(tf.constant(np.random.default_rng(1).normal(size=(64, D)), tf.float32))
    exact = ExactTopK(items).call(sample, tf.constant(100))[1].numpy()
    searched = []
    for wanted in (0.5, 0.9, 1.0):
        top_k = ScannTopK(items, RetrievalConfig(num_leaves=40, target_recall=wanted), sample=sample)
        found = top_k.call(sample, tf.constant(100))[1].numpy()
        recall = np.mean([len(np.intersect1d(a, b)) / 100 for a, b in zip(found, exact)])
        assert top_k.describe()["recall@100"] == pytest.approx(recall, abs=1e-3)
        assert recall >= wanted
        searched.append(top_k.sizing.num_leaves_to_search)
    assert searched[0] < searched[1] <= searched[2] <= 40
    fixed = RetrievalConfig(num_leaves=40, num_leaves_to_search=1, reorder=100, target_recall=1.0)
    top_k = ScannTopK(items, fixed, sample=sample)
    assert (top_k.sizing.num_leaves_to_search, top_k.sizing.reorder) == (1, 100)
    assert 0 < top_k.recall < 0.9


@pytest.mark.parametrize("num_leaves_to_search", [1, 12])
def test_scann_answers_for_rare_categories_and_what_is_available(num_leaves_to_search):
    categories = np.where(np.arange(N) % 50 == 7, "rare", "common")
    available = np.arange(N) % 3 > 0
    item_filter = ItemFilter(N, available, categories)
    config = RetrievalConfig(num_leaves=12, num_leaves_to_search=num_leaves_to_search)
    top_k = ScannTopK(Float32Rows(VALUES), config, item_filter)
    wanted = item_filter.wanted(tf.constant(["rare", "", "common", "none"]))
    blocked = block_listed(tf.constant([[57], [1], [2], [4]], tf.int64), N).within(item_filter, wanted)
    scores, item_index = top_k.call(ASKED, tf.constant(9), blocked)
    listed = [{57} | set(np.flatnonzero(categories == "common")), {1}, {2} | set(np.flatnonzero(categories == "rare"))]
    listed = [names | set(np.flatnonzero(~available)) for names in [*listed, set(range(N))]]
    for row, (expected, rows) in enumerate(oracle(QUERIES, 9, listed)):
        # A query of the batch found too little: the answer is the exact one.
        assert item_index.numpy()[row, : len(rows)].tolist() == rows
        np.testing.assert_allclose(scores.numpy()[row, : len(rows)], expected, rtol=1e-5, atol=1e-5)
        assert (scores.numpy()[row, len(rows) :] == -np.inf).all()


def test_scann_sizing_follows_the_catalogue_and_the_config():
    assert ScannSizing.choose(250_000, RetrievalConfig()) == ScannSizing(500, 50, 200)
    given_sizes = RetrievalConfig(num_leaves=30, num_leaves_to_search=7, reorder=9)
    assert ScannSizing.choose(1000, given_sizes) == ScannSizing(30, 7, 9)
    with pytest.raises(InputError, match=r"retrieval.num_leaves is 11, but there are only 10 items"):
        ScannSizing.choose(10, RetrievalConfig(num_leaves=11))
    with pytest.raises(InputError, match=r"num_leaves_to_search is 31, more than the 30 leaves"):
        ScannSizing.choose(1000, RetrievalConfig(num_leaves=30, num_leaves_to_search=31))


@pytest.mark.parametrize(
    ("device", "config", "num_items", "expected"),
    [
        ("any", RetrievalConfig(index="scann"), N, ExactTopK),
        ("cpu", RetrievalConfig(), N, ExactTopK),
        ("cpu", RetrievalConfig(num_leaves=4), N, ScannTopK),
        ("cpu", RetrievalConfig(index="scann"), N, ScannTopK),
        ("cpu", RetrievalConfig(), BRUTE_FORCE_BELOW, ScannTopK),
        ("cpu", RetrievalConfig(index="exact"), BRUTE_FORCE_BELOW, ExactTopK),
        ("any", RetrievalConfig(), BRUTE_FORCE_BELOW, ExactTopK),
    ],
)
def test_the_index_follows_device_catalogue_and_config(monkeypatch, device, config, num_items, expected):
    monkeypatch.setattr(scann, "ScannTopK", lambda _rows, *_: SimpleNamespace(kind=ScannTopK))
    rows = Float32Rows(np.zeros((num_items, 2)))
    chosen = choose.choose_index(rows, device, ExportConfig(), config, ItemFilter(num_items))
    assert getattr(chosen, "kind", type(chosen)) == expected


def test_items_that_are_not_available_do_not_count_for_the_choice(monkeypatch):
    monkeypatch.setattr(scann, "ScannTopK", lambda *_: pytest.fail("there are too few items"))
    rows = Float32Rows(np.zeros((BRUTE_FORCE_BELOW, 2)))
    item_filter = ItemFilter(BRUTE_FORCE_BELOW, np.arange(BRUTE_FORCE_BELOW) > 0)
    assert choose.choose_index(rows, "cpu", ExportConfig(), RetrievalConfig(), item_filter).is_exact()


def test_an_exact_index_has_no_leaves():
    with pytest.raises(ValidationError, match="num_leaves is of scann, but index is exact: leave one of them out"):
        RetrievalConfig(index="exact", num_leaves=3)


def test_scann_says_what_it_is_built_with():
    sizes = {"num_leaves": 20, "num_leaves_to_search": 2, "reorder": 200, "recall@100": None}
    expected = {"index": "ScannTopK", "exact": False, **sizes}
    assert ScannTopK(Float32Rows(VALUES), FEW_LEAVES).describe() == expected


def test_scann_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "scann.scann_ops.py", None)
    with pytest.raises(ImportError, match=r"needs the package scann .*: pip install 'tf_hqgnn\[scann\]'"):
        ScannTopK(Float32Rows(VALUES), FEW_LEAVES)


def test_one_item_in_the_catalogue():
    for top_k in (ExactTopK(Float32Rows(VALUES[:1])), ScannTopK(Float32Rows(VALUES[:1]), RetrievalConfig())):
        scores, item_index = top_k.call(ASKED, tf.constant(3))
        assert item_index.numpy().tolist() == [[0]] * 4
        np.testing.assert_allclose(scores[:, 0], QUERIES @ VALUES[0], rtol=1e-5)


def test_popular_items_look_past_what_is_blocked():
    popular = PopularItems(np.array([1, 7, 7, 3, 0], np.float32), ItemFilter(5))
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


class Newest(Index):
    """An index that only this file knows of."""

    auto_from = BRUTE_FORCE_BELOW + 1
    settings = ("reorder",)

    def build(self, rows, export, retrieval, item_filter, sample):
        return SimpleNamespace(kind="newest", num_rows=rows.num_rows)


@pytest.fixture
def newest():
    INDICES.register("newest")(Newest)
    yield
    INDICES.remove("newest")


@pytest.mark.usefixtures("newest")
def test_an_index_of_another_file_is_named_and_chosen():
    rows, no_filter = Float32Rows(np.zeros((N, 2))), ItemFilter(N)
    config = RetrievalConfig(index="newest", reorder=3)
    assert choose.choose_index(rows, "any", ExportConfig(), config, no_filter).num_rows == N
    many = BRUTE_FORCE_BELOW + 1
    chosen = choose.choose_index(
        Float32Rows(np.zeros((many, 2))), "any", ExportConfig(), RetrievalConfig(), ItemFilter(many)
    )
    assert chosen.kind == "newest"
    with pytest.raises(ValidationError, match="num_leaves is of scann, but index is newest"):
        RetrievalConfig(index="newest", num_leaves=5)
    with pytest.raises(ValidationError, match="expected one of auto, exact, newest, scann"):
        RetrievalConfig(index="hnsw")
