"""A model that learns from a later log, or gets new items."""

import copy

import numpy as np
import pandas as pd
import pytest
from agreement import EVERYBODY, assert_same

from tf_hqgnn import InputError, Recommender
from tf_hqgnn.config import ExportConfig
from tf_hqgnn.export.bundle import ServingBundle, export_exact
from tf_hqgnn.export.layout import newest_version
from tf_hqgnn.export.new_items import add_items
from tf_hqgnn.export.of_runs import export_run
from tf_hqgnn.runs.run_directory import RunDirectory
from tf_hqgnn.serving.client import LocalModel


def test_partial_fit_keeps_rows_and_forgets_nothing(trained, log):
    new = pd.DataFrame({"user_id": [100, 9000, 9000], "item_id": [5000, 1, 5000]})
    model = copy.deepcopy(trained).partial_fit(new)
    assert model.metrics_["warm_start"] == {
        "kept_users": 200,
        "kept_items": log["item_id"].nunique(),
        "new_users": 1,
        "new_items": 1,
    }
    taken = {*map(tuple, log[["user_id", "item_id"]].to_numpy()), *map(tuple, new.to_numpy())}
    table = model.recommend(**EVERYBODY)
    assert not taken & set(zip(table["user_id"], table["item_id"]))
    assert table["user_id"].dtype == np.int64
    assert table["known"].all()
    assert {9000} <= set(table["user_id"])
    # Titles of old items stay known.
    assert table["title"][table["item_id"] != 5000].str.startswith("Title ").all()
    assert model.data_report_.rows_read == 3003


def test_a_saved_model_goes_on_as_the_original_does(trained, saved):
    new = pd.DataFrame({"user_id": [100, 9000], "item_id": [5000, 1]})
    assert_same(Recommender.load(saved, verbose=0).partial_fit(new), copy.deepcopy(trained).partial_fit(new))


def test_ids_of_another_type_are_refused(model, log, settings):
    words = pd.DataFrame({"user_id": ["ann"], "item_id": ["1"]})
    for ask, name in (
        (lambda: model.partial_fit(words), "new_log"),
        (lambda: model.add_items(words), "log"),
        (lambda: Recommender("spectral", verbose=0, **settings).fit(log, valid=words), "valid"),
    ):
        with pytest.raises(InputError, match=f"^{name}: user_id is of type int64 in the log that was learnt from"):
            ask()
    # Numbers written as text are the same ids.
    again = copy.deepcopy(model).partial_fit(pd.DataFrame({"user_id": ["100"], "item_id": ["5000"]}))
    assert again.item_embeddings()[0].dtype == np.int64


def test_partial_fit_without_a_fit_is_a_fit(log, plain, settings):
    assert_same(Recommender("spectral", verbose=0, **settings).partial_fit(log), plain)


def test_added_items_are_those_of_the_command_line(model, log, items, settings, tmp_path):
    new = pd.DataFrame({"user_id": [100, 101, 102, 9], "item_id": [7001, 7001, 7002, 7003]})
    about = pd.DataFrame({"item_id": [7001], "title": ["New"], "category": ["even"]})
    model.save(tmp_path / "before")
    bundle = ServingBundle.from_run(RunDirectory.load(tmp_path / "before"))
    export_exact(bundle, tmp_path / "export", ExportConfig(), version=1)
    new.to_csv(tmp_path / "new.csv", index=False)
    about.to_csv(tmp_path / "about.csv", index=False)
    counts = add_items(tmp_path / "export", tmp_path / "new.csv", tmp_path / "about.csv")
    extended = copy.deepcopy(model)
    assert extended.add_items(new, items=about) is extended
    assert extended.added_items_ == {key: value for key, value in vars(counts).items() if key != "version"}
    assert (counts.num_added, counts.num_skipped) == (2, 1)
    with LocalModel(newest_version(tmp_path / "export", "hqgnn")) as oracle:
        (expected,) = oracle.similar_items(["7001"], 5)
    found = extended.similar_items([7001], 5)
    assert found["item_id"].tolist() == list(map(int, expected.item_ids))
    np.testing.assert_allclose(found["score"], expected.scores, rtol=1e-6)
    assert "New" in set(extended.recommend([150], k=122)["title"])
    # Saved, loaded, and learnt from.
    extended.save(tmp_path / "run")
    assert_same(Recommender.load(tmp_path / "run", verbose=0), extended)
    export_run(RunDirectory.load(tmp_path / "run"), tmp_path / "of_the_run")
    with LocalModel(newest_version(tmp_path / "of_the_run", "hqgnn")) as exported:
        (answer,) = exported.similar_items(["7001"], 5)
    assert list(answer.item_ids) == list(expected.item_ids)
    # Nothing is trained with these settings, so the rows are those of a fit on everything.
    again = copy.deepcopy(extended).partial_fit(pd.DataFrame({"user_id": [100], "item_id": [7002]}))
    everything = pd.concat([log[["user_id", "item_id"]], new, pd.DataFrame({"user_id": [100], "item_id": [7002]})])
    assert_same(again, Recommender("spectral", verbose=0, **settings).fit(everything, items=pd.concat([items, about])))
    # The original has none of it.
    assert 7001 not in model.item_embeddings()[0]
