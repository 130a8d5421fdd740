"""Signatures that answer about users and items that a request names, for every index and several numbers of bits."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from export_oracle import check_row, coded, make_bundle
from request_oracle import RequestOracle, check_near, strings, texts, users_of

from tf_hqgnn.config import ExportConfig, RetrievalConfig
from tf_hqgnn.export.layout import EXACT_MODEL, ModelSettings
from tf_hqgnn.export.serving_module import make_module


def test_score(served):
    signatures, oracle = served
    users, rng = users_of(oracle), np.random.default_rng(3)
    names = [*oracle.bundle.item_ids, "nothing", ""]
    lists = [rng.choice(names, 9).tolist() for _ in users]
    outputs = signatures["score"](user_id=strings(users), item_id=strings(np.ravel(lists), len(users), 9))
    shared = signatures["score"](user_id=strings(users), item_id=strings(names, 1, len(names)))
    assert outputs["score"].dtype == tf.float32
    for found, asked in ((outputs, lists), (shared, [names] * len(users))):
        assert found["known_user"].numpy().tolist() == [oracle.is_known(user) for user in users]
        for row, (user, items) in enumerate(zip(users, asked)):
            scores, known = oracle.score(user, items)
            np.testing.assert_allclose(found["score"][row], scores, rtol=1e-5, atol=1e-5)
            assert found["known_item"][row].numpy().tolist() == known


@pytest.mark.parametrize("served", ["exact", "scann", "1x1"], indirect=True)
def test_scores_are_those_that_recommend_ranks_by(served):
    signatures, oracle = served
    users = [user for user in users_of(oracle) if oracle.is_known(user)]
    best = signatures["recommend"](
        user_id=strings(users), k=tf.constant(5), exclude_item_id=strings([], 1, 0), category=strings([""])
    )
    scores = signatures["score"](user_id=strings(users), item_id=best["item_id"])["score"].numpy()
    real = np.arange(5) < best["num_valid"].numpy()[:, None]
    np.testing.assert_allclose(scores[real], best["score"].numpy()[real], rtol=1e-5)
    assert (scores[~real] == 0).all()
    assert (best["score"].numpy()[~real] == np.finfo(np.float32).min).all()


@pytest.mark.parametrize("served", ["exact", "8x8 by blocks"], indirect=True)
@pytest.mark.parametrize(("users", "shape"), [(0, (0, 0)), (0, (0, 3)), (0, (1, 2)), (2, (2, 0)), (2, (1, 0))])
def test_no_pairs_to_score(served, users, shape):
    outputs = served[0]["score"](user_id=strings(["u0"] * users), item_id=tf.fill(shape, ""))
    assert outputs["score"].shape == outputs["known_item"].shape == (users, shape[1])
    assert outputs["known_user"].shape == (users,)


@pytest.mark.parametrize("k", [0, 4, 50])
def test_similar_users(served, k):
    signatures, oracle = served
    users = users_of(oracle)
    outputs = signatures["similar_users"](user_id=strings(users), k=tf.constant(k))
    assert outputs["similar_user_id"].shape == outputs["score"].shape == (len(users), k)
    assert outputs["known_user"].numpy().tolist() == [oracle.is_known(user) for user in users]
    for row, user in enumerate(users):
        check_row({**outputs, "item_id": outputs["similar_user_id"]}, row, k, oracle.similar_users(user, k))


@pytest.mark.parametrize("bits", [None, 8, 1])
def test_many_users_are_searched_by_blocks(bits, monkeypatch):
    """So that what a query takes isn't a score of every user."""
    for module in ("rows", "coded_rows"):
        monkeypatch.setattr(f"tf_hqgnn.retrieval.{module}.BY_BLOCKS_FROM", 1000)
    bundle = make_bundle(num_users=1100)
    users = bundle.users if bits is None else coded(bundle.users, bits)
    bundle = dataclasses.replace(bundle, users=users, known_users=np.arange(1100) % 7 != 6)
    module = make_module(bundle, EXACT_MODEL, ModelSettings(ExportConfig(), RetrievalConfig()))
    assert module.users.by_blocks
    oracle, names = RequestOracle(bundle), ["u1", "u500", "u6", "nobody"]
    for k in (1, 30):
        outputs = module.similar_users(strings(names), tf.constant(k))
        for row, user in enumerate(names):
            check_row({**outputs, "item_id": outputs["similar_user_id"]}, row, k, oracle.similar_users(user, k))


