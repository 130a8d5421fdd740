"""What a log says of liking and of age reaches the trained rows, and what was taken or disliked never comes back."""

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from tf_hqgnn import Recommender
from tf_hqgnn.data.synthetic import generate_log
from tf_hqgnn.export.bundle import as_float32
from tf_hqgnn.export.loading import load_saved_model
from tf_hqgnn.types import InputError

DAY = 86_400
TRAINED = {"training.max_epochs": 1, "training.jit_compile": False, "model.embedding_dim": 8}
SPLIT = {"data.split.valid": 0.1, "data.split.test": 0.1}
NAMES = {"user_id": "customer", "item_id": "sku", "timestamp": "ts", "event": "what"}


def shop_log():
    """Views, a third of which become purchases, with ratings: names and types as a shop has them."""
    generated = generate_log(150, 80, 2500, seed=3)
    random = np.random.default_rng(3)
    users, items = generated.user_index.astype(np.int64), generated.item_index.astype(np.int64)
    times = 1_700_000_000 + random.integers(0, 100, len(users)) * DAY
    bought = random.random(len(users)) < 1 / 3
    ratings = random.integers(1, 6, bought.sum())
    # The last is somebody who has bought one thing, and didn't like it.
    columns = {
        "customer": [*users, *users[bought], 999],
        "sku": [*items, *items[bought], np.bincount(items).argmax()],
        "ts": [*times, *(times[bought] + 60), times[0]],
        "what": ["view"] * len(users) + ["purchase"] * (bought.sum() + 1),
        "rating": [3] * len(users) + [*ratings, 1],
    }
    return pd.DataFrame(columns)


LOG = shop_log()
RULES = {"data.event_weights": {"view": 1, "purchase": 5}, "data.negative_rating": 3, "data.half_life_days": 30}


def pairs(frame, user="customer", item="sku"):
    return set(zip(frame[user].astype(str), frame[item].astype(str)))


@pytest.fixture(scope="module")
def shop():
    settings = {**SPLIT, **RULES, **TRAINED, "training.refit": False}
    return Recommender("default", verbose=0, **settings).fit(LOG, columns=NAMES)


@pytest.fixture(scope="module")
def viewers():
    """A model by which viewed goods may come back, from the log as a file."""
    settings = {**SPLIT, **RULES, **TRAINED, "training.refit": False, "data.exclude_events": ["purchase"]}
    return Recommender("default", verbose=0, **settings).fit(LOG, columns=NAMES)


def test_nothing_taken_or_disliked_comes_back(shop, viewers):
    rejected = pairs(LOG[LOG["rating"] < 3])
    users = LOG["customer"].unique()
    everything = shop.recommend(users, k=80)
    assert not pairs(everything, "user_id", "item_id") & pairs(LOG)
    again = pairs(viewers.recommend(users, k=80), "user_id", "item_id")
    assert not again & (pairs(LOG[LOG["what"] == "purchase"]) | rejected)
    seen_only = pairs(LOG) - pairs(LOG[LOG["what"] == "purchase"]) - rejected
    # All that isn't excluded comes back among all 80 items.
    assert again >= seen_only


def test_what_was_disliked_explains_nothing(shop):
    best = shop.recommend(LOG["customer"].unique(), k=1)
    why = pairs(shop.explain(best["user_id"], best["item_id"], k=80), "user_id", "item_id")
    assert len(why) > 500
    assert not why & pairs(LOG[LOG["rating"] < 3])
    assert why <= pairs(LOG)


def test_a_disliked_item_comes_out_of_no_export(shop, tmp_path):
    version = shop.export(tmp_path)
    users = [str(user) for user in LOG["customer"].unique()]
    rejected = pairs(LOG[LOG["rating"] < 3])
    assert len(rejected) > 100
    for name in ("hqgnn", "hqgnn_scann"):
        if name == "hqgnn_scann":
            pytest.importorskip("scann")
        model = load_saved_model(tmp_path / name / str(version))
        found = model.signatures["recommend"](
            user_id=tf.constant(users),
            k=tf.constant(40),
            exclude_item_id=tf.constant([[""]] * len(users)),
            category=tf.constant([""] * len(users)),
        )
        answers = {
            (user, item.decode())
            for user, items, valid in zip(users, found["item_id"].numpy(), found["num_valid"].numpy())
            for item in items[:valid]
        }
        assert len(answers) > 1000
        assert not answers & (rejected | pairs(LOG))


def test_a_held_out_row_can_still_judge(shop):
    assert shop.metrics_["valid"]["ndcg@20"] > 0
    run = shop._fitted().run
    test = run.dataset.test
    held_out = pd.DataFrame(
        {"user_id": run.dataset.user_ids[test.user_index], "item_id": run.dataset.item_ids[test.item_index]}
    )
    assert shop.evaluate(held_out, k=[20])["ndcg@20"] > 0


def rows_of(log, **settings):
    """The rows of a model of the log."""
    model = Recommender("default", verbose=0, **{**TRAINED, **settings}).fit(log)
    bundle = model._fitted().bundle
    return as_float32(bundle.users), as_float32(bundle.items), bundle.item_popularity


@pytest.fixture(scope="module")
def plain():
    generated = generate_log(60, 40, 500, seed=4)
    times = 1_700_000_000 + np.arange(500) * DAY
    return pd.DataFrame({"user_id": generated.user_index, "item_id": generated.item_index, "timestamp": times})


@pytest.fixture(scope="module")
def plain_rows(plain):
    return rows_of(plain)


@pytest.mark.parametrize(
    ("settings", "weight"),
    [({"data.half_life_days": np.inf}, None), ({}, 0.001), ({}, 1000.0)],
    ids=["endless half-life", "light", "heavy"],
)
def test_what_says_nothing_changes_nothing(plain, plain_rows, settings, weight):
    log = plain if weight is None else plain.assign(weight=weight)
    for one, other in zip(rows_of(log, **settings), plain_rows):
        np.testing.assert_array_equal(one, other)


def test_a_weighted_pair_equals_repeated_pairs(plain, plain_rows):
    times = np.random.default_rng(1).integers(1, 4, len(plain))
    repeated = rows_of(plain.loc[np.repeat(plain.index, times)])
    for one, other, before in zip(rows_of(plain.assign(weight=times.astype(float))), repeated, plain_rows):
        np.testing.assert_array_equal(one, other)
        assert not np.array_equal(one, before)


def test_a_path_has_other_names_by_argument_and_by_setting(tmp_path):
    path = tmp_path / "log.csv"
    LOG.to_csv(path, index=False)
    settings = {"training.max_epochs": 0, "model.embedding_dim": 4}
    by_argument = Recommender("default", verbose=0, **settings).fit(path, columns=NAMES)
    by_setting = Recommender("default", verbose=0, **settings, **{"data.columns": NAMES}).fit(path)
    in_memory = Recommender("default", verbose=0, **settings).fit(LOG, columns=NAMES)
    assert by_argument.config_.data.columns == by_setting.config_.data.columns == NAMES
    users = ["1", "2", "3"]
    answers = [model.recommend(users, k=5, as_arrays=True)[1].astype(str) for model in (by_argument, by_setting)]
    np.testing.assert_array_equal(*answers)
    np.testing.assert_array_equal(answers[0], in_memory.recommend([1, 2, 3], k=5, as_arrays=True)[1].astype(str))
    assert by_argument.data_report_.unused == ("what",)
    with pytest.raises(InputError, match="'user' is not a column"):
        Recommender(verbose=0).fit(path, columns={"user": "customer"})
