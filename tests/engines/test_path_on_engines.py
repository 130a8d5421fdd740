"""A path from a log to a run directory, some steps of which run on a cluster with a fault in the middle.

An engine takes seconds to start each of the two dozen jobs of a path, so the direct runner does the others: a path goes
on from its files, whatever runner has written them.
"""

import threading
from contextlib import suppress
from itertools import cycle

import pytest
from path_runs import check_embeddings, config_of, write_small_log

from tf_hqgnn.beam.path.prepare import Sizes
from tf_hqgnn.beam.path.train import train_on_beam
from tf_hqgnn.data.loading import load_dataset
from tf_hqgnn.runs.run_directory import RunDirectory
from tf_hqgnn.training.train import train

pytestmark = pytest.mark.engines

# Two shards of pairs, and two blocks of users and of items, so that both workers have something to do.
SMALL = Sizes(shard_bytes=60_000, block_rows=90, block_edges=2000)
# The last steps that the engine and the direct runner do, in turn.
LAST_STEPS = ("read", "product-00", "product-01", "stats", None)


class Enough(Exception):
    """A step is done."""


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    path = tmp_path_factory.mktemp("log") / "log.csv"
    write_small_log(path)
    return config_of(path)


@pytest.fixture(scope="module")
def expected(config, tmp_path_factory):
    """The run of one machine, and that of Beam in this process."""
    folder = tmp_path_factory.mktemp("here")
    train(load_dataset(config.data, config.seed), config, folder / "one")
    train_on_beam(config, folder / "direct", (), say=[].append, sizes=SMALL)
    return RunDirectory.load(folder / "one"), RunDirectory.load(folder / "direct")


def check_same(found, expected):
    """Checks a run of several runners; one machine adds up in another order."""
    one, direct = expected
    for other, tolerance in ((direct, 1e-5), (one, 1e-4)):
        assert found.dataset.fingerprint() == other.dataset.fingerprint()
        check_embeddings(found, other, atol=tolerance)
    assert found.metrics["valid"] == pytest.approx(direct.metrics["valid"], abs=1e-6)
    again = found.evaluate("valid", (10, 20, 50))
    assert found.metrics["valid"] == pytest.approx(again.metrics.values, abs=1e-6)
    assert found.metrics["full_precision"] == pytest.approx(one.metrics["full_precision"], abs=1e-6)


def kill_workers(engine, until):
    """Kills Python workers, cached ones of an earlier step among them, until a job has lost one."""
    before = engine.num_faults()
    while not until.wait(0.5) and engine.num_faults() == before:
        with suppress(StopIteration, ProcessLookupError):
            engine.kill_python_worker()


def test_a_path_gives_the_same_though_a_worker_is_killed(config, expected, engine, tmp_path):
    done = {"engine": [], "direct": []}
    faults, ended = engine.num_faults(), threading.Event()
    killer = threading.Thread(target=kill_workers, args=(engine, ended), daemon=True)
    for last, (runner, flags) in zip(LAST_STEPS, cycle([("engine", engine.flags), ("direct", ())])):

        def say(line, last=last, runner=runner):
            done[runner].append(line.split()[1])
            if done[runner][-1] == last:
                raise Enough

        if last == "product-01":
            killer.start()
        try:
            train_on_beam(config, tmp_path / "run", flags, resume=True, say=say, sizes=SMALL)
        except Enough:
            continue
        finally:
            if killer.is_alive():
                ended.set()
                killer.join()
    assert done["engine"] == ["read", "product-01", "served", "evaluate-valid"]
    assert engine.num_faults() > faults
    check_same(RunDirectory.load(tmp_path / "run"), expected)
    assert not list(tmp_path.glob("*.partial*"))