@pytest.mark.parametrize("k", [0, 5, 60])
def test_rerank(served, k):
    signatures, oracle = served
    users, rng = users_of(oracle), np.random.default_rng(5)
    names = [*oracle.bundle.item_ids, "nothing", ""]
    lists = [rng.choice(names, 15).tolist() for _ in users]
    may_see = [bool(row % 2) for row in range(len(users))]
    found = [
        (lists, may_see, strings(np.ravel(lists), len(users), 15), tf.constant(may_see)),
        ([names] * len(users), [True] * len(users), strings(names, 1, len(names)), tf.constant([True])),
    ]
    for asked, seen, candidates, allow_seen in found:
        outputs = signatures["rerank"](
            user_id=strings(users), candidate_item_id=candidates, k=tf.constant(k), allow_seen=allow_seen
        )
        assert outputs["item_id"].shape == outputs["score"].shape == (len(users), k)
        assert outputs["known_user"].numpy().tolist() == [oracle.is_known(user) for user in users]
        for row, user in enumerate(users):
            check_row(outputs, row, k, oracle.rerank(user, asked[row], k, seen[row]))


@pytest.mark.parametrize("served", ["exact", "8x8 by blocks"], indirect=True)
@pytest.mark.parametrize("shape", [(2, 0), (1, 0), (2, 1), (1, 1)])
def test_nothing_to_rerank(served, shape):
    users = strings(["u0", "nobody"])
    outputs = served[0]["rerank"](
        user_id=users, candidate_item_id=tf.fill(shape, ""), k=tf.constant(2), allow_seen=tf.constant([False])
    )
    assert outputs["num_valid"].numpy().tolist() == [0, 0]
    assert outputs["item_id"].numpy().tolist() == [[b"", b""]] * 2


def histories_of(oracle, users):
    """New items of users: none, those that they have taken already, some unknown ones, and repetitions."""
    rng, names = np.random.default_rng(6), [*oracle.bundle.item_ids, "nothing", ""]
    taken = [[oracle.bundle.item_ids[row] for row in sorted(oracle.seen(user))[:2]] for user in users]
    return [[*old, *rng.choice(names, row % 4).tolist()] for row, old in enumerate(taken)]


@pytest.mark.parametrize("category", ["", "film"])
def test_recommend_with_history(served, category):
    signatures, oracle = served
    users = [*users_of(oracle), *oracle.bundle.user_ids[8:20], "somebody"]
    histories = histories_of(oracle, users)
    width = max(map(len, histories))
    flat = [name for names in histories for name in names + [""] * (width - len(names))]
    excluded = oracle.bundle.item_ids[[3, 5]]
    outputs = signatures["recommend_with_history"](
        user_id=strings(users),
        history_item_id=strings(flat, len(users), width),
        k=tf.constant(7),
        exclude_item_id=strings(np.tile(excluded, len(users)), len(users), 2),
        category=strings([category] * len(users)),
    )
    known = [[name for name in names if name in oracle.item_rows] for names in histories]
    expected = [oracle.is_known(user) or bool(names) for user, names in zip(users, known)]
    assert outputs["known_user"].numpy().tolist() == expected
    unknown = [sum(name not in ("", *names) for name in history) for history, names in zip(histories, known)]
    assert outputs["num_unknown"].numpy().tolist() == unknown
    for row, (user, history) in enumerate(zip(users, histories)):
        check_near(outputs, row, 7, oracle.with_history(user, history, None, excluded, category))


