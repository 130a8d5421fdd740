"""Generated logs: exact, reproducible, long-tailed, and hard enough that popularity alone doesn't do."""

import tracemalloc

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from tf_hqgnn.config import DataConfig
from tf_hqgnn.data import synthetic
from tf_hqgnn.data.interactions import read_interactions
from tf_hqgnn.data.items import read_items
from tf_hqgnn.data.loading import load_dataset
from tf_hqgnn.data.synthetic import generate_log, write_log
from tf_hqgnn.types import InputError


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 40), st.integers(1, 60), st.floats(0, 1), st.integers(0, 2**31))
def test_exactly_as_many_distinct_pairs(users, items, density, seed):
    interactions = users + int(density * (users * items - users))
    log = generate_log(users, items, interactions, seed)
    assert len(set(zip(log.user_index.tolist(), log.item_index.tolist()))) == len(log.user_index) == interactions
    assert (log.user_index.min(), log.user_index.max()) == (0, users - 1)
    assert 0 <= log.item_index.min() <= log.item_index.max() < items
    assert len(set(log.titles)) == len(log.item_ids) == items
    assert (np.diff(log.timestamp) >= 0).all()


def test_the_seed_decides():
    logs = [generate_log(50, 80, 600, seed) for seed in (1, 1, 2)]
    for name in vars(logs[0]):
        np.testing.assert_array_equal(getattr(logs[0], name), getattr(logs[1], name))
    assert not np.array_equal(logs[0].item_index, logs[2].item_index)


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ((0, 5, 5), "0 users and 5 items; expected at least one of each"),
        ((5, 5, 4), r"expected between 5 \(one a user\) and 25 \(every pair\)"),
        ((5, 5, 26), r"26 interactions of 5 users with 5 items; expected between 5"),
    ],
)
def test_impossible_numbers(numbers, message):
    with pytest.raises(InputError, match=message):
        generate_log(*numbers, seed=1)


@pytest.mark.parametrize("extension", ["csv", "parquet"])
@pytest.mark.parametrize("timestamps", [True, False])
def test_written_logs_are_read_back(tmp_path, extension, timestamps):
    log = generate_log(30, 40, 300, seed=3, timestamps=timestamps)
    write_log(log, tmp_path / "new" / f"log.{extension}", tmp_path / "items.csv")
    table = read_interactions(tmp_path / "new" / f"log.{extension}")
    inner = table.interactions
    time = [None] * 300 if inner.timestamp is None else inner.timestamp.tolist()
    read = set(zip(table.user_ids[inner.user_index], table.item_ids[inner.item_index], time))
    time = log.timestamp.tolist() if timestamps else [None] * 300
    assert read == set(zip(log.user_ids[log.user_index], log.item_ids[log.item_index], time))
    items = read_items(tmp_path / "items.csv")
    np.testing.assert_array_equal(items.item_ids, log.item_ids)
    np.testing.assert_array_equal(items.title, log.titles)
    np.testing.assert_array_equal(items.category, log.categories)
    assert [path.name for path in (tmp_path / "new").iterdir()] == [f"log.{extension}"]


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 40), st.integers(1, 60), st.floats(0, 1), st.integers(0, 2**31), st.integers(1, 50))
def test_the_log_does_not_depend_on_how_many_draws_are_made_at_once(users, items, density, seed, draws_at_once):
    interactions = users + int(density * (users * items - users))
    whole = generate_log(users, items, interactions, seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(synthetic, "DRAWS_AT_ONCE", draws_at_once)
        parts = generate_log(users, items, interactions, seed)
    np.testing.assert_array_equal(parts.user_index, whole.user_index)
    np.testing.assert_array_equal(parts.item_index, whole.item_index)


@pytest.mark.parametrize("extension", ["csv", "parquet"])
def test_logs_of_several_batches(tmp_path, monkeypatch, extension):
    log = generate_log(30, 40, 300, seed=3)
    write_log(log, tmp_path / f"whole.{extension}")
    monkeypatch.setattr(synthetic, "ROWS_PER_BATCH", 70)
    write_log(log, tmp_path / f"parts.{extension}")
    whole, parts = (read_interactions(tmp_path / f"{name}.{extension}") for name in ("whole", "parts"))
    np.testing.assert_array_equal(parts.user_ids, whole.user_ids)
    for name in ("user_index", "item_index", "timestamp"):
        np.testing.assert_array_equal(getattr(parts.interactions, name), getattr(whole.interactions, name))


def test_memory_of_a_log_is_a_few_numbers_an_interaction(monkeypatch):
    monkeypatch.setattr(synthetic, "DRAWS_AT_ONCE", 1 << 12)
    tracemalloc.start()
    generate_log(4_000, 1_000, 200_000, seed=1)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak <= 50 * 200_000 + 2_000_000


def test_places_that_cannot_be_written(tmp_path):
    log = generate_log(3, 4, 6, seed=1)
    with pytest.raises(InputError, match=r"can't write \.txt; expected \.csv or \.parquet"):
        write_log(log, tmp_path / "log.txt")
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"can't be written \(.*\); expected a place for a file"):
        write_log(log, tmp_path / "file" / "log.csv")


