"""Recommender learns from features of users and items; scikit-learn and NumPy are the oracles."""

from __future__ import annotations

import json
import pickle
import sys
from unittest import mock

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from sklearn.linear_model import Ridge

from tf_hqgnn import Recommender
from tf_hqgnn.beam.batch import batch
from tf_hqgnn.cli.commands import main
from tf_hqgnn.export.layout import newest_version
from tf_hqgnn.export.new_items import add_items
from tf_hqgnn.export.warmup import replay_warmup
from tf_hqgnn.features.model import WORTH
from tf_hqgnn.queries.arrays import feature_texts
from tf_hqgnn.retrieval.histories import fit_hop_map, hop
from tf_hqgnn.serving.client import LocalModel
from tf_hqgnn.types import InputError

SHELVES = ("bread", "cheese", "fish", "fruit")


@pytest.fixture(scope="module")
def shop():
    """60 users of four tastes and 80 items on four shelves; item 900 and user 700 are in no log."""
    rng = np.random.default_rng(5)
    rows = [
        (user, shelf * 20 + item)
        for user in range(60)
        for shelf in (user % 4, (user // 4) % 4)
        for item in rng.permutation(20)[:6]
    ]
    log = pd.DataFrame(sorted(set(rows)), columns=["user_id", "item_id"])
    items = pd.DataFrame(
        {"item_id": [*range(80), 900], "shelf": [SHELVES[item // 20] for item in range(80)] + ["fish"]}
    )
    users = pd.DataFrame({"user_id": [*range(60), 700], "taste": [f"t{user % 4}" for user in range(60)] + ["t2"]})
    return log, items, users


@pytest.fixture(scope="module")
def model(shop):
    log, items, users = shop
    settings = {"model.embedding_dim": 8, "training.max_epochs": 0, "quantization.bits": None}
    return Recommender("spectral", verbose=0, **settings).fit(log, items=items, users=users)


@pytest.fixture(scope="module")
def exported(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("export")
    model.export(folder)
    return folder


def ridge_row(rows, groups, group, strength):
    """scikit-learn's prediction for one group of a category."""
    names = sorted(set(groups))
    one_hot = np.array([[value == name for name in names] for value in groups], float)
    oracle = Ridge(alpha=strength, solver="cholesky").fit(one_hot, rows)
    return oracle.predict([[name == group for name in names]])[0]


def test_a_new_item_has_the_embedding_that_scikit_learn_predicts(model, shop):
    ids, rows = model.item_embeddings()
    log, items, _ = shop
    trained = np.isin(ids, log["item_id"])
    shelf = items.set_index("item_id")["shelf"].loc[ids[trained]]
    strength = model.metrics_["features"]["items"]["strength"]
    expected = ridge_row(rows[trained], shelf.tolist(), "fish", strength)
    np.testing.assert_allclose(rows[ids == 900][0], expected, atol=1e-4)


def test_new_users_and_items_are_known_by_features(model, shop):
    log, _, _ = shop
    answers = model.recommend([700], k=81)
    assert answers["known"].all()
    assert 900 in set(answers["item_id"])
    assert (answers.head(10)["item_id"] // 20 == 2).mean() >= 0.8
    similar = model.similar_items([900], k=10)
    assert similar["known"].all()
    assert (similar["item_id"] // 20 == 2).all()
    assert set(log["item_id"]) < set(answers["item_id"])


def test_features_are_asked_for_by_tables_and_mappings(model):
    ids, items = model.item_embeddings()
    trained = model.user_embeddings(list(range(60)))[1]
    groups = [f"t{user % 4}" for user in range(60)]
    strength = model.metrics_["features"]["users"]["strength"]
    scores = items @ ridge_row(trained, groups, "t1", strength)
    (expected,) = [ids[np.argsort(-scores, kind="stable")[:5]]]
    one = model.recommend_for_features([{"taste": "t1"}], k=5)
    assert one["item_id"].tolist() == expected.tolist()
    np.testing.assert_allclose(one["score"], np.sort(scores)[::-1][:5], atol=1e-4)
    assert one["user_id"].tolist() == [0] * 5
    table = pd.DataFrame({"user_id": [8, 9], "taste": ["t1", "t9"], "age": [3, 4]})
    both = model.recommend_for_features(table, k=5, exclude=[expected[0]])
    assert both["user_id"].tolist() == [8] * 5 + [9] * 5
    assert both["known"].tolist() == [True] * 5 + [False] * 5
    assert both["item_id"].tolist()[:4] == expected[1:].tolist()
    scores, answered = model.recommend_for_features([["taste=t1"]], k=5, as_arrays=True)
    assert answered[0].tolist() == expected.tolist()


@pytest.mark.parametrize("name", ["hqgnn", "hqgnn_scann"])
def test_both_saved_models_answer_for_features(model, exported, name):
    if name == "hqgnn_scann":
        pytest.importorskip("scann")
    version = newest_version(exported, name)
    assert replay_warmup(version) == 2 * 13
    expected = model.recommend_for_features([{"taste": "t3"}, {}], k=7, as_arrays=True)
    with LocalModel(version) as client:
        found = client.recommend_for_features([{"taste": "t3"}, ["shelf=x"]], k=7)
    assert [one.known_user for one in found] == [True, False]
    for row, one in enumerate(found):
        assert list(map(int, one.item_ids)) == expected[1][row].tolist()
        np.testing.assert_allclose(one.scores, expected[0][row], rtol=1e-5)


def test_items_are_added_by_features_alone_or_with_interactions(model, exported, shop, tmp_path):
    new = pd.DataFrame({"item_id": [901, 902, 903], "shelf": ["bread", "bread", "nothing"]})
    log = pd.DataFrame({"user_id": [2, 6], "item_id": [902, 902]})
    extended = pickle.loads(pickle.dumps(model)).add_items(log, items=new)
    assert (extended.added_items_["num_added"], extended.added_items_["num_by_features"]) == (2, 1)
    bundle = model._fitted().bundle
    ids, rows = extended.item_embeddings()
    features = bundle.features.items
    _, items, _ = shop
    old = model.item_embeddings()[1]
    trained = np.isin(bundle.item_ids, list(map(str, range(80))))
    shelf = items.set_index("item_id")["shelf"].loc[bundle.item_ids[trained].astype(int)]
    predicted = ridge_row(old[trained], shelf.tolist(), "bread", features.strength)
    np.testing.assert_allclose(rows[ids == 901][0], predicted, atol=1e-4)
    # Two interactions: one hop through the map, weighed against what features are worth.
    matrix = bundle.seen_matrix()
    users = model.user_embeddings("all")[1]
    hopped = hop(_row(matrix, bundle.user_ids, ["2", "6"]), users) @ fit_hop_map(matrix.T.tocsr(), users, old)
    share = 2 / (2 + WORTH)
    mixed = share * hopped[0] + (1 - share) * predicted
    length = share * np.linalg.norm(hopped[0]) + (1 - share) * np.linalg.norm(predicted)
    np.testing.assert_allclose(rows[ids == 902][0], mixed * length / np.linalg.norm(mixed), atol=2e-3)
    # The command line does the same, and what is saved comes back.
    new.to_csv(tmp_path / "new.csv", index=False)
    log.to_csv(tmp_path / "log.csv", index=False)
    counts = add_items(exported, tmp_path / "log.csv", str(tmp_path / "new.csv"))
    assert (counts.num_added, counts.num_by_features) == (2, 1)
    extended.save(tmp_path / "run")
    again = Recommender.load(tmp_path / "run", verbose=0)
    np.testing.assert_array_equal(again.item_embeddings()[1], rows)
    alone = pickle.loads(pickle.dumps(model)).add_items(items=new)
    assert alone.added_items_["num_by_features"] == 2
    later = alone.partial_fit(pd.DataFrame({"user_id": [1], "item_id": [905]}))
    assert 901 in set(later.recommend([1], k=99)["item_id"])
    assert alone.added_items_["num_skipped"] == 1
    with pytest.raises(InputError, match=r"of the 2 items given 1 are known already, and 1 have neither .*\(shelf\)"):
        model.add_items(items=pd.DataFrame({"item_id": [904, 5], "shelf": ["nothing", "bread"]}))


def _row(matrix, ids, users):
    row = np.zeros((1, len(ids)), np.float32)
    row[0, np.isin(ids, users)] = 1
    return type(matrix)(row)


def test_a_model_without_features_says_so(shop):
    log, _, _ = shop
    plain = Recommender("spectral", verbose=0, **{"model.embedding_dim": 4}).fit(log)
    with pytest.raises(InputError, match="learnt nothing from features of users"):
        plain.recommend_for_features([{"taste": "t1"}])


@pytest.mark.parametrize("features", ["taste=t1", [3], [["t1"]], [{"a=b": 1}]])
def test_features_of_another_form_are_refused(model, features):
    with pytest.raises(InputError, match="features"):
        model.recommend_for_features(features)


def test_a_shop_without_any_stock_is_refused(shop):
    log, items, _ = shop
    with pytest.raises(InputError, match="are out of stock, so that none could be recommended"):
        Recommender("spectral", verbose=0).fit(log, items=items.assign(available=0))


def test_columns_without_a_table_are_refused(shop):
    log, _, _ = shop
    for holds in ("user", "item"):
        with pytest.raises(InputError, match=f"pass {holds}s= with them"):
            Recommender("spectral", verbose=0, **{f"data.{holds}_features": ["age"]}).fit(log)


def test_nothing_known_is_written_in_many_ways():
    nothing = {"a": None, "b": pd.NA, "c": pd.NaT, "d": np.nan, "e": "", "f": []}
    assert feature_texts(nothing | {"g": pd.Series([1, 2])}) == ["g=1", "g=2"]


def test_strangers_are_refused(shop):
    log, _, users = shop
    strange = users.assign(user_id=users["user_id"] + 5000)
    with pytest.raises(InputError, match="none of the 61 users with features is among"):
        Recommender("spectral", verbose=0).fit(log, users=strange)


def test_the_command_line_answers_for_features(model, exported, capsys):
    version = newest_version(exported, "hqgnn")
    expected = model.recommend_for_features([{"taste": "t1"}], k=3)["item_id"].astype(str).tolist()
    words = ["recommend", "--model", str(version), "-k", "3", "--feature", "taste=t1"]
    assert run_command([*words, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["user_id"], answer["known_user"]) == (None, True)
    assert [item["item_id"] for item in answer["items"]] == expected
    assert run_command(words) == 0
    assert "a user with taste=t1" in capsys.readouterr().out
    assert run_command([*words, "--user", "3"]) == 2
    assert "--feature NAME=VALUE" in capsys.readouterr().err


def run_command(words):
    with mock.patch.object(sys, "argv", ["tf-hqgnn", *words]), pytest.raises(SystemExit) as ended:
        main()
    return ended.value.code


def test_a_batch_answers_unknown_users_by_their_features(model, exported, tmp_path):
    version = str(newest_version(exported, "hqgnn"))
    (tmp_path / "users.txt").write_text("3\nnew\nodd\nstranger\n")
    (tmp_path / "about.csv").write_text("user_id,taste,age\nnew,t1,7\nodd,t8,\n3,t2,\n")
    settings = {"k": 4, "num_shards": 1, "user_features": str(tmp_path / "about.csv")}
    report = batch(version, str(tmp_path / "users.txt"), str(tmp_path / "out.parquet"), say=lambda _: None, **settings)
    rows = {row["user_id"]: row for path in report.files for row in pq.read_table(path).to_pylist()}
    assert {user: row["known_user"] for user, row in rows.items()} == {
        **{"3": True, "new": True, "odd": False, "stranger": False}
    }
    by_features = model.recommend_for_features([{"taste": "t1"}], k=4)["item_id"].astype(str).tolist()
    assert rows["new"]["item_ids"] == by_features
    assert rows["3"]["item_ids"] == model.recommend([3], k=4)["item_id"].astype(str).tolist()
    popular = model.recommend(["stranger"], k=4)["item_id"].astype(str).tolist()
    assert rows["odd"]["item_ids"] == rows["stranger"]["item_ids"] == popular


def test_tables_and_files_are_joined_by_id(shop, model, tmp_path):
    log, items, users = shop
    items.rename(columns={"shelf": "where"}).to_csv(tmp_path / "where.csv", index=False)
    titles = items.drop(columns="shelf").assign(title=[f"title {item}" for item in items["item_id"]])
    settings = {"model.embedding_dim": 8, "training.max_epochs": 0, "quantization.bits": None}
    settings |= {"data.item_features": ["where:category"], "data.user_features": ["taste"]}
    joined = Recommender("spectral", verbose=0, **settings)
    joined.fit(log, items=[titles, str(tmp_path / "where.csv")], users=[users[:30], users[30:]])
    np.testing.assert_allclose(joined.item_embeddings()[1], model.item_embeddings()[1], atol=1e-5)
    np.testing.assert_allclose(joined.user_embeddings()[1], model.user_embeddings()[1], atol=1e-5)
    assert "title 900" in set(joined.recommend([700], k=81)["title"])
