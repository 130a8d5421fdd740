from dataclasses import replace

import numpy as np
import pytest

from tf_hqgnn.tfx.catalogue import read_catalogue, read_report, write_catalogue, write_report


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
