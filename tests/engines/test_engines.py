"""Beam's jobs on real clusters of two machines' processes, and on prism: equal results, kills, mistakes, Ctrl-C."""

import os
import signal
import subprocess
import sys
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from propagated import rows_of
from waiting_model import save_waiting, waiting_rows
from waits import wait_for

from tf_hqgnn.beam.batch import batch
from tf_hqgnn.beam.graph_files import write_edges, write_rows
from tf_hqgnn.beam.propagation import propagate
from tf_hqgnn.beam.series import coefficients
from tf_hqgnn.types import InputError

pytestmark = pytest.mark.engines
on_flink = pytest.mark.parametrize("engine", ["flink"], indirect=True)
on_all = pytest.mark.parametrize("engine", ["flink", "spark", "prism"], indirect=True)
on_prism = pytest.mark.parametrize("engine", ["prism"], indirect=True)
# What isn't tried on Spark: kills, mistakes and Ctrl-C.
on_flink = pytest.mark.parametrize("engine", ["flink"], indirect=True)

# Python's workers take seconds to start, and a minute on a machine that has much else to do.
DEADLINE = 900.0
# Shards wait on both workers until the test lets them go on.
USERS = [f"user {number}" for number in range(80)] + [f"wait {number}" for number in range(40)]
K = 3


eventually = partial(wait_for, seconds=DEADLINE)


@on_all
def test_batch_gives_the_bytes_of_the_direct_runner(engine, model, tmp_path, monkeypatch):
    """Relative paths work, too, although workers run in other folders."""
    monkeypatch.chdir(tmp_path)
    ids = ["nobody", "u1", *(f"u{number}" for number in range(250))]
    (tmp_path / "users.csv").write_text("\n".join(["user_id", *ids]))
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
    here = batch(model, "users.csv", "here/out.parquet", num_shards=4, say=print)
    settings = {"num_shards": 4, "tf_threads": 1, "say": print}
    there = batch(model, "users.csv", "there/out.parquet", engine.flags, **settings)
    assert (there.users_in, there.rows, there.rejected) == (252, 251, {"duplicate": 1})
    assert (here.users_in, here.rows, here.rejected) == (252, 251, {"duplicate": 1})
    files = sorted(path.name for path in (tmp_path / "here").glob("*.parquet"))
    assert len(files) == 4
    for name in files:
        assert (tmp_path / "here" / name).read_bytes() == (tmp_path / "there" / name).read_bytes()


@on_all
def test_batch_by_scann_gives_the_answers_of_the_direct_runner(engine, model, tmp_path):
    scann = str(Path(model).parents[1] / "hqgnn_scann" / "1")
    (tmp_path / "users.txt").write_text("\n".join(f"u{number}" for number in range(60)))
    tables = []
    for name, flags in (("here", []), ("there", engine.flags)):
        batch(scann, str(tmp_path / "users.txt"), str(tmp_path / f"{name}.parquet"), flags, num_shards=2, say=print)
        tables.append([pq.read_table(path).to_pydict() for path in sorted(tmp_path.glob(f"{name}-*.parquet"))])
    assert len(tables[0]) == 2
    assert sum(len(table["user_id"]) for table in tables[0]) == 60
    assert tables[0] == tables[1]


@pytest.fixture
def graph(tmp_path):
    """Files of 300 users, 200 items and 3,000 edges."""
    rng = np.random.default_rng(5)
    users, items = rng.integers(0, 300, 3000), rng.integers(0, 200, 3000)
    for part in range(2):
        write_edges(str(tmp_path / f"edges-{part}.parquet"), users[part::2], items[part::2])
    write_rows(str(tmp_path / "users.parquet"), np.arange(300), rng.normal(size=(300, 4)))
    write_rows(str(tmp_path / "items.parquet"), np.arange(200), rng.normal(size=(200, 4)))
    return [str(tmp_path / name) for name in ("edges-*.parquet", "users.parquet", "items.parquet")]


