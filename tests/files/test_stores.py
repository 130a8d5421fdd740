"""What is a place of an object store, and how it is refused."""

from pathlib import Path

import pytest

from tf_hqgnn.files.stores import refuse_stores, store_uri
from tf_hqgnn.types import InputError

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    "uri", ["s3://bucket/a b.csv", "gs://b/x", "hdfs://h:80/x", "abfs://c@a/x", "S3A://b/line\nbreak"]
)
def test_a_place_is_told_as_it_was_written_also_if_pathlib_had_it(uri):
    assert store_uri(uri) == store_uri(Path(uri)) == uri


@pytest.mark.parametrize(
    "path", ["log.csv", "/mnt/log.csv", "C:/log.csv", "C://log.csv", "a:b", "s3:", "s3:log", "2020-01-01T10:00"]
)
def test_a_file_is_none(path):
    assert store_uri(path) is None
    refuse_stores({"--data": path, "--out": Path(path), "--items": None})


@pytest.mark.parametrize("value", ["items.csv,s3://b/more.csv", ["items.csv", Path("s3://b/more.csv")]])
def test_one_of_several_is_refused_by_name(value):
    with pytest.raises(InputError, match=r"^--items s3://b/more\.csv: .* or mount the bucket .*; or so$"):
        refuse_stores({"--data": "log.csv", "--items": value}, "; or so")
