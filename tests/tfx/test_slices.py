import itertools

import numpy as np
import pytest

from tf_hqgnn.evaluation.metrics import ranking_metrics, user_metrics
from tf_hqgnn.tfx.slices import Slice, make_slices, slice_overlap, slice_relevant

RELEVANT = (np.array([0, 2, 3, 3]), np.array([0, 3, 1]))


def test_slices_are_named_by_what_is_cold_and_cover_the_catalogue_once():
    degree = np.random.default_rng(0).permutation(np.arange(400) % 97)
    slices = list(make_slices(np.array([5, 1, 9, 7, 2]), degree))
    assert [one.name.split(" (")[0] for one in slices] == [
        "cold users",
        "cold items",
        *(f"popularity bucket {number} of 10" for number in range(1, 11)),
        "new items",
    ]
    assert slices.pop().items.tolist() == (degree == 0).tolist()
    assert slices[0].name == "cold users (at most 2 interactions)"
    assert slices[0].users.tolist() == [False, True, False, False, True]
    assert degree[slices[1].items].max() < degree[~slices[1].items].min()
    assert slices[1].items.mean() >= 0.25
    buckets = np.array([one.items for one in slices[2:]])
    assert buckets.sum(axis=0).tolist() == [1] * 400
    ends = [(degree[bucket].min(), degree[bucket].max()) for bucket in buckets]
    assert all(before[1] <= after[0] for before, after in itertools.pairwise(ends))


@pytest.mark.parametrize(("num_items", "number"), [(39, 0), (40, 2), (119, 5), (5000, 10)])
def test_a_small_catalogue_has_fewer_buckets(num_items, number):
    assert len(list(make_slices(np.ones(3, int), 1 + np.arange(num_items)))) == 2 + number


def test_users_and_items_without_interactions_are_judged_by_themselves():
    slices = list(make_slices(np.array([0, 4, 0]), np.array([3, 0])))
    assert [one.name for one in slices[-2:]] == ["new users (no interactions)", "new items (no interactions)"]
    assert (slices[-2].users.tolist(), slices[-1].items.tolist()) == ([True, False, True], [False, True])


def test_nobody_to_judge_gives_no_slice():
    assert list(make_slices(np.zeros(0, int), np.ones(5, int))) == []


def test_only_the_items_and_users_of_a_slice_count():
    part = Slice("", np.array([True, False, True]), np.array([True, True, False, False]))
    indptr, indices = slice_relevant(RELEVANT, part)
    assert (indptr.tolist(), indices.tolist()) == ([0, 1, 1, 1], [0])


@pytest.mark.parametrize("k", [1, 3, 20])
def test_the_means_are_those_of_ranking_metrics(k):
    random = np.random.default_rng(k)
    top = np.array([random.permutation(12)[:8] for _ in range(30)], np.int32)
    top[:5, 4:] = -1
    wanted = random.random((30, 12)) < 0.2
    relevant = (np.concatenate([[0], np.cumsum(wanted.sum(axis=1))]), np.nonzero(wanted)[1])
    values = ranking_metrics(top, relevant, [k], 12, np.ones(12)).values
    found = user_metrics(top, relevant, k, 12)
    assert np.nanmean(found.ndcg) == pytest.approx(values[f"ndcg@{k}"])
    assert np.nanmean(found.recall) == pytest.approx(values[f"recall@{k}"])
    assert np.isnan(found.ndcg).tolist() == (~wanted.any(axis=1)).tolist()


def test_the_overlap_of_a_slice_counts_its_items_alone():
    exact = np.array([[0, 1, 2], [2, 3, -1], [3, 2, 0]])
    approximate = np.array([[2, 0, 9], [3, -1, -1], [3, 2, 1]])
    part = Slice("", np.array([True, True, False]), np.array([True, True, True, False]))
    shares = slice_overlap(exact, approximate, part, 3)
    assert shares[:2].tolist() == [pytest.approx(2 / 3), 0]
    assert np.isnan(shares[2])