@on_all
def test_propagation_gives_the_rows_of_the_direct_runner(engine, graph, tmp_path):
    series = coefficients("exact", 0.5, tolerance=1e-2)
    done, rows = [], []
    for name, flags in (("here", []), ("there", engine.flags)):
        out = tmp_path / name
        done.append(propagate(*graph, str(out), series, flags=flags, block_rows=64, block_edges=500, say=print))
        rows.extend(rows_of(out))
        assert not (tmp_path / f"{name}.partial").exists()
    assert done[0].num_edges == done[1].num_edges
    for one, other in ((rows[0], rows[2]), (rows[1], rows[3])):
        assert one.shape == other.shape
        np.testing.assert_allclose(one, other, atol=1e-5)


@pytest.fixture
def waiting(tmp_path):
    """Arguments of a batch whose shards wait for the file `gate`."""
    save_waiting(tmp_path / "waiting", tmp_path / "gate")
    (tmp_path / "users.txt").write_text("\n".join(USERS))
    return [str(tmp_path / name) for name in ("waiting", "users.txt", "out.parquet")]


def ancestors(pid, parents):
    while pid in parents:
        pid = parents[pid]
        yield pid


class Running:
    """`tf-hqgnn batch` in a process of its own, which is in the middle: two shards wait on workers."""

    def __init__(self, waiting, engine, folder, *flags, num_waiting=2):
        self.folder = folder
        self.num_waiting = num_waiting
        model, users, out = waiting
        command = [sys.executable, "-m", "tf_hqgnn.cli", "batch", "--model", model, "--users", users, "--out", out]
        command += ["--shards", "4", "-k", str(K), "--tf-threads", "1", *engine.flags, *flags]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
        )

    def __enter__(self):
        eventually(lambda: self.process.poll() is not None or len(self.asked()) >= self.num_waiting)
        assert self.process.poll() is None, self.process.stdout.read()
        return self

    def asked(self):
        return list(self.folder.glob("gate.asked-*"))

    def python_workers(self):
        """Ids of the Python workers among what the command has started, and what that has started."""
        parents, workers = {}, []
        for entry in Path("/proc").iterdir():
            if entry.name.isdecimal():
                with suppress(OSError):
                    parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                    if b"boot.py" in (entry / "cmdline").read_bytes():
                        workers.append(int(entry.name))
        return [worker for worker in workers if self.process.pid in ancestors(worker, parents)]

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        self.process.wait(DEADLINE)
        self.process.stdout.close()

    def end(self):
        """Exit code and all that was said."""
        (said, _) = self.process.communicate(timeout=DEADLINE)
        return self.process.returncode, said


def check_complete(folder):
    rows = [row for path in sorted(folder.glob("out-*.parquet")) for row in pq.read_table(path).to_pylist()]
    assert {row["user_id"]: row for row in rows} == waiting_rows(USERS, K)
    assert len(rows) == len(USERS)
    assert not (folder / "out.parquet.partial").exists()


@on_flink
def test_a_killed_machine_costs_nothing_but_time(engine, waiting, tmp_path):
    """What it has left on its disk goes when it is replaced."""
    before = engine.num_faults()
    with Running(waiting, engine, tmp_path) as running:
        for machine in engine.machines:
            (engine.scratch(machine) / "spilled").touch()
        engine.kill_machine()
        try:
            (tmp_path / "gate").touch()
            status, said = running.end()
        finally:
            engine.replace_machine()
    assert [(engine.scratch(machine) / "spilled").exists() for machine in engine.machines].count(False) == 1
    assert status == 0, said
    assert engine.num_faults() > before
    check_complete(tmp_path)


@on_flink
def test_a_killed_python_worker_costs_nothing_but_time(engine, waiting, tmp_path):
    before = engine.num_faults()
    with Running(waiting, engine, tmp_path) as running:
        engine.kill_python_worker()
        (tmp_path / "gate").touch()
        status, said = running.end()
    assert status == 0, said
    assert engine.num_faults() > before
    check_complete(tmp_path)


