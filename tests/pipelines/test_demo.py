"""The demo as a stranger runs it, on a small log: what it prints, and that nothing of it stays."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.demo import Server
from tf_hqgnn.serving.client import Client

ROOT = Path(__file__).resolve().parents[2]


def command_lines():
    """Of all processes that this one may see."""
    lines = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                lines.append((entry / "cmdline").read_bytes().replace(b"\0", b" ").decode())
            except OSError:
                continue  # it has ended since
    return lines


def start(out, *options):
    command = [sys.executable, "-m", "pipelines.demo", "--out", str(out), "--config", "configs/smoke.yaml", *options]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


@pytest.fixture(scope="module")
def finished(tmp_path_factory, log_path):
    out = tmp_path_factory.mktemp("demo")
    process = start(out, "--data", str(log_path), "--items", str(log_path.with_name("items.csv")))
    output, _ = process.communicate()
    assert process.returncode == 0, output
    return out, output


def test_it_shows_a_known_user_an_unknown_one_and_similar_items(finished):
    out, output = finished
    assert "popularity" in output
    assert "times the NDCG@20 of popularity" in output
    for heading in (
        "hqgnn (exact) recommends",
        # ScaNN's index begins at 20,000 items.
        "hqgnn_scann (exact) recommends",
        "known_user = False",
        "similar to",
    ):
        assert heading in output
    assert "Traceback" not in output
    assert not [line for line in command_lines() if str(out) in line]


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_the_server_goes_with_the_demo_however_it_ends(finished, error):
    out, _ = finished

    def interrupted():
        with Server(out / "serving") as address, Client(address) as client:
            assert client.recommend(["nobody"], k=3)[0].known_user is False
            assert [line for line in command_lines() if str(out) in line]
            raise error

    with pytest.raises(error):
        interrupted()
    assert not [line for line in command_lines() if str(out) in line]


def test_ctrl_c_leaves_no_process(tmp_path, log_path):
    process = start(tmp_path, "--data", str(log_path))
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("[1/"):
            break
    os.kill(process.pid, signal.SIGINT)
    process.communicate()
    assert process.returncode == 130
    assert not [line for line in command_lines() if str(tmp_path) in line]


def test_a_missing_log_is_one_line(tmp_path):
    process = start(tmp_path, "--data", "absent.csv")
    output, _ = process.communicate()
    assert process.returncode == 2
    assert len(output.strip().splitlines()) == 1
    assert "absent.csv" in output
