import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import ndcg_score

from tf_hqgnn.evaluation import metrics, ranking
from tf_hqgnn.evaluation.full_ranking import evaluate_embeddings, evaluate_popularity
from tf_hqgnn.evaluation.metrics import ranking_metrics
from tf_hqgnn.evaluation.ranking import rank, rank_by_popularity
from tf_hqgnn.types import Interactions


def csr(lists):
    indptr = np.cumsum([0, *map(len, lists)]).astype(np.int64)
    return indptr, np.array([item for row in lists for item in row], np.int32)


def log(users, items):
    return Interactions(np.array(users, np.int32), np.array(items, np.int32))


def brute_force_rank(user_embeddings, item_embeddings, user_index, seen, k):
    answers = np.full((len(user_index), k), -1)
    for row, user in enumerate(user_index):
        masked = set(seen[1][seen[0][user] : seen[0][user + 1]].tolist())
        scores = user_embeddings[user] @ item_embeddings.T
        order = sorted((-score, item) for item, score in enumerate(scores) if item not in masked)[:k]
        answers[row, : len(order)] = [item for _, item in order]
    return answers


def brute_force_metrics(top, relevant, ks, num_items, popularity):
    """Straight from the definitions, one user and one rank at a time."""
    values, users = {}, [n for n, items in enumerate(relevant) if items]
    for k in ks:
        totals = dict.fromkeys(("recall", "ndcg", "mrr", "hit", "precision"), 0.0)
        shown = []
        for user in users:
            wanted, row = set(relevant[user]), [item for item in top[user][:k] if item >= 0]
            shown += row
            hits = [rank for rank, item in enumerate(row, 1) if item in wanted]
            totals["recall"] += len(hits) / len(wanted)
            totals["precision"] += len(hits) / k
            totals["hit"] += bool(hits)
            totals["mrr"] += 1 / hits[0] if hits else 0
            ideal = sum(1 / np.log2(rank + 1) for rank in range(1, min(len(wanted), k) + 1))
            totals["ndcg"] += sum(1 / np.log2(rank + 1) for rank in hits) / ideal
        values |= {f"{name}@{k}": total / len(users) for name, total in totals.items()}
        values[f"coverage@{k}"] = len(set(shown)) / num_items
        values[f"popularity@{k}"] = np.mean([popularity[item] for item in shown]) if shown else 0.0
    return values


# Small integers: their products are exact in float32, so there are many ties and only one right order.
@given(st.data())
@settings(max_examples=60, deadline=None)
def test_rank_against_brute_force_with_ties(data):
    rng = np.random.default_rng(data.draw(st.integers(0, 2**31)))
    num_users, num_items = data.draw(st.integers(1, 7)), data.draw(st.integers(1, 9))
    users = rng.integers(-2, 3, (num_users, 2)).astype(np.float32)
    items = rng.integers(-2, 3, (num_items, 2)).astype(np.float32)
    seen = csr([np.flatnonzero(rng.random(num_items) < 0.3) for _ in range(num_users)])
    chosen = rng.permutation(num_users)[: data.draw(st.integers(0, num_users))]
    k, chunk_size = data.draw(st.integers(1, 12)), data.draw(st.integers(1, 9))
    got = rank(users, items, chosen, seen, k, chunk_size)
    assert got.dtype == np.int32
    np.testing.assert_array_equal(got, brute_force_rank(users, items, chosen, seen, k))


@given(st.data())
@settings(max_examples=100, deadline=None)
def test_rank_by_popularity_against_brute_force_with_ties(data):
    rng = np.random.default_rng(data.draw(st.integers(0, 2**31)))
    num_users, num_items = data.draw(st.integers(1, 7)), data.draw(st.integers(1, 9))
    popularity = rng.integers(0, 5, num_items)
    # As where a validation interaction repeats one of training, the same item may stand there twice.
    share = data.draw(st.sampled_from([0.0, 0.4, 1.0]))
    lists = [np.repeat(np.flatnonzero(rng.random(num_items) < share), rng.integers(1, 3)) for _ in range(num_users)]
    chosen = rng.permutation(num_users)[: data.draw(st.integers(0, num_users))]
    k, chunk_size = data.draw(st.integers(1, 12)), data.draw(st.integers(1, 9))
    got = rank_by_popularity(popularity, chosen, csr(lists), k, chunk_size)
    assert got.dtype == np.int32
    expected = brute_force_rank(np.ones((num_users, 1)), popularity[:, np.newaxis], chosen, csr(lists), k)
    np.testing.assert_array_equal(got, expected)


