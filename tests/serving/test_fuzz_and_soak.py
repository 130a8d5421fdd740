"""A sample of `make fuzz` and a minute of `make soak`."""

import pytest

from benchmarks import fuzz, soak
from benchmarks.served import Usage


def test_a_sample_of_random_inputs(tmp_path):
    counts = fuzz.run(tmp_path, inputs=360, first_seed=1, rounds=3)
    assert sum(counts.values()) >= 350
    assert min(counts["gRPC OK"], counts["REST 200"], counts["socket 400"]) > 3


@pytest.mark.long
def test_a_minute_of_mixed_load(tmp_path):
    # On a busy machine, 679 MiB became 774 within it; what reloads leave is looked for below, without slack.
    done = soak.run(tmp_path, seconds=70, version_seconds=15, slack_mebibytes=100)
    assert done.count > 64
    assert done.published > 2
    assert done.deaths > 10


@pytest.mark.long
def test_reloads_in_a_row(tmp_path):
    assert len(soak.reloads(tmp_path, 9)) == 9


def test_what_grows_is_named():
    before = Usage(memory=100, threads=10, files=10)
    assert before.exceeds(before) == []
    assert Usage(111, 11, 11).exceeds(before) == ["memory grew from 100 to 111"]
    assert Usage(111, 12, 12).exceeds(before, 5) == ["threads grew from 10 to 12", "files grew from 10 to 12"]
