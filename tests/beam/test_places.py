"""Where files are found."""

import pytest

from tf_hqgnn.beam.places import find


@pytest.mark.parametrize("folder", ["", "./", "{tmp}/"])
def test_a_pattern_finds_files_in_the_working_directory_too(tmp_path, monkeypatch, folder):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "edges-0.parquet").touch()
    (tmp_path / "rows-0.parquet").touch()
    (found,) = find(f"{folder.format(tmp=tmp_path)}edges-*.parquet")
    assert found.path.endswith("edges-0.parquet")
