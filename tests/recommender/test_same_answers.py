"""Equal seeds give equal answers: in copies, in run directories, from Python and from the command line."""

import copy
import json
import pickle

import numpy as np
import pytest
from agreement import EVERYBODY, assert_same

from tf_hqgnn import InputError, Recommender


def test_copies_answer_as_the_original(model):
    assert_same(pickle.loads(pickle.dumps(model)), model)
    assert_same(copy.deepcopy(model), model)
    assert pickle.loads(pickle.dumps(Recommender("spectral"))).get_params() == Recommender("spectral").get_params()


def test_equal_seeds_give_equal_answers(trained, saved, log, items, training):
    assert_same(Recommender("default", verbose=0, **training).fit(log, items=items), trained)
    other = Recommender("default", verbose=0, seed=1, **training).fit(log, items=items)
    assert not np.array_equal(other.item_embeddings()[1], trained.item_embeddings()[1])
    loaded = Recommender.load(saved, verbose=0)
    assert_same(loaded, trained)
    assert_same(loaded.fit(log, items=items), trained)


def test_fit_leaves_the_callers_random_numbers_alone(log, settings):
    np.random.seed(3)
    expected = np.random.rand()
    np.random.seed(3)
    Recommender("spectral", verbose=0, **settings).fit(log)
    assert np.random.rand() == expected


def test_the_command_line_trains_the_same_model(trained, log, items, tmp_path, run_command, training):
    log.to_csv(tmp_path / "log.csv", index=False)
    items.to_csv(tmp_path / "items.csv", index=False)
    settings = {**training, "data.path": tmp_path / "log.csv", "data.items_path": tmp_path / "items.csv"}
    settings |= {"data.split.valid": 0, "data.split.test": 0}
    words = [
        word
        for name, value in settings.items()
        for word in ("--set", f"{name}={str(value).lower() if value is False else value}")
    ]
    done = run_command("train", "default", "--out", tmp_path / "run", *words)
    assert done.code == 0, done.err
    loaded = Recommender.load(tmp_path / "run", verbose=0)
    expected = trained.recommend(**EVERYBODY)
    found = loaded.recommend(**EVERYBODY)
    # In a CSV ids are text.
    assert found["item_id"].tolist() == expected["item_id"].astype(str).tolist()
    assert found["title"].tolist() == expected["title"].tolist()
    np.testing.assert_array_equal(found["score"], expected["score"])


def test_the_command_line_goes_on_from_python(trained, saved, tmp_path, run_command):
    done = run_command("export", saved, "--out", tmp_path / "export")
    assert done.code == 0, done.err
    asked = run_command("recommend", "--model", tmp_path / "export" / "hqgnn" / "1", "--user", "100", "-k", 3, "--json")
    answer = json.loads(asked.out)
    assert [int(item["item_id"]) for item in answer["items"]] == trained.recommend([100], k=3)["item_id"].tolist()


def test_validation_chooses(log, training):
    with_valid = Recommender("default", verbose=0, **training).fit(log.iloc[:2500], valid=log.iloc[2500:])
    assert set(with_valid.metrics_["valid"]) >= {"ndcg@20", "recall@20"}
    # What is for validation isn't learnt from, and may come back.
    report = with_valid.data_report_
    assert (report.rows_read, report.kept) == (3000, 3000)


def test_save_refuses_what_is_there(trained, saved):
    with pytest.raises(InputError, match="exists already"):
        trained.save(saved)
    with pytest.raises(InputError, match="is not the directory of a finished run"):
        Recommender.load(saved / "data")
