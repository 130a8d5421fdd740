"""A full disk: one line, nothing half written, and the same command succeeds once there is space.

The disk is a small tmpfs in a mount namespace of its own.
"""

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tf_hqgnn.failures import explain_failure, is_disk_full

ROOT = Path(__file__).resolve().parent.parent
# The command on a disk of `size`, what it has left, and the same command on a larger disk.
SCRIPT = """
set -e
mount -t tmpfs -o size=$1 tmpfs "$2"; logs=$3; cd "$2"; shift 3
set +e
"$@" > "$logs/out1" 2> "$logs/err1"; echo $? > "$logs/code1"
find . -mindepth 1 > "$logs/left"
mount -o remount,size=64m tmpfs .
"$@" > "$logs/out2" 2> "$logs/err2"; echo $? > "$logs/code2"
find . -mindepth 1 > "$logs/made"
"""


def can_mount():
    if shutil.which("unshare") is None:
        return False
    command = ["unshare", "--mount", "--map-root-user", "sh", "-c", "mount -t tmpfs tmpfs /mnt"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


needs_mount = pytest.mark.skipif(not can_mount(), reason="no mount namespaces for this user")


@pytest.fixture(scope="module")
def trained(tmp_path_factory, dataset, smoke_config):
    from tf_hqgnn.export.bundle import export_run
    from tf_hqgnn.runs.run_directory import RunDirectory
    from tf_hqgnn.training.train import train

    folder = tmp_path_factory.mktemp("trained")
    train(dataset, smoke_config, folder / "run", report=False)
    export_run(RunDirectory.load(folder / "run"), folder / "export")
    (folder / "users.txt").write_text("\n".join(dataset.user_ids))
    return folder


def on_a_full_disk(tmp_path, size, *arguments):
    """What the command said, left and made: on a disk of `size`, and again on one of 64 MB."""
    (tmp_path / "disk").mkdir()
    (tmp_path / "logs").mkdir()
    code = "import sys; sys.argv[0] = 'tf-hqgnn'; from tf_hqgnn.cli.commands import main; main()"
    command = ["unshare", "--mount", "--map-root-user", "bash", "-c", SCRIPT, "sh", size, tmp_path / "disk"]
    command += [tmp_path / "logs", sys.executable, "-c", code, *arguments]
    done = subprocess.run(
        list(map(str, command)),
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    return {path.name: path.read_text() for path in (tmp_path / "logs").iterdir()}


def check(logs):
    """One line the first time, success the second; progress of a training may come before the line."""
    assert logs["code1"] == "1\n", logs["err1"]
    *before, last = logs["err1"].splitlines()
    assert last.startswith("tf-hqgnn: ")
    assert "no space left on device; free some space, or write elsewhere, and run the same command again" in last
    assert not [line for line in before if "Traceback" in line or "Error" in line]
    assert logs["code2"] == "0\n", logs["err2"]


@needs_mount
@pytest.mark.parametrize("name", ["log.csv", "log.parquet"])
def test_generate(tmp_path, name):
    size = ("--users", 600, "--items", 400, "--interactions", 12000)
    logs = on_a_full_disk(tmp_path, "16k", "generate", *size, "--out", f"new/{name}", "--items-out", "items.csv")
    check(logs)
    assert len(logs["err1"].splitlines()) == 1
    assert logs["left"].split() == ["./new"]
    assert sorted(logs["made"].split()) == ["./items.csv", "./new", f"./new/{name}"]


@needs_mount
@pytest.mark.parametrize("size", ["40k", "300k", "420k"])
def test_train(tmp_path, log_path, size):
    """While the data is saved, at a checkpoint, and at the end."""
    settings = ("--set", f"data.path={log_path}")
    logs = on_a_full_disk(tmp_path, size, "train", ROOT / "configs" / "smoke.yaml", "--out", "run", *settings)
    check(logs)
    assert "./run" not in logs["left"].split()
    made = logs["made"].split()
    assert "./run/metrics.json" in made
    assert not [path for path in made if "partial" in path or "disk-full" in path or ".tmp" in path]


@needs_mount
@pytest.mark.parametrize("size", ["400k", "760k"])
def test_export(tmp_path, trained, size):
    logs = on_a_full_disk(tmp_path, size, "export", trained / "run", "--out", "out")
    check(logs)
    assert len(logs["err1"].splitlines()) == 1
    # At most the folders of the models, empty.
    assert {path.count("/") for path in logs["left"].split()} <= {1, 2}
    assert logs["out2"].startswith("version 1 in out: ")
    made = {path[2:]: path for path in logs["made"].split()}
    expected = {str(path.relative_to(trained / "export")) for path in (trained / "export").rglob("*")}
    assert {path.removeprefix("out/") for path in made} - {"out"} == expected


@needs_mount
@pytest.mark.parametrize("size", ["12k"])
def test_batch(tmp_path, trained, size):
    users = ("--users", trained / "users.txt", "--out", "./out.parquet")
    logs = on_a_full_disk(tmp_path, size, "batch", "--model", trained / "export" / "hqgnn" / "1", *users)
    check(logs)
    assert len(logs["err1"].splitlines()) == 1
    assert not [path for path in logs["left"].split() if path.endswith(".tmp") or "-of-" in path]
    assert sorted(logs["made"].split()) == ["./out-00000-of-00001.parquet", "./out.parquet.report.json"]


def test_a_limit_of_the_size_of_files(tmp_path):
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000)); sys.argv[0] = 'tf-hqgnn'\n"
        "from tf_hqgnn.cli.commands import main; main()"
    )
    size = ("--users", "600", "--items", "400", "--interactions", "12000")
    done = subprocess.run(
        [sys.executable, "-c", code, "generate", *size, "--out", str(tmp_path / "log.csv")],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert (done.returncode, done.stderr) == (
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
