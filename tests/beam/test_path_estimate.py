"""The plan of a path: it grows with the log, and says no less than what the steps can't do without."""

import subprocess
import sys

import pytest

from tf_hqgnn.beam.path.estimate import estimate
from tf_hqgnn.config import Config
from tf_hqgnn.config.presets import find_config


@pytest.fixture(scope="module")
def spectral():
    return Config.load(find_config("spectral"), ("model.embedding_dim=64",))


def test_it_grows_with_the_log(spectral):
    sizes = [estimate(spectral, 10**power) for power in (6, 9, 10, 11)]
    for name in ("processor_hours", "shuffled", "read", "disk"):
        values = [getattr(one, name) for one in sizes]
        assert values == sorted(values), name
    # A product per power iteration and side, and two more; each sends 74 columns of 4 bytes for every pair.
    assert sizes[2].least == 18 * 10**10 * 74 * 4
    assert sizes[0].machines == 1
    # What a worker holds grows with the root of the log.
    for name in ("worker_memory", "engine_memory"):
        assert getattr(sizes[1], name) < getattr(sizes[3], name) <= 10.01 * getattr(sizes[1], name), name
    # The ends of each pair lie in two blocks.
    assert sizes[3].disk > 2 * 8 * 10**11


def test_known_sizes_count(spectral):
    few, many = (estimate(spectral, 10**9, 10**6, items) for items in (10**5, 10**7))
    assert few.num_items == 10**5
    assert few.read < many.read


def test_the_command_prints_and_runs_nothing(tmp_path):
    log = tmp_path / "log.csv"
    log.write_text("user_id,item_id\n" + "u1,i1\n" * 10)
    command = ["train", "spectral", "--out", str(tmp_path / "run"), "--plan", "--set", f"data.path={log}"]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "tf_hqgnn.cli", *command], capture_output=True, text=True, check=True
    )
    lines = done.stdout.splitlines()
    assert [line.split()[1] for line in lines] == ["1,000", "1,000,000,000", "10,000,000,000", "100,000,000,000"]
    assert sorted(tmp_path.iterdir()) == [log]
