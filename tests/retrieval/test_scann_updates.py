"""Rows that are added to an index of ScaNN: against what ScaNN itself makes of them, and against NumPy."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from tf_hqgnn.config import RetrievalConfig
from tf_hqgnn.retrieval.coded_rows import make_rows
from tf_hqgnn.retrieval.indices.index import EarlierIndex
from tf_hqgnn.retrieval.indices.scann import ScannIndex
from tf_hqgnn.retrieval.item_filter import ItemFilter
from tf_hqgnn.retrieval.queries import Queries
from tf_hqgnn.retrieval.scann import ScannTopK
from tf_hqgnn.retrieval.scann_searcher import Searcher, read_state

# Of an odd width, so that a hash has blocks of two sizes; as many rows as hashes are made from.
DIM, OLD, ALL = 9, 20_100, 20_200
CONFIG = RetrievalConfig(index="scann", num_leaves=60)
SEARCHERS = ("searcher", "cosine_searcher")


def clusters(num_rows, seed):
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(0).normal(size=(50, DIM))
    rows = centres[rng.integers(0, 50, num_rows)] + 0.4 * rng.normal(size=(num_rows, DIM))
    return (rows * rng.uniform(0.02, 2, (num_rows, 1))).astype(np.float32)


ITEMS = clusters(ALL, 1)
ITEMS[5] = 0
SAMPLE = Queries(tf.constant(clusters(40, 2)))


def variable(index, path):
    node = index
    for name in path.split("/"):
        node = getattr(node, name)
    return node.numpy()


def earlier(index):
    """What a stored index would be read as."""
    return EarlierIndex(
        index.describe(),
        index.rows.num_rows,
        lambda path: path != "rows_of" or index._rows_of is not None,
        lambda path: index._rows_of.numpy() if path == "rows_of" else variable(index, path),
    )


def states(index):
    return [read_state(lambda path: variable(index, path), of) for of in SEARCHERS]


def same(one, other, *names):
    for name in names:
        np.testing.assert_array_equal(one[name], other[name])


LEARNT = ("scann_config", "serialized_partitioner", "ah_codebook")
OF_ROWS = ("datapoint_to_token", "hashed_dataset")


@pytest.fixture(scope="module")
def first():
    return ScannTopK(make_rows(ITEMS[:OLD]), CONFIG, sample=SAMPLE)


@pytest.fixture(scope="module")
def second(first):
    return ScannIndex().update(earlier(first), make_rows(ITEMS), None, CONFIG, ItemFilter(ALL), SAMPLE)


def unit(rows):
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths > 0)


@pytest.mark.parametrize(("number", "prepare"), [(0, lambda rows: rows), (1, unit)])
def test_rows_get_the_leaves_and_hashes_that_scann_gives_them(first, number, prepare):
    state = states(first)[number]
    place = np.arange(OLD)
    place[np.random.default_rng(3).choice(OLD, 600, replace=False)] = -1
    place[5] = -1
    found = Searcher.extend(state, place, lambda at: prepare(ITEMS[:OLD][at]))
    after = read_state(lambda path: variable(found, path.removeprefix("found/")), "found")
    same(after, state, *LEARNT)
    for name in OF_ROWS:
        assert np.mean(after[name] == state[name]) > 0.9999


def test_leaves_hashes_and_sizes_stay(first, second):
    for before, after in zip(states(first), states(second)):
        same(before, after, *LEARNT)
        assert len(after["hashed_dataset"]) == len(after["datapoint_to_token"]) == ALL
        same({name: after[name][:OLD] for name in OF_ROWS}, before, *OF_ROWS)
    assert second.sizing == first.sizing
    assert second.recall >= CONFIG.target_recall


@pytest.mark.parametrize("cosine", [False, True])
def test_new_rows_are_found_as_often_as_others(second, cosine):
    rows = unit(ITEMS) if cosine else ITEMS
    queries = np.concatenate([ITEMS[OLD:], ITEMS[:OLD:40]])
    best = np.argsort(-(queries @ rows.T), axis=1, kind="stable")[:, :10]
    found = second.call(Queries(tf.constant(queries)), tf.constant(10), cosine=cosine)[1].numpy()
    hits = np.array([np.isin(wanted, there) for wanted, there in zip(best, found)])
    is_new = best >= OLD
    assert is_new.sum() > 50
    assert hits[~is_new].mean() > 0.95
    assert hits[is_new].mean() > 0.95


def test_rows_are_withdrawn_and_return(first):
    available = np.ones(OLD, bool)
    available[::9] = False
    fewer = ScannTopK(make_rows(ITEMS[:OLD]), CONFIG, ItemFilter(OLD, available), SAMPLE, earlier(first))
    for before, after in zip(states(first), states(fewer)):
        same(before, after, *LEARNT)
        same({name: before[name][available] for name in OF_ROWS}, after, *OF_ROWS)
    found = fewer.call(SAMPLE, tf.constant(50))[1].numpy()
    assert available[found].all()
    scores = np.where(available, SAMPLE.rows.numpy() @ ITEMS[:OLD].T, -np.inf)
    best = np.argsort(-scores, axis=1, kind="stable")[:, :50]
    assert np.mean([np.isin(one, other).mean() for one, other in zip(best, found)]) > 0.97
    again = ScannTopK(make_rows(ITEMS[:OLD]), CONFIG, ItemFilter(OLD), SAMPLE, earlier(fewer))
    for before, after in zip(states(first), states(again)):
        same(before, after, *LEARNT)
        for name in OF_ROWS:
            assert np.mean(before[name] == after[name]) > 0.9999


def test_sizes_are_chosen_again_where_the_recall_is_too_low(first):
    described = {**first.describe(), "num_leaves_to_search": 1, "reorder": 200, "recall@100": 0.99}
    poor = dataclasses.replace(earlier(first), described=described)
    found = ScannTopK(make_rows(ITEMS), CONFIG, sample=SAMPLE, earlier=poor)
    assert found.recall >= CONFIG.target_recall
    assert found.sizing.num_leaves_to_search > 1
    for before, after in zip(states(first), states(found)):
        same(before, after, *LEARNT)


def small(num_rows, **settings):
    return RetrievalConfig(index="scann", **settings), make_rows(ITEMS[:num_rows])


def test_leaves_are_learnt_anew_where_the_catalogue_has_outgrown_them():
    config, rows = small(100)
    before = ScannTopK(rows, config, sample=SAMPLE)
    assert before.sizing.num_leaves == 10
    for size, kept in ((300, True), (900, False)):
        after = ScannTopK(small(size)[1], config, sample=SAMPLE, earlier=earlier(before))
        assert after.sizing.num_leaves == (10 if kept else 30)
        one, other = (states(index)[0]["serialized_partitioner"].tolist() for index in (before, after))
        assert (one == other) == kept


def test_small_catalogues_keep_numbers_of_8_bits_as_scann_makes_them():
    config, rows = small(300, num_leaves=12)
    before = ScannTopK(rows, config, sample=SAMPLE)
    after = ScannTopK(small(360)[1], config, sample=SAMPLE, earlier=earlier(before))
    anew = ScannTopK(small(360)[1], config, sample=SAMPLE)
    for of_before, of_after, of_anew in zip(states(before), states(after), states(anew)):
        same(of_before, of_after, "scann_config", "serialized_partitioner")
        np.testing.assert_array_equal(of_after["datapoint_to_token"][:300], of_before["datapoint_to_token"])
        np.testing.assert_allclose(of_after["int8_multipliers"], of_anew["int8_multipliers"], rtol=1e-6)
        assert np.abs(of_after["int8_dataset"].astype(int) - of_anew["int8_dataset"]).max() <= 1
    assert after.recall >= config.target_recall


def test_an_index_of_another_kind_is_not_kept():
    config, rows = small(300, num_leaves=12)
    exact = EarlierIndex({"index": "ExactTopK", "exact": True}, 200, lambda _: False, lambda _: np.zeros(0))
    assert ScannTopK(rows, config, sample=SAMPLE, earlier=exact).recall >= config.target_recall