@on_flink
def test_a_mistake_in_the_input_is_told_without_trying_again(engine, graph, tmp_path):
    write_edges(str(tmp_path / "edges-2.parquet"), np.array([300]), np.array([0]))
    with pytest.raises(
        InputError, match=r"^/.*edges-2\.parquet: user_index 300 isn't in \[0, 300\), as the files of rows"
    ):
        propagate(*graph, str(tmp_path / "out"), np.ones(2), flags=engine.flags)
    assert not (tmp_path / "out").exists()
    eventually(engine.was_cancelled)


@on_flink
def test_ctrl_c_cancels_the_job_and_the_next_run_goes_on(engine, waiting, tmp_path):
    with Running(waiting, engine, tmp_path) as running:
        running.process.send_signal(signal.SIGINT)
        status, said = running.end()
    assert (status, said.splitlines()[-1]) == (130, "tf-hqgnn: interrupted; the same command goes on")
    eventually(engine.was_cancelled)
    assert not list(tmp_path.glob("out-*"))
    assert not list(tmp_path.glob("*.report.json"))
    (tmp_path / "gate").touch()
    batch(*waiting, engine.flags, num_shards=4, k=K, tf_threads=1, say=print)
    check_complete(tmp_path)


@on_flink
def test_a_killed_job_server_is_named_and_the_next_run_goes_on(engine, waiting, tmp_path):
    with Running(waiting, engine, tmp_path) as running:
        engine.processes.kill("jobserver")
        status, said = running.end()
    assert status == 1, said
    line = said.splitlines()[-1]
    assert line.startswith(f"tf-hqgnn: the job server at 127.0.0.1:{engine.port('job')} was lost while the job ran (")
    eventually(engine.was_cancelled)
    assert not list(tmp_path.glob("out-*"))
    (tmp_path / "gate").touch()
    engine.start_job_server()
    batch(*waiting, engine.flags, num_shards=4, k=K, tf_threads=1, say=print)
    check_complete(tmp_path)


@on_flink
def test_a_killed_job_manager_is_named_and_the_next_run_goes_on(engine, waiting, tmp_path):
    """One that is started again at once doesn't know the job any more."""
    where = f"tf-hqgnn: Flink's job manager at 127.0.0.1:{engine.port('rest')}"
    outcomes = []
    for is_back in (False, True):
        with Running(waiting, engine, tmp_path) as running:
            engine.processes.kill("jobmanager")
            if is_back:
                engine.start_job_manager()
            status, said = running.end()
            assert status == 1, said
            outcomes.append(said.splitlines()[-1])
        if not is_back:
            engine.start_job_manager()
        engine.wait_for_machines()
        assert not list(tmp_path.glob("out-*"))
        assert not list(tmp_path.glob("*.report.json"))
        for asked in running.asked():
            asked.unlink()
    kept = "what is done is kept, and the same command goes on"
    assert outcomes == [
        f"{where} doesn't answer, and a job that it ran is lost; start it again, or mend --flink_master; {kept}",
        f"{where} doesn't know the job any more: it was started again in the middle, and the job is lost; {kept}",
    ]
    (tmp_path / "gate").touch()
    batch(*waiting, engine.flags, num_shards=4, k=K, tf_threads=1, say=print)
    check_complete(tmp_path)


@on_prism
def test_a_killed_python_worker_of_prism_costs_nothing_but_time(engine, waiting, tmp_path):
    """Prism itself waits for it for ever."""
    with Running(waiting, engine, tmp_path, num_waiting=1) as running:
        workers = running.python_workers()
        assert workers
        os.kill(workers[0], signal.SIGKILL)
        (tmp_path / "gate").touch()
        status, said = running.end()
    assert status == 0, said
    assert "batch: a worker process died; going on with " in said
    check_complete(tmp_path)
