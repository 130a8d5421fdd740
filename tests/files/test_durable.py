"""What survives a power cut is checked in a model of a file system that loses all that wasn't synced."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from power_cut import Disk

from tf_hqgnn.files.durable import (
    check_files,
    list_files,
    publish,
    remove_staged,
    staged_file,
    staged_folder,
    staged_name,
    write_file,
)


def test_a_file_is_replaced_and_nothing_else_is_left(tmp_path):
    write_file(tmp_path / "a.txt", "é")
    write_file(tmp_path / "a.txt", b"two")
    assert (tmp_path / "a.txt").read_bytes() == b"two"
    assert list_files(tmp_path) == {"a.txt": 3}


def test_a_block_that_fails_leaves_what_was_there(tmp_path):
    write_file(tmp_path / "a.npz", b"old")

    def interrupted():
        with staged_file(tmp_path / "a.npz") as staged:
            # NumPy adds .npz to names that lack it.
            np.savez(staged, x=np.zeros(2))
            assert staged.exists()
            raise KeyboardInterrupt

    def full():
        with staged_folder(tmp_path / "folder") as staged:
            (staged / "half").touch()
            raise OSError("disk full")

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    with pytest.raises(OSError, match="full"):
        full()
    assert list_files(tmp_path) == {"a.npz": 3}


def test_staged_names_are_nobody_elses_and_go_when_asked(tmp_path):
    names = {staged_name(tmp_path / "x") for _ in range(100)}
    assert len(names) == 100
    staged_name(tmp_path / "x").touch()
    (staged_name(tmp_path / "y") / "deep").mkdir(parents=True)
    (tmp_path / ".tmp-mine").touch()
    (tmp_path / "x").touch()
    remove_staged(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {".tmp-mine", "x"}


def test_a_list_of_files_tells_what_is_missing(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "c").write_text("123")
    expected = list_files(tmp_path)
    assert expected == {"a/b/c": 3}
    check_files(tmp_path, expected)
    with pytest.raises(OSError, match="c has 3 bytes, expected 4 bytes"):
        check_files(tmp_path, {"a/b/c": 4})
    (tmp_path / "a" / "b" / "c").unlink()
    with pytest.raises(OSError, match="a/b/c isn't there, expected 3 bytes"):
        check_files(tmp_path, expected)


@pytest.mark.parametrize("names_are_kept", [False, True])
def test_a_file_that_was_written_survives_a_power_cut(tmp_path, names_are_kept):
    with Disk(tmp_path / "disk") as disk:
        write_file(disk.root / "pointer", "old")
        write_file(disk.root / "pointer", "new")
    disk.cut(tmp_path / "after", names_are_kept)
    assert (tmp_path / "after" / "pointer").read_text() == "new"


@pytest.mark.parametrize("names_are_kept", [False, True])
def test_at_every_moment_the_old_or_the_new_file_is_whole(tmp_path, names_are_kept):
    with Disk(tmp_path / "disk") as disk:
        write_file(disk.root / "pointer", "old")
        first = disk.moments
        write_file(disk.root / "pointer", "new")
    for moment in range(first, disk.moments + 1):
        after = tmp_path / f"after-{moment}"
        disk.cut(after, names_are_kept, moment)
        assert (after / "pointer").read_text() in ("old", "new")


@pytest.mark.parametrize("names_are_kept", [False, True])
def test_a_folder_is_whole_or_absent_at_every_moment(tmp_path, names_are_kept):
    with Disk(tmp_path / "disk") as disk, staged_folder(disk.root / "7") as staged:
        (staged / "deep" / "er").mkdir(parents=True)
        (staged / "deep" / "er" / "file").write_text("content")
        (staged / "other").write_text("x")
    for moment in range(disk.moments + 1):
        after = tmp_path / f"after-{moment}"
        disk.cut(after, names_are_kept, moment)
        if (after / "7").exists():
            assert list_files(after / "7") == {"deep/er/file": 7, "other": 1}
            assert (after / "7" / "deep" / "er" / "file").read_text() == "content"
    assert (after / "7").exists()


def test_the_model_of_a_disk_loses_what_is_not_synced(tmp_path):
    """Else the tests above could not fail: a rename alone leaves an empty file, or the old one."""
    with Disk(tmp_path / "disk") as disk:
        write_file(disk.root / "a", "old")
        (disk.root / "b").write_text("new")
        (disk.root / "b").replace(disk.root / "a")
    disk.cut(tmp_path / "kept", names_are_kept=True)
    assert (tmp_path / "kept" / "a").read_text() == ""
    disk.cut(tmp_path / "lost", names_are_kept=False)
    assert (tmp_path / "lost" / "a").read_text() == "old"


def test_publish_refuses_a_name_that_is_taken(tmp_path):
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "there").touch()
    (tmp_path / "staged").mkdir()
    with pytest.raises(OSError, match="not empty"):
        publish(tmp_path / "staged", tmp_path / "7")
    shutil.rmtree(tmp_path / "7")
    publish(tmp_path / "staged", Path(os.path.relpath(tmp_path / "7")))
    assert (tmp_path / "7").is_dir()


@pytest.mark.parametrize("names_are_kept", [False, True])
@pytest.mark.integration
def test_an_export_survives_a_power_cut_whole_or_not_at_all(tmp_path, names_are_kept):
    """TensorFlow writes the models; what counts as written is what was synced before the names appeared."""
    from export_oracle import make_bundle

    from tf_hqgnn.config import ExportConfig, RetrievalConfig
    from tf_hqgnn.export.bundle import export_bundle

    with Disk(tmp_path / "disk") as disk:
        export_bundle(make_bundle, disk.root, ExportConfig(), RetrievalConfig())
    written = {name: list_files(disk.root / name / "1") for name in ("hqgnn", "hqgnn_scann")}
    appeared = []
    for moment in range(disk.moments + 1):
        after = tmp_path / f"after-{moment}"
        disk.cut(after, names_are_kept, moment)
        found = {name for name in written if (after / name / "1").exists()}
        appeared.append(len(found))
        for name in found:
            assert list_files(after / name / "1") == written[name]
        shutil.rmtree(after)
    assert appeared[0] == 0
    assert appeared[-1] == 2
