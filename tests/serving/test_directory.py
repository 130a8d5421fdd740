import os
import shutil
import time

import pytest

from tf_hqgnn.serving.directory import check_base_path, find_models, find_versions, fingerprint, is_settled
from tf_hqgnn.types import InputError


def test_versions_are_numbered_folders_newest_first(tmp_path):
    for name in ("2", "10", "007", "7", ".tmp-11", "11.partial", "-3", "v4", "٣", str(2**63)):
        (tmp_path / name).mkdir()
    (tmp_path / "12").write_text("a file")
    assert find_versions(tmp_path) == {10: tmp_path / "10", 7: tmp_path / "7", 2: tmp_path / "2"}
    assert list(find_versions(tmp_path)) == [10, 7, 2]
    assert find_versions(tmp_path / "nowhere") == {}


def test_models_are_folders_with_versions(tmp_path):
    for name in ("b/1", "a/3", "empty", ".hidden/1"):
        (tmp_path / name).mkdir(parents=True)
    assert find_models(tmp_path) == ["a", "b"]
    assert find_models(tmp_path / "nowhere") == []


def test_the_fingerprint_sees_every_change(tmp_path):
    (tmp_path / "variables").mkdir()
    file = tmp_path / "variables" / "data"
    file.write_bytes(b"1")
    seen = [fingerprint(tmp_path)]
    file.write_bytes(b"22")
    seen.append(fingerprint(tmp_path))
    (tmp_path / "new").touch()
    seen.append(fingerprint(tmp_path))
    (tmp_path / "new").unlink()
    file.unlink()
    seen.append(fingerprint(tmp_path))
    assert len(set(seen)) == 4
    assert fingerprint(tmp_path) == seen[-1] == ()


def test_a_copy_under_way_is_not_settled_even_with_old_times(tmp_path):
    source = tmp_path / "source"
    source.write_bytes(b"x")
    os.utime(source, (0, 0))
    (tmp_path / "1").mkdir()
    shutil.copy2(source, tmp_path / "1" / "x")
    now = fingerprint(tmp_path / "1")
    assert not is_settled(now, None, 3600)
    assert is_settled(now, now, 3600)
    old = tuple((name, size, mtime, time.time_ns() - 10**10) for name, size, mtime, _ in now)
    assert is_settled(old, None, 1)


@pytest.mark.parametrize(
    ("make", "base", "message"),
    [
        ("x", "nowhere", "nowhere does not exist: expected an export directory"),
        ("file.txt", "file.txt", "is a file: expected an export directory"),
        ("x", "", "holds no model: expected folders like hqgnn/1/"),
        ("hqgnn/1/saved_model.pb", "hqgnn", "is one model: give the directory above it"),
        ("hqgnn/1/saved_model.pb", "hqgnn/1", "is one SavedModel: give the directory that holds"),
    ],
)
def test_a_wrong_directory_is_explained(tmp_path, make, base, message):
    path = tmp_path / make
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    with pytest.raises(InputError, match=message):
        check_base_path(tmp_path / base)