def ndcg(scores, train, test, k=20):
    scores = np.where(train.toarray() > 0, -np.inf, scores)
    top = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    discount = 1 / np.log2(np.arange(k) + 2)
    number = test.getnnz(axis=1)
    ideal = np.cumsum(discount)[np.minimum(number, k) - 1]
    gain = (np.take_along_axis(test.toarray(), top, 1) * discount).sum(1)
    return (gain / ideal)[number > 0].mean()


@pytest.mark.parametrize("size", [(300, 200, 6000), (2000, 1500, 60_000)])
@pytest.mark.parametrize("seed", [7, 2020])
def test_a_model_beats_popularity_by_a_wide_margin(tmp_path, size, seed):
    log = generate_log(*size, seed)
    write_log(log, tmp_path / "log.csv")
    dataset = load_dataset(DataConfig(path=str(tmp_path / "log.csv")), seed)
    train, test = (
        sp.csr_matrix((np.ones(len(part)), (part.user_index, part.item_index)), (dataset.num_users, dataset.num_items))
        for part in (dataset.train, dataset.test)
    )
    popularity = np.asarray(train.sum(0)).ravel()
    activity = np.maximum(np.asarray(train.sum(1)).ravel(), 1)
    # The oldest graph recommender: three hops of the normalised adjacency, nothing learnt.
    hops = sp.diags(activity**-0.5) @ train @ sp.diags(np.maximum(popularity, 1) ** -0.5)
    by_graph = ndcg((hops @ (hops.T @ hops)).toarray(), train, test)
    by_popularity = ndcg(np.tile(popularity, (dataset.num_users, 1)), train, test)
    at_random = ndcg(np.random.default_rng(0).random(train.shape), train, test)
    assert by_graph > 2 * by_popularity
    assert by_popularity > 1.5 * at_random


def test_shape_of_the_log():
    log = generate_log(2000, 1500, 60_000, seed=1)
    activity = np.bincount(log.user_index)
    popularity = np.sort(np.bincount(log.item_index, minlength=1500))[::-1]
    assert activity.min() >= 5
    assert activity.max() > 5 * np.median(activity)
    # A tenth of the items draws more than a quarter of the interactions, a half of them less than a third.
    assert popularity[:150].sum() > 0.25 * 60_000
    assert popularity[750:].sum() < 0.33 * 60_000
    own = log.categories[log.item_index] == log.user_categories[log.user_index]
    assert 0.6 < own.mean() < 0.95
    share = own.sum() / np.bincount(log.user_index).sum()
    assert share > 5 * np.mean(log.categories == log.user_categories[0])


@pytest.mark.parametrize("out", ["log.csv", "log.parquet"])
def test_a_log_and_its_items_appear_together_or_not_at_all(tmp_path, out):
    log = generate_log(20, 10, 60, seed=1)
    (tmp_path / "folder.csv").mkdir()
    for place, items in ((out, "folder.csv"), ("folder.csv", "items.csv")):
        with pytest.raises(InputError, match=r"folder\.csv: can't be written \(.*\); expected a place for a file"):
            write_log(log, tmp_path / place, tmp_path / items)
        assert [path.name for path in tmp_path.iterdir()] == ["folder.csv"]
    write_log(log, tmp_path / out, tmp_path / "items.csv")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["folder.csv", "items.csv", out])
