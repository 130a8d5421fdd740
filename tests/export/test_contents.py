"""Titles travel in an export, through everything that writes versions; damaged ones are named."""

import dataclasses

import numpy as np
import pyarrow.parquet as pq
import pytest
from export_oracle import make_bundle

from tf_hqgnn.config import ExportConfig
from tf_hqgnn.export.bundle import export_exact
from tf_hqgnn.export.contents import TITLES_FILE, read_contents
from tf_hqgnn.export.new_items import add_items
from tf_hqgnn.export.reader import read_bundle
from tf_hqgnn.types import InputError

TITLES = ["<script>alert(1)</script>", "[/b]", "=1+1", "日本\nof two lines", ""]


@pytest.fixture(scope="module")
def export(tmp_path_factory):
    """Version 1 has titles of every kind, version 2 a new item beside them."""
    folder = tmp_path_factory.mktemp("titled")
    bundle = make_bundle()
    titles = np.array([*TITLES, *(f"Title {n}" for n in range(len(bundle.item_ids) - len(TITLES)))], object)
    export_exact(dataclasses.replace(bundle, item_titles=titles), folder, ExportConfig(default_k=3), 1)
    log, about = folder / "log.csv", folder / "items.csv"
    log.write_text(f'user_id,item_id\n"{bundle.user_ids[5]}",fresh\n"{bundle.user_ids[6]}",untitled\n')
    about.write_text("item_id,title\nfresh,A fresh one\n")
    add_items(folder, log, about)
    return folder


def test_titles_are_kept_beside_the_model_as_they_are(export):
    table = pq.read_table(export / "hqgnn" / "1" / "assets.extra" / "items.parquet").to_pydict()
    assert table["item_id"] == make_bundle().item_ids.tolist()
    assert table["title"][: len(TITLES)] == TITLES


def test_contents_are_those_of_the_bundle(export):
    found, bundle = read_contents(export / "hqgnn" / "1"), make_bundle()
    np.testing.assert_array_equal(found.user_ids, bundle.user_ids)
    np.testing.assert_array_equal(found.item_titles[: len(TITLES)], TITLES)
    for one, other in zip(found.seen, bundle.seen):
        np.testing.assert_array_equal(one, other)


def test_new_items_bring_their_titles(export):
    found = read_bundle(export / "hqgnn" / "2")
    titles = dict(zip(found.item_ids, found.item_titles))
    assert (titles["fresh"], titles["untitled"]) == ("A fresh one", "")
    assert titles[make_bundle().item_ids[0]] == TITLES[0]


def test_a_model_without_titles_has_no_file_of_them(tmp_path):
    version = export_exact(make_bundle(), tmp_path, ExportConfig(default_k=3), 1)
    assert not (version / TITLES_FILE).exists()
    assert read_contents(version).item_titles is None
    (version / TITLES_FILE).write_bytes(b"PAR1 and no more")
    with pytest.raises(InputError, match=r"items.parquet: the titles of the items can't be read: .*; export the run"):
        read_contents(version)
