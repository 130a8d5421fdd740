"""A full disk: one line, nothing half written, and the same command succeeds once there is space.

The disk is a small tmpfs in a mount namespace of its own.
"""

import errno
import os
import shutil
import subprocess
from types import SimpleNamespace

import pytest
from commands import CONSOLE_SCRIPT, MODULES, Commands, environment_with, run_fresh
from warm_python import ROOT, WarmPython

from tf_hqgnn.files.failures import explain_failure, is_disk_full


def can_mount():
    if shutil.which("unshare") is None:
        return False
    command = ["unshare", "--mount", "--map-root-user", "sh", "-c", "mount -t tmpfs tmpfs /mnt"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


needs_mount = pytest.mark.skipif(not can_mount(), reason="no mount namespaces for this user")


@pytest.fixture(scope="module")
def trained(tmp_path_factory, dataset, smoke_config):
    from tf_hqgnn.export.of_runs import export_run
    from tf_hqgnn.runs.run_directory import RunDirectory
    from tf_hqgnn.training.train import train

    folder = tmp_path_factory.mktemp("trained")
    train(dataset, smoke_config, folder / "run")
    export_run(RunDirectory.load(folder / "run"), folder / "export")
    (folder / "users.txt").write_text("\n".join(dataset.user_ids))
    return folder


@pytest.fixture(scope="module")
def namespace(tmp_path_factory):
    """Runs commands where disks can be mounted that nobody else sees."""
    folder = tmp_path_factory.mktemp("namespace")
    with WarmPython(folder, MODULES, environment_with(), ["unshare", "--mount", "--map-root-user"]) as python:
        yield Commands(python, folder)


@pytest.fixture
def on_a_full_disk(tmp_path, namespace):
    """Runs a command on a disk of a size and again on one of 64 MB; what it said, left and made."""
    disk = tmp_path / "disk"
    disk.mkdir()

    def run(size, *arguments):
        def attempt(options):
            assert namespace.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", disk]).code == 0
            done = namespace(*arguments, cwd=disk)
            return done, namespace.run(["find", ".", "-mindepth", "1"], cwd=disk).out.split()

        first, left = attempt(f"size={size}")
        second, made = attempt("remount,size=64m")
        return SimpleNamespace(first=first, left=left, second=second, made=made)

    yield run
    namespace.run(["umount", disk])


def check(runs):
    """One line the first time, success the second; progress of a training may come before the line."""
    assert runs.first.code == 1, runs.first.err
    *before, last = runs.first.err.splitlines()
    assert last.startswith("tf-hqgnn: ")
    assert "no space left on device; free some space, or write elsewhere, and run the same command again" in last
    assert not [line for line in before if "Traceback" in line or "Error" in line]
    assert runs.second.code == 0, runs.second.err


@needs_mount
@pytest.mark.parametrize("name", ["log.csv", "log.parquet"])
def test_generate(on_a_full_disk, name):
    size = ("--users", 600, "--items", 400, "--interactions", 12000)
    runs = on_a_full_disk("16k", "generate", *size, "--out", f"new/{name}", "--items-out", "items.csv")
    check(runs)
    assert len(runs.first.err.splitlines()) == 1
    assert runs.left == ["./new"]
    assert sorted(runs.made) == ["./items.csv", "./new", f"./new/{name}"]


@needs_mount
@pytest.mark.parametrize("size", ["40k", "300k", "420k"])
def test_train(on_a_full_disk, log_path, size):
    """While the data is saved, at a checkpoint, and at the end."""
    settings = ("--set", f"data.path={log_path}")
    runs = on_a_full_disk(size, "train", ROOT / "configs" / "smoke.yaml", "--out", "run", *settings)
    check(runs)
    assert "./run" not in runs.left
    made = runs.made
    assert "./run/metrics.json" in made
    assert not [path for path in made if "partial" in path or "disk-full" in path or ".tmp" in path]


@needs_mount
@pytest.mark.parametrize("size", ["400k", "760k"])
def test_export(on_a_full_disk, trained, size):
    runs = on_a_full_disk(size, "export", trained / "run", "--out", "out")
    check(runs)
    assert len(runs.first.err.splitlines()) == 1
    # At most the folders of the models, empty.
    assert {path.count("/") for path in runs.left} <= {1, 2}
    assert runs.second.out.startswith("version 1 in out: ")
    made = {path[2:]: path for path in runs.made}
    expected = {str(path.relative_to(trained / "export")) for path in (trained / "export").rglob("*")}
    assert {path.removeprefix("out/") for path in made} - {"out"} == expected


@needs_mount
@pytest.mark.parametrize("size", ["12k"])
def test_batch(on_a_full_disk, trained, size):
    users = ("--users", trained / "users.txt", "--out", "./out.parquet")
    runs = on_a_full_disk(size, "batch", "--model", trained / "export" / "hqgnn" / "1", *users)
    check(runs)
    assert len(runs.first.err.splitlines()) == 1
    assert not [path for path in runs.left if path.endswith(".tmp") or "-of-" in path]
    assert sorted(runs.made) == ["./out-00000-of-00001.parquet", "./out.parquet.report.json"]


def test_a_limit_of_the_size_of_files(tmp_path):
    code = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000)); {CONSOLE_SCRIPT}"
    size = ("--users", "600", "--items", "400", "--interactions", "12000")
    done = run_fresh("generate", *size, "--out", tmp_path / "log.csv", code=code)
    assert (done.code, done.err) == (
        1,
        f"tf-hqgnn: {tmp_path}/log.csv: file too large; free some space, or write elsewhere, and run the same command "
        "again\n",
    )
    assert list(tmp_path.iterdir()) == []


def test_what_a_full_disk_is_told_by():
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    outer = RuntimeError("while saving")
    outer.__cause__ = full
    for error in (
        full,
        OSError(errno.EDQUOT, "x"),
        outer,
        ValueError("RESOURCE_EXHAUSTED: a; No space left on device"),
    ):
        assert is_disk_full(error)
        assert "run the same command again" in explain_failure(error)
    for error in (ValueError("x"), PermissionError(errno.EACCES, "x"), MemoryError()):
        assert not is_disk_full(error)
    assert explain_failure(ValueError("x")) is None
    assert explain_failure(PermissionError(errno.EACCES, "Permission denied", "/a")) == "/a: permission denied"