@given(st.data())
@settings(max_examples=20, deadline=None)
def test_rank_by_blocks_against_brute_force_with_ties(data):
    """Catalogues from just below to far above what is searched by blocks, whole and broken last blocks."""
    rng = np.random.default_rng(data.draw(st.integers(0, 2**31)))
    k = data.draw(st.integers(1, 3))
    num_items = data.draw(st.integers(60 * k, 1500))
    users = rng.integers(-2, 3, (3, 2)).astype(np.float32)
    # Many users for whom every score is below that of the zeros which fill up the last block.
    items = rng.integers(-2, 3, (num_items, 2)).astype(np.float32) + data.draw(st.sampled_from([0, -9]))
    seen = csr([np.flatnonzero(rng.random(num_items) < share) for share in (0, 0.3, 0.999)])
    got = rank(users, items, np.arange(3), seen, k, chunk_size=2)
    np.testing.assert_array_equal(got, brute_force_rank(users, items, np.arange(3), seen, k))


@pytest.mark.parametrize(("num_items", "k", "size"), [(100, 20, 1), (12_101, 50, 4), (12_101, 20, 8), (40_981, 20, 16)])
def test_block_size(num_items, k, size):
    assert ranking.items_per_block(num_items, k) == size


def test_rank_against_brute_force_at_size():
    rng = np.random.default_rng(0)
    users, items = rng.normal(size=(300, 16)).astype(np.float32), rng.normal(size=(1000, 16)).astype(np.float32)
    seen = csr([np.sort(rng.choice(1000, 30, replace=False)) for _ in range(300)])
    got = rank(users, items, np.arange(300), seen, 50, chunk_size=128)
    np.testing.assert_array_equal(got, brute_force_rank(users, items, np.arange(300), seen, 50))


@pytest.mark.parametrize("num_items", [60, 1003])
@pytest.mark.parametrize("chunk_size", [3, 7, 11])
def test_rank_in_steps_against_brute_force_with_ties(monkeypatch, num_items, chunk_size):
    """Steps of 2 users, in chunks of several steps, the last one filled up; some users have seen nothing."""
    monkeypatch.setattr(ranking, "SCORE_BYTES", 1)
    monkeypatch.setattr(ranking, "MIN_USERS", 2)
    rng = np.random.default_rng(chunk_size)
    users, items = (
        rng.integers(-2, 3, (23, 2)).astype(np.float32),
        rng.integers(-2, 3, (num_items, 2)).astype(np.float32),
    )
    seen = csr([np.flatnonzero(rng.random(num_items) < share) for share in rng.choice([0, 0.3, 0.99], 23)])
    chosen = rng.permutation(23)
    got = rank(users, items, chosen, seen, 5, chunk_size)
    np.testing.assert_array_equal(got, brute_force_rank(users, items, chosen, seen, 5))


def test_users_without_an_unseen_item_get_nothing():
    seen = csr([[0, 1], []])
    np.testing.assert_array_equal(rank(np.ones((2, 1)), np.ones((2, 1)), np.arange(2), seen, 3), [[-1] * 3, [0, 1, -1]])


def test_no_users_and_no_items():
    assert rank(np.ones((2, 1)), np.ones((3, 1)), np.arange(0), csr([[], []]), 4).shape == (0, 4)
    assert rank(np.ones((2, 1)), np.ones((0, 1)), np.arange(2), csr([[], []]), 2).tolist() == [[-1, -1]] * 2


def test_chunks_are_traced_once_and_bounded(monkeypatch):
    rng = np.random.default_rng(1)
    users, items = rng.integers(-9, 9, (23, 3)).astype(np.float32), rng.integers(-9, 9, (40, 3)).astype(np.float32)
    seen = csr([np.flatnonzero(rng.random(40) < 0.2) for _ in range(23)])
    expected = rank(users, items, np.arange(23), seen, 7, chunk_size=23)
    heights = []

    def spy(chunk, *arguments):
        heights.append(len(chunk))
        return function(chunk, *arguments)

    function = ranking.best_items
    traces = function.experimental_get_tracing_count()
    monkeypatch.setattr(ranking, "best_items", spy)
    monkeypatch.setattr(ranking, "MAX_SCORE_BYTES", 4 * 40 * 6 + 1)
    np.testing.assert_array_equal(rank(users, items, np.arange(23), seen, 7, chunk_size=10), expected)
    assert heights == [6] * 4
    monkeypatch.setattr(ranking, "MAX_SCORE_BYTES", 1)
    np.testing.assert_array_equal(rank(users, items, np.arange(23), seen, 7), expected)
    assert set(heights[4:]) == {1}
    assert function.experimental_get_tracing_count() == traces


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_metrics_against_brute_force(data):
    rng = np.random.default_rng(data.draw(st.integers(0, 2**31)))
    num_users, num_items, width = (data.draw(st.integers(1, high)) for high in (6, 8, 12))
    top = np.full((num_users, width), -1, np.int32)
    for row in top:
        answers = rng.permutation(num_items)[: rng.integers(0, min(num_items, width) + 1)]
        row[: len(answers)] = answers
    relevant = [rng.integers(0, num_items, rng.integers(0, 5)).tolist() for _ in range(num_users)]
    relevant[0] = relevant[0] or [0]
    popularity = rng.integers(0, 50, num_items)
    ks = data.draw(st.sets(st.integers(1, 14), min_size=1, max_size=3))
    got = ranking_metrics(top, csr(relevant), list(ks), num_items, popularity)
    expected = brute_force_metrics(top, relevant, ks, num_items, popularity)
    assert got.values.keys() == expected.keys()
    assert got.values == pytest.approx(expected, rel=1e-12)
    assert got.num_users == sum(map(bool, relevant))
    assert got.num_users + got.num_skipped == num_users