@pytest.mark.parametrize("k", [0, 3, 45])
def test_explain_says_what_of_the_history_a_score_is_made_of(served, k):
    signatures, oracle = served
    users = [*oracle.bundle.user_ids[:10], "nobody", oracle.bundle.user_ids[4]]
    items = [*oracle.bundle.item_ids[3:14], "nothing"]
    outputs = signatures["explain"](user_id=strings(users), item_id=strings(items), k=tf.constant(k))
    assert outputs["history_item_id"].shape == outputs["share"].shape == (len(users), k)
    assert outputs["known_user"].numpy().tolist() == [oracle.is_known(user) for user in users]
    assert outputs["known_item"].numpy().tolist() == [True] * 11 + [False]
    for row, (user, item) in enumerate(zip(users, items)):
        shares, score, rest = oracle.explain(user, item)
        size = min(k, len(shares))
        assert outputs["num_valid"][row] == size
        names, found = texts(outputs["history_item_id"][row]), outputs["share"][row].numpy()
        assert names[size:] == [""] * (k - size)
        np.testing.assert_allclose(
            found, [*sorted(shares.values())[::-1][:size], *[0] * (k - size)], rtol=1e-4, atol=1e-5
        )
        of_name = {oracle.bundle.item_ids[one]: share for one, share in shares.items()}
        np.testing.assert_allclose(found[:size], [of_name[name] for name in names[:size]], rtol=1e-4, atol=1e-5)
        assert len(set(names[:size])) == size
        assert outputs["score"][row].numpy() == pytest.approx(score, rel=1e-5, abs=1e-5)
        assert outputs["rest"][row].numpy() == pytest.approx(rest, rel=1e-3, abs=1e-4)
        if k > len(shares):
            assert found.sum() + outputs["rest"][row].numpy() == pytest.approx(score, rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("served", ["exact"], indirect=True)
def test_nothing_to_explain(served):
    outputs = served[0]["explain"](user_id=strings([], 0), item_id=strings([], 0), k=tf.constant(2))
    assert {value.shape[0] for value in outputs.values()} == {0}


@pytest.mark.parametrize("served", ["exact"], indirect=True)
def test_lists_that_are_not_used_are_left_out(served):
    """Of every shape that means nothing to exclude and any category, the answer is the same."""
    signatures, oracle = served
    users = users_of(oracle)
    size = len(users)
    nothing = [strings([], size, 0), strings([""] * size, size, 1), strings([], 1, 0), strings([""], 1, 1)]
    for name, asked in (
        ("recommend", {"user_id": strings(users)}),
        ("recommend_for_history", {"history_item_id": strings(users, size, 1)}),
        ("recommend_with_history", {"user_id": strings(users), "history_item_id": strings([], 1, 0)}),
    ):
        answers = [
            signatures[name](**asked, k=tf.constant(3), exclude_item_id=excluded, category=category)
            for excluded in nothing
            for category in (strings([""] * size), strings([""]))
        ]
        for answer in answers[1:]:
            for output, expected in answers[0].items():
                assert answer[output].numpy().tolist() == expected.numpy().tolist(), output


TWO, THREE = strings(["i0", "i1"], 2, 1), strings(["u0", "u1", "u2"])
RERANK = {"candidate_item_id": strings(["i0"], 1, 1), "k": tf.constant(1), "allow_seen": tf.constant([True])}

NO_LIST = strings([], 1, 0)
HISTORY = {"history_item_id": NO_LIST, "k": tf.constant(1), "exclude_item_id": NO_LIST, "category": strings([""])}


@pytest.mark.parametrize(
    ("name", "inputs", "message"),
    [
        ("score", {"item_id": TWO}, "item_id must have a row for each row of user_id, or one for all of them, got"),
        (
            "rerank",
            {**RERANK, "candidate_item_id": TWO},
            "candidate_item_id must have a row for each row of user_id, or",
        ),
        (
            "rerank",
            {**RERANK, "allow_seen": tf.constant([True, False])},
            "allow_seen must have a row for each row of us",
        ),
        ("rerank", {**RERANK, "k": tf.constant(-1)}, r"k must be from 0 to 65536 \(the catalogue has 40 items\), got"),
        (
            "recommend_with_history",
            {**HISTORY, "history_item_id": TWO},
            "history_item_id must have a row for each row of",
        ),
        (
            "recommend_with_history",
            {**HISTORY, "exclude_item_id": TWO},
            "exclude_item_id must have a row for each row of",
        ),
        ("recommend_with_history", {**HISTORY, "category": strings(["film"])}, "category must have a row for each row"),
        (
            "explain",
            {"item_id": strings(["i0"]), "k": tf.constant(1)},
            "item_id must have a row for each row of user_id",
        ),
        ("similar_users", {"k": tf.constant(65537)}, r"k must be from 0 to 65536 \(the model has 30 users\), got"),
    ],
)
@pytest.mark.parametrize("served", ["exact"], indirect=True)
def test_what_does_not_fit_is_refused(served, name, inputs, message):
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        served[0][name](user_id=THREE, **inputs)
