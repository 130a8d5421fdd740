"""What a recommender answers: the exported model is the oracle, or what can be worked out by hand."""

import numpy as np
import pandas as pd
import polars as pl
import pytest

from tf_hqgnn import InputError, Recommender
from tf_hqgnn.export.layout import newest_version
from tf_hqgnn.queries.queries import CHUNK_USERS
from tf_hqgnn.serving.client import LocalModel


@pytest.fixture(scope="module")
def exported(model, tmp_path_factory):
    """The SavedModel of the same model."""
    folder = tmp_path_factory.mktemp("export")
    assert model.export(folder) == 1
    return LocalModel(newest_version(folder, "hqgnn"))


def rows(table):
    return [tuple(row) for row in table.itertuples(index=False)]


def of_answers(answers, names, known):
    """What a table must hold, from the answers of the exported model."""
    return [
        (name, rank, int(item), pytest.approx(float(score)), getattr(answer, known), f"Title {item}")
        for name, answer in zip(names, answers)
        for rank, (item, score) in enumerate(zip(answer.item_ids, answer.scores), 1)
    ]


def test_the_first_table(model, log):
    table = model.recommend([100, 105], k=3)
    assert list(table.columns) == ["user_id", "rank", "item_id", "score", "known", "title"]
    # The type of text depends on pandas.
    assert [str(kind) for kind in table.dtypes[:5]] == ["int64", "int64", "int64", "float32", "bool"]
    assert table["user_id"].tolist() == [100] * 3 + [105] * 3
    assert table["rank"].tolist() == [1, 2, 3] * 2
    taken = set(map(tuple, log[["user_id", "item_id"]].to_numpy()))
    assert not taken & set(zip(table["user_id"], table["item_id"]))


def test_without_items_there_are_no_titles(plain):
    assert list(plain.recommend([100])) == ["user_id", "rank", "item_id", "score", "known"]


@pytest.mark.parametrize("options", [{}, {"category": "even"}, {"exclude": [7, 12, 30]}])
def test_recommend_is_what_the_export_answers(model, exported, options):
    users = [*range(100, 300), 9]
    given = {key: list(map(str, value)) if key == "exclude" else value for key, value in options.items()}
    expected = of_answers(exported.recommend(list(map(str, users)), 7, **given), users, "known_user")
    assert rows(model.recommend(users, 7, **options)) == expected


def test_an_item_may_have_several_categories(log, items, model, settings):
    is_small = items["item_id"] <= 40
    several = items.assign(category=np.where(is_small, items["category"] + " | small", items["category"]))
    new = Recommender("spectral", verbose=0, **settings).fit(log, items=several)
    for category in ("even", "odd", "small"):
        found = new.recommend([100, 101, 1], k=120, category=category)["item_id"]
        fits = items["item_id"][is_small if category == "small" else items["category"] == category]
        assert len(found)
        assert {*found} <= {*fits}
    pd.testing.assert_frame_equal(
        new.recommend([100, 1], k=9, category="even"), model.recommend([100, 1], k=9, category="even")
    )
    with_any = new.recommend_where([100], k=120, category=["small", "odd"], allow_seen=True)["item_id"]
    available = items["available"]
    assert {*with_any} == {*items["item_id"][available & (is_small | (items["category"] == "odd"))]}


def test_an_unknown_category_is_said(model):
    with pytest.warns(UserWarning, match=r"^unknown category 'Evn'; did you mean 'even'\?$") as caught:
        assert len(model.recommend([100], category="Evn")) == 0
    assert [warning.filename for warning in caught] == [__file__]


def test_histories_and_similar_items_are_what_the_export_answers(model, exported):
    histories = [[1, 2, 40], [5], [], [77777, 3]]
    asked = [[str(item) for item in one] for one in histories]
    expected = of_answers(exported.recommend_for_history(asked, 5), range(4), "known_user")
    assert rows(model.recommend_for_history(histories, 5)) == expected
    answered = model.recommend_for_history({"ann": [1], "bob": [2]}, 1)
    assert answered["user_id"].tolist() == ["ann", "bob"]
    items = [1, 50, 99999, 120]
    expected = of_answers(exported.similar_items(list(map(str, items)), 4), items, "known_item")
    similar = model.similar_items(items, 4)
    assert rows(similar) == expected
    assert list(similar.columns)[:3] == ["target_item_id", "rank", "item_id"]