def test_metrics_in_blocks_are_the_same(monkeypatch):
    rng = np.random.default_rng(3)
    top = np.stack([rng.permutation(20)[:10] for _ in range(17)])
    relevant = csr([rng.integers(0, 20, 4).tolist() for _ in range(17)])
    whole = ranking_metrics(top, relevant, [3, 10], 20, np.arange(20))
    monkeypatch.setattr(metrics, "METRIC_ROWS", 5)
    assert ranking_metrics(top, relevant, [3, 10], 20, np.arange(20)).values == pytest.approx(whole.values, rel=1e-12)


@pytest.mark.parametrize("k", [5, 20, 60])
def test_ndcg_is_that_of_scikit_learn(k):
    rng = np.random.default_rng(4)
    users, items = rng.normal(size=(80, 8)).astype(np.float32), rng.normal(size=(40, 8)).astype(np.float32)
    seen = rng.random((80, 40)) < 0.2
    relevance = (rng.random((80, 40)) < 0.15) & ~seen
    relevance[:, 0] |= ~relevance.any(axis=1) & ~seen[:, 0]
    relevance[7] = False
    seen_items = csr([np.flatnonzero(row) for row in seen])
    got = evaluate_embeddings(users, items, log(*np.nonzero(relevance)), seen_items, np.ones(40), [k])
    kept = relevance.any(axis=1)
    scores = np.where(seen, -1e9, users.astype(np.float64) @ items.T)
    assert got.values[f"ndcg@{k}"] == pytest.approx(ndcg_score(relevance[kept], scores[kept], k=k), rel=1e-9)
    assert (got.num_users, got.num_skipped) == (kept.sum(), (~kept).sum())
    assert got.num_skipped > 0


def test_evaluation_by_hand():
    """User 0 has seen item 0; item 3 is his target and comes second. User 1 has no target. User 2 misses."""
    users = np.array([[1.0], [1.0], [-1.0]])
    items = np.array([[4.0], [3.0], [0.0], [2.0]])
    got = evaluate_embeddings(users, items, log([0, 2, 2], [3, 0, 0]), csr([[0], [], []]), np.array([9, 1, 0, 3]), [2])
    assert (got.num_users, got.num_skipped) == (2, 1)
    assert got.values == pytest.approx(
        {
            "recall@2": 0.5,
            "precision@2": 0.25,
            "hit@2": 0.5,
            "mrr@2": 0.25,
            "ndcg@2": 0.5 / np.log2(3),
            "coverage@2": 3 / 4,
            "popularity@2": (1 + 3 + 0 + 3) / 4,
        }
    )


def test_a_seen_target_is_missed():
    got = evaluate_embeddings(np.ones((1, 1)), np.ones((3, 1)), log([0], [0]), csr([[0]]), np.ones(3), [3])
    assert got.values["recall@3"] == 0
    assert got.values["popularity@3"] == 1


def test_nothing_to_recommend_counts_as_a_miss():
    got = evaluate_embeddings(np.ones((1, 1)), np.ones((1, 1)), log([0], [0]), csr([[0]]), np.ones(1), [3])
    assert set(got.values.values()) == {0.0}


def test_popularity_baseline():
    targets, seen, popularity = log([0, 1], [1, 2]), csr([[2], []]), np.array([1, 5, 9])
    got = evaluate_popularity(targets, seen, popularity, [1])
    # User 0 has seen the best seller and gets the next, user 1 gets it: both are hits.
    assert got.values["recall@1"] == 1
    assert got.values["popularity@1"] == 7
    # Without the best seller user 1 gets the next one, which is no hit.
    unknown = evaluate_popularity(targets, seen, popularity, [1], unknown_items=np.array([False, False, True]))
    assert unknown.values["recall@1"] == 0.5


