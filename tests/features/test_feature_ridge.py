"""Embeddings of features: scikit-learn's ridge regression and NumPy are the oracles."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from sklearn.linear_model import Ridge
from sklearn.preprocessing import MultiLabelBinarizer

from tf_hqgnn.data.feature_input import read_features
from tf_hqgnn.data.feature_table import FeatureTable
from tf_hqgnn.features.columns import Column, fit_columns
from tf_hqgnn.features.encoder import FeatureEncoder
from tf_hqgnn.features.fit import fit_features
from tf_hqgnn.features.model import FeatureModels, blend
from tf_hqgnn.features.ridge import STRENGTHS, Moments, choose_strength
from tf_hqgnn.types import InputError

GENRES = ("Comedy", "Drama", "Horror", "War")


def table(**columns):
    texts = {name: np.array(values, object) for name, values in columns.items()}
    return FeatureTable(np.array([f"i{n}" for n in range(len(next(iter(texts.values()))))], object), texts)


@pytest.fixture(scope="module")
def films():
    """200 films with genres and a year; their embeddings follow from these, and some noise."""
    rng = np.random.default_rng(1)
    genres = [sorted(rng.choice(GENRES, rng.integers(1, 3), replace=False)) for _ in range(200)]
    decades = rng.choice([1970, 1980, 1990], 200)
    one_hot = MultiLabelBinarizer(classes=GENRES).fit_transform(genres)
    inputs = np.concatenate([one_hot, decades[:, None] == [1970, 1980, 1990]], axis=1).astype(np.float64)
    rows = (inputs @ rng.normal(size=(7, 5)) + 0.3 * rng.normal(size=(200, 5))).astype(np.float32)
    return table(genres=["|".join(one) for one in genres], year=list(map(str, decades))), inputs, rows


@pytest.fixture(scope="module")
def learnt(films):
    """Learnt from all films but the last twenty, which count as not trained."""
    features, _, rows = films
    trained = np.arange(200) < 180
    others = np.random.default_rng(2).normal(size=(50, 5)).astype(np.float32)
    return fit_features(features, rows, trained, others)


def test_the_embedding_of_a_new_item_is_the_prediction_of_scikit_learn(films, learnt):
    features, inputs, rows = films
    oracle = Ridge(alpha=learnt.strength, solver="cholesky").fit(inputs[:180], rows[:180])
    found, known = learnt.predict(features.take(np.arange(180, 200)))
    assert known.all()
    np.testing.assert_allclose(found, oracle.predict(inputs[180:]), atol=2e-4)


def test_the_strength_is_the_best_one_on_rows_that_were_held_out(films):
    _, inputs, rows = films
    metric = np.diag([4.0, 1.0, 1.0, 1.0, 0.0])
    strength, (weights, _) = choose_strength(
        Moments.of(inputs[:40].astype(np.float32), rows[:40]), inputs[40:].astype(np.float32), rows[40:], metric
    )
    errors = {}
    for one in STRENGTHS:
        oracle = Ridge(alpha=one, solver="cholesky").fit(inputs[:40], rows[:40])
        errors[one] = ((oracle.predict(inputs[40:]) - rows[40:]) ** 2 @ np.diag(metric)).mean()
        if one == strength:
            np.testing.assert_allclose(weights.T, oracle.coef_, atol=1e-3)
    assert strength == min(errors, key=errors.get)


def test_rows_without_features_and_unknown_values_are_the_mean(films, learnt):
    _, _, rows = films
    found, known = learnt.predict(table(genres=["", "Opera"], shop=["a", "b"]))
    assert known.tolist() == [False, False]
    np.testing.assert_allclose(found, [rows[:180].mean(axis=0)] * 2, atol=1e-4)


def test_numbers_are_piecewise_linear_and_flat_beyond_the_ends():
    (column,), _ = fit_columns(table(age=["10", "20", "40"]))
    encoder = FeatureEncoder([column])
    asked = tf.constant([["age=15"], ["age= 40 "], ["age=99"], ["age=-3"], ["age=nan"], ["age=x"], ["age"]])
    values, known = encoder.call(asked)
    oracle = [[0.5, 0.5, 0], [0, 0, 1], [0, 0, 1], [1, 0, 0], [0, 0, 0], [0, 0, 0], [0, 0, 0]]
    np.testing.assert_allclose(values.numpy(), oracle, atol=1e-6)
    assert known.numpy().ravel().tolist() == [True] * 4 + [False] * 3


def test_a_list_may_come_as_one_entry_or_as_several():
    encoder = FeatureEncoder([Column("genres", "list", values=GENRES), Column("a=b", "category", values=("x",))])
    asked = [["genres=War| Drama |War", ""], ["genres=Drama", "genres=War"], ["genres=Opera|War\n", "genres=Drama"]]
    values, _ = encoder.call(tf.constant(asked))
    assert values.numpy().tolist() == [[0, 1, 0, 1, 0]] * 3


def test_text_is_hashed_by_words_whatever_their_case():
    columns, _ = fit_columns(table(title=["A blue ball", "a red ball!", "Röd boll (2)", "one two"]))
    assert [column.kind for column in columns] == ["text"]
    values, _ = FeatureEncoder(columns).call(tf.constant([["title=ball BLUE"], ["title=Blue, ball"], ["title=RÖD"]]))
    values = values.numpy()
    assert (values[0] == values[1]).all()
    assert values.sum(axis=1).tolist() == [2, 2, 1]


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (["1", "2.5", ""], "number"),
        (["1e3", "unknown", "?", "2"], "number"),
        (["none", "none", "other"], "category"),
        (["a", "b|c"], "list"),
        (["1|2", "3"], "list"),
        (["M", "F", "M"], "category"),
        (["New York", "New York", "New York", "Rome"], "category"),
        (["a b", "c d", "e f"], "text"),
    ],
)
def test_the_values_decide_the_kind(values, kind):
    (column,), left_out = fit_columns(table(x=values))
    assert (column.kind, left_out) == (kind, ())


def test_numbers_beyond_float32_are_left_out():
    (column,), _ = fit_columns(table(x=["1", "2", "1e300", "-1.7e308", "1.7e308"]))
    assert column.knots == (1, 2)


def test_a_named_kind_counts_and_addresses_are_left_out():
    zips = FeatureTable(np.array(["a", "b"], object), {"zip": np.array(["1", "2"], object)}, {"zip": "category"})
    assert fit_columns(zips)[0][0].values == ("1", "2")
    assert fit_columns(table(url=[f"http://{n}" for n in range(60)], empty=[""] * 60)) == ((), ("url", "empty"))


def test_too_few_rows_teach_nothing():
    rows = np.ones((9, 2), np.float32)
    assert fit_features(table(x=["a"] * 9), rows, np.ones(9, bool), np.ones((3, 2), np.float32)) is None


def test_blending_goes_from_the_prediction_to_the_interactions():
    predicted, rows = np.tile([[3.0, 0.0]], (3, 1)), np.tile([[0.0, 1.0]], (3, 1))
    mixed = blend(predicted.astype(np.float32), rows.astype(np.float32), np.array([0, 2, 8]), 2.0)
    shares = np.array([0, 0.5, 0.8])
    np.testing.assert_allclose(mixed[:, 0] / (mixed[:, 0] + mixed[:, 1] * 3), 1 - shares, rtol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(mixed, axis=1), shares * 1 + (1 - shares) * 3, rtol=1e-6)
    alone = blend(predicted.astype(np.float32), rows.astype(np.float32), np.array([0, 2, 8]), 0.0)
    assert alone.tolist() == [[3, 0], [0, 1], [0, 1]]


def test_a_saved_model_predicts_the_same(films, learnt, tmp_path):
    features, _, _ = films
    FeatureModels(items=learnt).save(tmp_path / "features.npz")
    loaded = FeatureModels.load(tmp_path / "features.npz")
    assert loaded.users is None
    for one, two in zip(learnt.predict(features), loaded.items.predict(features)):
        np.testing.assert_array_equal(one, two)
    assert loaded.items.describe() == learnt.describe()
    assert not FeatureModels.load(tmp_path / "nothing.npz")


def test_files_are_joined_by_id(tmp_path):
    (tmp_path / "a.csv").write_text("item_id,title,year\n1,Toy Story,1995\n2,Heat,\n")
    (tmp_path / "b.csv").write_text("item_id;genres;year\n2;Crime|Drama;1995,5\n3;War;1970\n")
    found = read_features(f"{tmp_path}/a.csv,{tmp_path}/b.csv", "items", ("genres", "year"))
    assert dict(zip(found.ids, found.pairs().tolist())) == {
        "1": ["year=1995", ""],
        "2": ["year=1995.5", "genres=Crime|Drama"],
        "3": ["year=1970", "genres=War"],
    }
    found.save(tmp_path / "kept.parquet")
    assert FeatureTable.load(tmp_path / "kept.parquet").pairs().tolist() == found.pairs().tolist()


def test_what_programs_write_for_nothing_is_nothing(tmp_path):
    (tmp_path / "items.csv").write_text("item_id,year,genre\n1,1990,NaN\n2,nan,none\n3,N/A,null\n4,2000, \n")
    found = read_features(tmp_path / "items.csv", "items", "auto")
    assert found.pairs().tolist() == [["year=1990", ""], ["", "genre=none"], ["", ""], ["year=2000", ""]]


def test_tables_in_memory_are_features_too():
    users = pd.DataFrame({"uid": [1, 2], "age": [24, None], "tags": [["a", "b"], []], "new": [True, False]})
    found = read_features(users, "users", "auto", {"user_id": "uid"})
    assert found.pairs().tolist() == [["age=24", "tags=a|b", "new=true"], ["", "", "new=false"]]
    numbered = users[["uid", "age"]].set_axis([0, 7], axis=1).rename(columns={0: "user_id"})
    assert read_features(numbered, "users", "auto").pairs().tolist() == [["7=24"], [""]]


@pytest.mark.parametrize(
    ("text", "names", "message"),
    [
        ("item_id,genres\n1,a\n", ("genre",), "no column 'genre' in the items, found: genres; did you mean 'genres'?"),
        ("item_id,genres\n1,a\n1,b\n", ("genres",), "item_id '1' came before in line 2"),
        ("item,genres\n1,a\n", ("genres",), "no column item_id"),
        ("item_id,genres\n1,a\n", ("genres:word",), "a kind behind a name is one of number, category, list, text"),
        ("item_id,genres\n1,a\n", ("genres", "genres:text"), "named twice, got genres, genres:text"),
    ],
)
def test_features_that_cant_be_read_are_one_line(tmp_path, text, names, message):
    (tmp_path / "items.csv").write_text(text)
    with pytest.raises(InputError, match="item") as raised:
        read_features(tmp_path / "items.csv", "items", names)
    assert message in str(raised.value)


def test_nothing_that_a_client_can_send_stops_the_encoder(learnt):
    module = learnt.make_module()
    odd = [b"genres=\xff\xfe", b"\xff=War", b"=War", b"genres", b"year=1e999", b"genres=" + b"|" * 5000, b"title=\x00"]
    rows, known = module.call(tf.constant([[one] for one in odd]))
    assert known.numpy().tolist() == [False] * 4 + [True] + [False] * 2
    assert np.isfinite(rows.numpy()).all()
    for shape in ((3, 0), (0, 2)):
        rows, known = module.call(tf.zeros(shape, tf.string))
        assert rows.shape == (shape[0], 5)
        assert not known.numpy().any()
    text = FeatureEncoder([Column("about", "text", buckets=8)])
    _, known = text.call(tf.constant([[b"about=\xc3\x28 ok"], ["about=Ünï\ncode"], ["about= !?"]]))
    assert known.numpy().ravel().tolist() == [False, True, False]