def test_named_users_and_items_are_what_the_export_answers(model, exported):
    users = [*range(100, 140), 9]
    names, candidates = list(map(str, users)), [str(one) for one in (4, 3, 99999, 2, 7, 30)]
    scores = model.score(users, candidates, as_arrays=True)
    for row, answer in enumerate(exported.score(names, candidates)):
        assert (answer.user_id, answer.known_user) == (names[row], users[row] != 9)
        assert answer.known_items.tolist() == [one != "99999" for one in candidates]
        expected = np.where(answer.known_items & answer.known_user, answer.scores, np.nan)
        np.testing.assert_array_equal(scores[row], expected)
    assert [answer.scores.tolist() for answer in exported.score(["9", "100"], [["1"], []])] == [[0.0], []]
    expected = of_answers(exported.rerank(names, candidates, 4), users, "known_user")
    assert rows(model.rerank(users, candidates, 4)) == expected
    histories = [[str(row + 1), "77777"] for row in range(len(users))]
    expected = of_answers(exported.recommend_with_history(names, histories, 4), users, "known_user")
    assert rows(model.recommend_with_history(users, histories, 4)) == expected
    wishes = {"include": [*candidates, "5", "9"], "exclude": ["4"], "popularity": -0.5, "allow_seen": True}
    wishes |= {"category": ["even", "odd"], "exclude_category": "none", "diversity": 0.3}
    expected = of_answers(exported.recommend_where(names, 4, **wishes), users, "known_user")
    assert rows(model.recommend_where(users, 4, **wishes)) == expected
    table, answers = model.similar_users(users, 3), exported.similar_users(names, 3)
    assert table["user_id"].tolist() == [int(one) for answer in answers for one in answer.user_ids]
    assert [answer.known_user for answer in answers] == [True] * 40 + [False]
    assert (exported.score([], []), exported.rerank([], []), exported.similar_users([])) == ([], [], [])


def test_unknown_users_get_popular_items(model, log, items):
    table = model.recommend([1], k=3)
    available = items["item_id"].to_numpy()[items["available"].to_numpy()]
    # Of equally popular ones the first by its text.
    ranked = sorted(available, key=lambda item: (-(log["item_id"] == item).sum(), str(item)))
    assert table["item_id"].tolist() == ranked[:3]
    assert not table["known"].any()
    # An id that isn't even a number can't be one of this log.
    assert model.recommend(["nobody", 100], k=1)["user_id"].tolist() == ["nobody", "100"]


def test_everybody_in_chunks(model, log, monkeypatch):
    monkeypatch.setattr("tf_hqgnn.queries.queries.CHUNK_USERS", 64)
    table = model.recommend("all", k=5)
    assert sorted(table["user_id"].unique()) == sorted(log["user_id"].unique())
    one_by_one = pd.concat([model.recommend([user], k=5) for user in table["user_id"].unique()], ignore_index=True)
    pd.testing.assert_frame_equal(table, one_by_one)
    assert CHUNK_USERS > 64
    scores, item_ids = model.recommend("all", k=5, as_arrays=True)
    assert scores.shape == item_ids.shape == (200, 5)
    assert item_ids.dtype == np.int64
    np.testing.assert_array_equal(item_ids.ravel(), table["item_id"])


def test_arrays_are_padded_where_there_is_no_answer(model):
    scores, item_ids = model.recommend([100], k=500, as_arrays=True)
    real = np.isfinite(scores)
    assert item_ids.shape == (1, 500)
    assert len(model.recommend([100], k=500)) == real.sum() < 120
    assert (item_ids[~real] == -1).all()
    assert 3 not in item_ids  # It isn't available.