GOOD = {"user_index": np.array([0, 1]), "seen": csr([[0], [1]]), "k": 1, "chunk_size": 8}


@pytest.mark.parametrize(
    ("users", "items", "changes", "message"),
    [
        (np.array([[np.nan], [1]]), np.ones((2, 1)), {}, "1 user embeddings hold NaN or infinity, the first in row 0"),
        (np.ones((2, 1)), np.array([[1], [np.inf]]), {}, "1 item embeddings hold NaN or infinity, the first in row 1"),
        (np.full((2, 1), 1e30), np.full((2, 1), 1e30), {}, r"scores may reach 1e\+60, beyond float32: scale"),
        (np.ones((2, 2)), np.ones((2, 1)), {}, r"shapes \[users, d\] and \[items, d\], got \(2, 2\) and \(2, 1\)"),
        (np.ones(2), np.ones((2, 1)), {}, r"embeddings must have shapes"),
        (np.ones((2, 1)), np.ones((2, 1)), {"user_index": np.array([2])}, r"user_index must be in \[0, 2\), got"),
        (np.ones((2, 1)), np.ones((2, 1)), {"user_index": np.array([0.0])}, "user_index must be a vector of integers"),
        (np.ones((2, 1)), np.ones((2, 1)), {"seen": csr([[0]])}, r"indptr of seen must have 2 \+ 1 entries"),
        (np.ones((2, 1)), np.ones((2, 1)), {"seen": csr([[0], [2]])}, r"items of seen must be in \[0, 2\), got values"),
        (
            np.ones((2, 1)),
            np.ones((2, 1)),
            {"seen": (np.array([0, 3, 2]), np.array([0, 1]))},
            "indptr of seen must ascend from 0 to its number of items, 2",
        ),
        (np.ones((2, 1)), np.ones((2, 1)), {"k": 0}, "k and chunk_size must be at least 1, got 0 and 8"),
        (np.ones((2, 1)), np.ones((2, 1)), {"chunk_size": 0}, "k and chunk_size must be at least 1, got 1 and 0"),
    ],
)
def test_rank_errors(users, items, changes, message):
    with pytest.raises(ValueError, match=message):
        rank(users, items, **{**GOOD, **changes})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ks": []}, r"ks must hold at least one cut-off, each 1 or more, got \[\]"),
        ({"ks": [5, 0]}, r"each 1 or more, got \[5, 0\]"),
        ({"top_items": np.array([0, 1])}, r"top_items must have shape \[users, K\], got \(2,\)"),
        ({"top_items": np.array([[0], [3]])}, r"item rows in \[0, 3\) or -1, got values from 0 to 3"),
        ({"item_popularity": np.ones(2)}, r"item_popularity must have shape \[3\], got \(2,\)"),
        ({"relevant": csr([[1]])}, r"indptr of relevant must have 2 \+ 1 entries"),
        ({"relevant": csr([[], []])}, "none of the 2 users has a relevant item: there is nothing to evaluate"),
    ],
)
def test_metric_errors(changes, message):
    good = {"top_items": np.array([[0], [1]]), "relevant": csr([[1], [2]]), "ks": [1], "num_items": 3}
    with pytest.raises(ValueError, match=message):
        ranking_metrics(**{**good, "item_popularity": np.ones(3), **changes})


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (log([], []), "there are no targets: this part of the split is empty; give it a larger share"),
        (log([2], [0]), r"user_index of the targets must be in \[0, 2\), got values from 2 to 2"),
        (log([0], [3]), r"item_index of the targets must be in \[0, 3\)"),
    ],
)
def test_target_errors(targets, message):
    with pytest.raises(ValueError, match=message):
        evaluate_embeddings(np.ones((2, 1)), np.ones((3, 1)), targets, csr([[], []]), np.ones(3), [1])


def test_memory_does_not_grow_with_the_number_of_users():
    """Ranks 20,000 users over 5,000 items, 400 MB of scores, in a process of its own."""
    program = """
import resource
import numpy as np
from tf_hqgnn.evaluation.ranking import rank
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
rng = np.random.default_rng(0)
users, items = rng.normal(size=(20_000, 4)), rng.normal(size=(5_000, 4))
seen = np.zeros(20_001, np.int64), np.zeros(0, np.int32)
rank(users, items, np.arange(256), seen, 5, 256)
before = peak()
rank(users, items, np.arange(20_000), seen, 5, 256)
print(peak() - before)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 60
