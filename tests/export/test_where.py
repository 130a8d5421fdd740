"""The signature `recommend_where`, for every index and several numbers of bits, against NumPy."""

import numpy as np
import pytest
import tensorflow as tf
from request_oracle import check_near, strings, texts, users_of

NUMBERS = ("allow_seen", "diversity", "popularity")
LISTS = {
    "exclude": "exclude_item_id",
    "include": "include_item_id",
    "category": "category",
    "exclude_category": "exclude_category",
}


def ask(signatures, users, k, **wishes):
    """The answer to wishes of which each has a row for every user, or one row for all, or isn't there."""
    inputs = {}
    for name, of_signature in LISTS.items():
        rows = wishes.get(name, [[]])
        width = max(map(len, rows))
        flat = [one for row in rows for one in [*row, *[""] * (width - len(row))]]
        inputs[of_signature] = strings(flat, len(rows), width)
    for name, kind in zip(NUMBERS, (tf.bool, tf.float32, tf.float32)):
        inputs[name] = tf.cast(wishes.get(name, [False]), kind)
    return signatures["recommend_where"](user_id=strings(users), k=tf.constant(k), **inputs)


def of_row(wishes, row):
    return {name: rows[row] if len(rows) > 1 else rows[0] for name, rows in wishes.items()}


def check(served, users, k, **wishes):
    signatures, oracle = served
    outputs = ask(signatures, users, k, **wishes)
    assert outputs["item_id"].shape == outputs["score"].shape == (len(users), k)
    assert outputs["known_user"].numpy().tolist() == [oracle.is_known(user) for user in users]
    for row, user in enumerate(users):
        asked = of_row(wishes, row)
        diversity = asked.pop("diversity", 0.0)
        ranked = oracle.where(user, **asked)
        if diversity:
            size = min(k, len(ranked[1]))
            names = texts(outputs["item_id"][row])
            assert (outputs["num_valid"][row], len({*names[:size]}), names[size:]) == (size, size, [""] * (k - size))
            of_item = dict(zip(ranked[1], ranked[0]))
            expected = [of_item[name] for name in names[:size]]
            np.testing.assert_allclose(outputs["score"][row][:size], expected, rtol=1e-5, atol=1e-5)
            np.testing.assert_allclose(oracle.regrets(ranked, names[:size], k, diversity), 0, atol=1e-5)
        else:
            check_near(outputs, row, k, ranked)


@pytest.fixture
def mixed(served):
    """Wishes of another kind for each of some users of every kind."""
    oracle = served[1]
    names, rng = [*oracle.bundle.item_ids, "nothing"], np.random.default_rng(9)
    users = [*users_of(oracle), *oracle.bundle.user_ids[8:14], "somebody", "else", "other"]
    kinds = [[], ["film"], ["film", "book", "none"], ["none"], ["rare", ""], []]
    rows = range(len(users))
    return users, {
        "exclude": [rng.choice(names, row % 3).tolist() for row in rows],
        "include": [rng.choice(names, 25).tolist() if row % 4 == 1 else [] for row in rows],
        "category": [kinds[row % 6] for row in rows],
        "exclude_category": [kinds[(row + 3) % 5] if row % 2 else [] for row in rows],
        "allow_seen": [row % 5 == 0 for row in rows],
        "diversity": [[0.0, 0.3, 0.0, 0.9][row % 4] for row in rows],
        "popularity": [[0.0, 0.0, -0.7, 0.0, 1.5][row % 5] for row in rows],
    }


@pytest.mark.parametrize("k", [1, 4, 50])
def test_all_wishes_at_once_another_for_each_user(served, mixed, k):
    users, wishes = mixed
    check(served, users, k, **wishes)


@pytest.mark.parametrize(
    "wishes",
    [
        {"category": [["film", "日本"]]},
        {"exclude_category": [["book", "rare"]]},
        {"include": [["i1", "i2", "i3", "i3", "nothing", "i11"]], "popularity": [-2.0]},
        {"include": [["nothing"]]},
        {"allow_seen": [True]},
        {"popularity": [0.5]},
        {"diversity": [1.0]},
        {"diversity": [0.25], "exclude": [["i4"]]},
    ],
    ids=str,
)
@pytest.mark.parametrize("served", ["exact", "scann", "2x8"], indirect=True)
def test_one_wish_for_all_users(served, wishes):
    check(served, users_of(served[1]), 6, **wishes)


@pytest.mark.parametrize("served", ["exact", "scann", "8x8 by blocks"], indirect=True)
def test_without_wishes_it_is_recommend(served):
    signatures, oracle = served
    users = users_of(oracle)
    size = len(users)
    expected = signatures["recommend"](
        user_id=strings(users), k=tf.constant(5), exclude_item_id=strings([], 1, 0), category=strings([""])
    )
    for nothing in ([[]], [[""]], [[]] * size, [[""]] * size):
        outputs = ask(signatures, users, 5, **dict.fromkeys(LISTS, nothing))
        for name, value in expected.items():
            assert outputs[name].numpy().tolist() == value.numpy().tolist(), name


@pytest.mark.parametrize("served", ["exact"], indirect=True)
def test_neighbours_that_want_something_diverse_change_nothing(served):
    signatures, oracle = served
    users = users_of(oracle)
    alone = ask(signatures, users, 5)
    beside = ask(signatures, [*users, "u1"], 5, diversity=[0.0] * len(users) + [1.0])
    for name, value in alone.items():
        assert beside[name].numpy()[:-1].tolist() == value.numpy().tolist(), name


@pytest.mark.parametrize("served", ["exact"], indirect=True)
def test_nobody_asks(served):
    outputs = ask(served[0], [], 3, diversity=[0.5], include=[["i1"]])
    assert {value.shape[0] for value in outputs.values()} == {0}


@pytest.mark.parametrize("served", ["exact", "scann"], indirect=True)
def test_no_answer_is_asked_for(served):
    check(served, users_of(served[1]), 0, diversity=[0.5], category=[["film"]])


@pytest.mark.parametrize(
    ("wishes", "message"),
    [
        ({"include": [["i1"], ["i2"]]}, "include_item_id must have a row for each row of user_id, or one for all"),
        ({"exclude_category": [[]] * 2}, "exclude_category must have a row for each row of user_id, or one for all"),
        ({"popularity": [0.1, 0.2]}, "popularity must have a row for each row of user_id, or one for all of them"),
        ({"diversity": [1.01]}, r"diversity must be from 0 to 1, got\] \[1.01\]"),
        ({"diversity": [np.nan]}, "diversity must be from 0 to 1"),
        ({"popularity": [np.inf]}, "popularity must be from -1e.06 to 1e.06"),
    ],
)
@pytest.mark.parametrize("served", ["exact"], indirect=True)
def test_what_does_not_fit_is_refused(served, wishes, message):
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        ask(served[0], ["u0", "u1", "u2"], 2, **wishes)