@pytest.mark.parametrize("k", [0, -1, 2.0, "5", True, None])
def test_wrong_k(model, k):
    with pytest.raises(InputError, match="k: expected a whole number from 1 on"):
        model.recommend([100], k=k)


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda m: m.recommend([None]), "users: None is not an id; expected strings or whole numbers"),
        (lambda m: m.recommend([True]), "users: True is not an id"),
        (lambda m: m.recommend([1.5]), "users: 1.5 is not an id"),
        (lambda m: m.recommend(pd.DataFrame({"user_id": [1]})), "users: expected a list or a column of ids, got a tab"),
        (lambda m: m.recommend([1, 2], exclude=[[3]]), "exclude: expected one list for each of the 2 users, got 1"),
        (lambda m: m.recommend([1], exclude=[3, [4]]), "exclude: expected ids of items or lists of them, not both"),
        (lambda m: m.recommend([1], category=["a", "b"]), "category: expected one for each of the 1 users, got 2"),
        (lambda m: m.recommend_for_history([1, 2]), "histories: expected a list of ids of items for each user, got 1"),
        (lambda m: m.score([1, 2], [[3]]), "items: expected one list for each of the 2 users, got 1"),
        (lambda m: m.rerank([1], [3], allow_seen=1), "allow_seen: expected True or False, or one for each of the 1"),
        (lambda m: m.rerank([1], [3], allow_seen=[True, False]), "allow_seen: expected True or False, or one for each"),
        (lambda m: m.recommend_where([1], diversity=2), "diversity: expected a number from 0 to 1, or one for each of"),
        (lambda m: m.recommend_where([1, 2], popularity=[np.nan, 1]), "popularity: expected a number from -1e+06 to"),
        (
            lambda m: m.recommend_where([1], allow_seen=1),
            "allow_seen: expected True or False, or one for each of the 1",
        ),
        (
            lambda m: m.recommend_where([1], include=[[2], [3]]),
            "include: expected one list for each of the 1 users, go",
        ),
        (lambda m: m.explain([1, 2], [3]), "items: expected one for each of the 2 users, got 1"),
        (lambda m: m.similar_users([1], k=0), "k: expected a whole number from 1 on, got 0"),
        (
            lambda m: m.recommend_with_history([1], [[1], [2]]),
            "histories: expected one list for each of the 1 users, got",
        ),
        (
            lambda m: m.evaluate(pd.DataFrame({"user_id": [1], "item_id": [1]})),
            "evaluate: the log has nothing to judge",
        ),
    ],
)
def test_wrong_questions_are_refused_in_one_line(model, ask, message):
    with pytest.raises(InputError) as caught:
        ask(model)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("users", [100, "100", np.int64(100), [100.0], np.array([100]), pd.Series([100]), {100}])
def test_users_in_every_form(model, users):
    pd.testing.assert_frame_equal(model.recommend(users, k=2), model.recommend([100], k=2))


def test_scores(model):
    best = model.recommend([100], k=5)
    asked = [*best["item_id"][::-1], 99999]
    scores = model.score([100, 1], asked, as_arrays=True)
    np.testing.assert_array_equal(scores[0, :5], best["score"][::-1])
    assert np.isnan(scores[:, 5]).all()
    table = model.score([100, 1], asked)
    assert table["item_id"][:6].tolist() == [*best["item_id"], 99999]
    assert table["known"].tolist() == [True] * 5 + [False] * 7
    assert table["rank"].tolist() == [1, 2, 3, 4, 5, 6] * 2
    # The rows of users and items, multiplied, are the scores.
    (users, rows_of_users), (items, rows_of_items) = model.user_embeddings(), model.item_embeddings()
    product = (
        rows_of_users[users.tolist().index(100)] @ rows_of_items[[items.tolist().index(one) for one in asked[:5]]].T
    )
    np.testing.assert_allclose(product, scores[0, :5], rtol=1e-5)


def test_scores_of_a_list_for_each_user(model):
    lists = [[7, 99999, 3], [5], []]
    scores = model.score([100, 101, 102], lists, as_arrays=True)
    assert scores.shape == (3, 3)
    assert np.isnan(scores).tolist() == [[False, True, False], [False, True, True], [True] * 3]
    table = model.score([100, 101, 102], lists)
    assert table["user_id"].tolist() == [100, 100, 100, 101]
    assert table["item_id"].tolist() == [*sorted([7, 3], key=lambda one: -scores[0, [7, 3].index(one) * 2]), 99999, 5]
    assert table["rank"].tolist() == [1, 2, 3, 1]
    assert list(model.score([], [1])) == ["user_id", "rank", "item_id", "score", "known", "title"]


def test_similar_users(model):
    users, embeddings = model.user_embeddings()
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    row = users.tolist().index(105)
    cosines = unit @ unit[row]
    cosines[row] = -2
    table = model.similar_users([105, 9], k=4)
    assert list(table) == ["target_user_id", "rank", "user_id", "score", "known"]
    assert table["user_id"].tolist() == users[np.argsort(-cosines)[:4]].tolist()
    np.testing.assert_allclose(table["score"], np.sort(cosines)[::-1][:4], rtol=1e-4)
    assert table["target_user_id"].tolist() == [105] * 4
    scores, found = model.similar_users([105], k=300, as_arrays=True)
    assert found.shape == (1, 300)
    assert (found != -1).sum() == np.isfinite(scores).sum() == 199


