"""Training batches: every interaction once an epoch, the same from any epoch on."""

import numpy as np
import pytest

from tf_hqgnn.data import datasets
from tf_hqgnn.data.datasets import steps_per_epoch, training_batches
from tf_hqgnn.types import Interactions


def interactions(num_users=30, num_items=11, n=100):
    pairs = np.random.default_rng(0).choice(num_users * num_items, n, replace=False).astype(np.int32)
    return Interactions(pairs // num_items, pairs % num_items)


def take(dataset, n):
    return [{name: value.numpy() for name, value in batch.items()} for batch in dataset.take(n)]


def pairs(batches):
    return [(int(u), int(i)) for b in batches for u, i in zip(b["user_index"], b["item_index"])]


def test_an_epoch_has_every_interaction_once_in_an_order_of_its_own():
    train = interactions()
    batches = take(training_batches(train, 11, 10, seed=3), 20)
    first, second = pairs(batches[:10]), pairs(batches[10:])
    everything = sorted(zip(train.user_index.tolist(), train.item_index.tolist()))
    assert sorted(first) == sorted(second) == everything
    assert first != second
    assert first != everything


def test_a_resumed_run_sees_the_batches_that_were_left():
    train = interactions()
    steps = steps_per_epoch(len(train), 16)
    whole = take(training_batches(train, 11, 16, seed=3, num_negatives=2), 3 * steps)
    resumed = take(training_batches(train, 11, 16, seed=3, first_epoch=2, num_negatives=2), steps)
    for a, b in zip(whole[2 * steps :], resumed):
        for name in a:
            np.testing.assert_array_equal(a[name], b[name])


def test_the_seed_matters():
    assert pairs(take(training_batches(interactions(), 11, 10, 1), 1)) != pairs(
        take(training_batches(interactions(), 11, 10, 2), 1)
    )


def test_the_order_is_the_seeds_permutation():
    train = interactions()
    order = np.random.default_rng((3, 1)).permutation(100)
    found = pairs(take(training_batches(train, 11, 10, seed=3, first_epoch=1), 10))
    assert found == list(zip(train.user_index[order].tolist(), train.item_index[order].tolist()))


def test_a_batch_larger_than_the_log_is_the_log():
    assert steps_per_epoch(5, 100) == 1
    (batch,) = take(training_batches(interactions(n=5), 11, 100, 0), 1)
    assert len(batch["user_index"]) == 5


def test_negatives_are_uniform_over_items_that_the_user_has_not_seen():
    train = interactions(n=60)
    seen = set(zip(train.user_index.tolist(), train.item_index.tolist()))
    batches = take(training_batches(train, 11, 60, 5, num_negatives=50), 4)
    counts = np.zeros(11)
    false, total = 0, 0
    for batch in batches:
        for user, negatives in zip(batch["user_index"], batch["negative_index"]):
            counts += np.bincount(negatives, minlength=11)
            false += sum((int(user), int(item)) in seen for item in negatives)
            total += len(negatives)
    # A user here has seen 2 to 6 of 11 items; one draw would give a quarter of false negatives, four give (n/11)^4.
    assert false / total < 0.04
    assert counts.min() > 0.5 * counts.mean()


@pytest.mark.parametrize("table_bytes", [datasets.TABLE_BYTES, 0], ids=["table", "histories"])
def test_positives_are_what_a_user_has_seen(table_bytes, monkeypatch):
    monkeypatch.setattr(datasets, "TABLE_BYTES", table_bytes)
    train = interactions()
    seen = set(zip(train.user_index.tolist(), train.item_index.tolist()))
    for batch in take(training_batches(train, 11, 40, 5, seen=train.to_csr(30)), 3):
        users, items = batch["user_index"], batch["item_index"]
        expected = [[(int(user), int(item)) in seen for item in items] for user in users]
        assert len(set(items.tolist())) < len(items)  # repeated items are among them
        np.testing.assert_array_equal(batch["is_positive"], expected)


def test_too_few_interactions():
    with pytest.raises(ValueError, match="at least 2 interactions, got 1"):
        training_batches(interactions(n=1), 11, 10, 0)
