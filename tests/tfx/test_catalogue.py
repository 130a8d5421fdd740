from dataclasses import replace

import numpy as np
import pytest

from tf_hqgnn.data.feature_table import FeatureTable
from tf_hqgnn.data.growth import with_features
from tf_hqgnn.tfx.catalogue import add_features, read_catalogue, read_report, write_catalogue, write_report


def test_columns_come_back_in_the_order_asked_for(dataset, tmp_path):
    titles = np.array([f"title {item}" for item in dataset.item_ids], object)
    available = np.arange(dataset.num_items) % 2 == 0
    write_catalogue(replace(dataset, titles=titles, available=available), tmp_path)
    columns = read_catalogue(tmp_path, dataset.item_ids[::-1])
    assert columns.titles.tolist() == titles[::-1].tolist()
    assert columns.available.tolist() == available[::-1].tolist()
    assert columns.available.dtype == bool
    assert columns.categories is None


def test_an_item_that_is_not_there_is_an_error(dataset, tmp_path):
    write_catalogue(dataset, tmp_path)
    with pytest.raises(ValueError, match="1 items of the examples are not in the catalogue, the first is 'nowhere'"):
        read_catalogue(tmp_path, np.array(["nowhere"], object))


def test_the_report_comes_back(dataset, tmp_path):
    write_report(dataset, tmp_path)
    report = read_report(tmp_path)
    assert report["read"] == dataset.report
    assert report["text"] == str(dataset.report)
    assert report["train"] + report["valid"] + report["test"] == dataset.report.kept


def test_features_come_back_with_those_who_have_nothing_else(dataset, tmp_path):
    genres = np.array(["War|Drama", "Drama", "War"], object)
    items = FeatureTable(np.array([*dataset.item_ids[:2], "zz new"], object), {"genres": genres})
    known = with_features(dataset, items=items)
    write_catalogue(known, tmp_path)
    found = add_features(dataset, tmp_path)
    assert found.item_ids.tolist() == [*dataset.item_ids, "zz new"]
    assert found.item_features.pairs()[[0, 1, -1], 0].tolist() == [f"genres={one}" for one in genres]
    assert (found.user_features, found.fingerprint()) == (None, known.fingerprint())
    assert found.fingerprint() != dataset.fingerprint()