def test_rerank(model, log):
    best = model.recommend([100], k=5)["item_id"].tolist()
    assert model.rerank([100], [*best[::-1], 99999, 3])["item_id"].tolist() == best
    taken = log.loc[log["user_id"] == 100, "item_id"].unique().tolist()
    assert len(model.rerank([100], taken, k=50)) == 0
    scores = model.score([100], taken)
    seen = model.rerank([100], taken, k=50, allow_seen=True)
    assert seen["item_id"].tolist() == [one for one in scores["item_id"] if one != 3]
    # Whoever isn't known gets what is popular.
    popular = model.recommend([1], k=3)["item_id"].tolist()
    assert model.rerank([1], popular[::-1])["item_id"].tolist() == popular


def test_explain(model, exported, log):
    asked = [4, 30, 99999]
    table = model.explain([100, 101, 102], asked, k=200)
    assert list(table) == ["user_id", "target_item_id", "rank", "item_id", "share", "score", "rest", "title"]
    for user, item in ((100, 4), (101, 30)):
        found = table[table["user_id"] == user]
        assert set(found["item_id"]) == set(log.loc[log["user_id"] == user, "item_id"])
        assert (np.diff(found["share"]) <= 0).all()
        (score,) = model.score([user], [item], as_arrays=True)[0]
        assert found["score"].unique().tolist() == [pytest.approx(score, rel=1e-5)]
        assert found["share"].sum() + found["rest"].iloc[0] == pytest.approx(score, rel=1e-3, abs=1e-5)
    assert 102 not in set(table["user_id"])
    answers = exported.explain(["100", "101", "102"], list(map(str, asked)), k=200)
    assert [int(one) for answer in answers for one in answer.item_ids] == table["item_id"].tolist()
    assert [(answer.known_user, answer.known_item) for answer in answers] == [(True, True)] * 2 + [(True, False)]
    assert exported.explain([], []) == []


def test_new_items_of_a_known_user(model):
    before = model.recommend([100, 101], k=20)
    assert (
        model.recommend_with_history([100, 101], [[], [99999]], k=20)["item_id"].tolist() == before["item_id"].tolist()
    )
    new = before["item_id"][0]
    after = model.recommend_with_history([100], [[new]], k=20)["item_id"].tolist()
    assert new not in after
    # What is near the new item rises.
    similar = model.similar_items([new], k=5)["item_id"].tolist()
    ranks = {one: rank for rank, one in enumerate(before["item_id"][:20])}
    risen = [ranks[one] - 1 - after.index(one) for one in similar if one in ranks and one in after]
    assert risen
    assert sum(risen) >= 0
    stranger = model.recommend_with_history([1], [[new, 2]], k=5)
    expected = model.recommend_for_history({1: [new, 2]}, k=5)
    assert stranger["item_id"].tolist() == expected["item_id"].tolist()


def test_metrics_of_a_log_that_was_held_out(plain):
    top = plain.recommend([100, 101], k=2)["item_id"].tolist()
    # 100 took its first item and a new one, 101 its second; 5 isn't known, and what 100 took before doesn't count.
    held_out = pd.DataFrame({"user_id": [100, 100, 101, 5], "item_id": [top[0], 99999, top[3], top[0]]})
    metrics = plain.evaluate(held_out, k=[1, 2])
    first, second = 1, 1 / np.log2(3)
    assert metrics["recall@1"] == pytest.approx((0.5 + 0) / 2)
    assert metrics["recall@2"] == pytest.approx((0.5 + 1) / 2)
    assert metrics["ndcg@2"] == pytest.approx((first / (first + second) + second) / 2)
    assert metrics["hit@2"] == 1


def test_polars_in_polars_out(log, plain):
    fitted = Recommender("spectral", verbose=0, **{"model.embedding_dim": 16}).fit(pl.from_pandas(log))
    table = fitted.recommend([100, 1], k=2)
    assert isinstance(table, pl.DataFrame)
    assert table.schema == {
        "user_id": pl.Int64, "rank": pl.Int64, "item_id": pl.Int64, "score": pl.Float32, "known": pl.Boolean
    }  # fmt: skip
    assert table.rows() == rows(plain.recommend([100, 1], k=2))
    assert isinstance(plain.recommend(pl.Series([100])), pl.DataFrame)
    assert fitted.recommend([]).schema["item_id"] == pl.Int64
