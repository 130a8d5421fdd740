"""Where files are found."""

import pytest

from tf_hqgnn.beam.places import find
from tf_hqgnn.beam.plan import make_plan
from tf_hqgnn.types import InputError


@pytest.mark.parametrize("folder", ["", "./", "{tmp}/"])
def test_a_pattern_finds_files_in_the_working_directory_too(tmp_path, monkeypatch, folder):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "edges-0.parquet").touch()
    (tmp_path / "rows-0.parquet").touch()
    (found,) = find(f"{folder.format(tmp=tmp_path)}edges-*.parquet")
    assert found.path.endswith("edges-0.parquet")


def test_a_name_without_a_folder_overwrites_nothing(tmp_path, monkeypatch, models):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "some-00000-of-00001.parquet").touch()
    with pytest.raises(InputError, match=r"^--out some\.parquet: .*-of-00001\.parquet exists, and nothing is"):
        make_plan(str(models / "hqgnn" / "1"), "all", "some.parquet", 10)
