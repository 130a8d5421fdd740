"""A machine of a cluster whose disk is full: the job is complete or says so, and the next run goes on."""

import os
import subprocess
from functools import partial

import numpy as np
import pytest
from propagated import rows_of

from tf_hqgnn.beam.graph_files import write_edges, write_rows
from tf_hqgnn.beam.propagation import propagate
from tf_hqgnn.beam.running import PipelineFailed

pytestmark = pytest.mark.engines
on_clusters = pytest.mark.parametrize("engine", ["flink", "spark"], indirect=True)
MEGABYTE = 1 << 20


@pytest.fixture
def disk(engine):
    """The folder of a machine's shuffles, which is a file system of 768 MB."""
    machine = engine.machines[1]
    engine.kill_machine(machine)
    folder = engine.scratch(machine)
    mount = ["mount", "-t", "tmpfs", "-o", "size=768m", "tmpfs", str(folder)]
    mounted = subprocess.run(mount, capture_output=True, text=True)
    engine.replace_machine()
    try:
        if mounted.returncode:
            pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
        yield folder
    finally:
        if not mounted.returncode:
            engine.kill_machine(machine)
            subprocess.run(["umount", str(folder)], check=True)
            engine.replace_machine()


def check_same(one, other):
    for found, expected in zip(rows_of(one), rows_of(other)):
        np.testing.assert_allclose(found, expected, atol=1e-5)


@on_clusters
def test_a_full_disk_is_named_and_the_next_run_goes_on(engine, disk, tmp_path):
    rng = np.random.default_rng(7)
    write_edges(str(tmp_path / "edges.parquet"), rng.integers(0, 20_000, 40_000), rng.integers(0, 10_000, 40_000))
    write_rows(str(tmp_path / "users.parquet"), np.arange(20_000), rng.normal(size=(20_000, 64)))
    write_rows(str(tmp_path / "items.parquet"), np.arange(10_000), rng.normal(size=(10_000, 64)))
    inputs = [str(tmp_path / f"{name}.parquet") for name in ("edges", "users", "items")]
    settings = {"series": np.array([0.5, 0.5]), "block_rows": 4000, "say": print}
    propagate(*inputs, str(tmp_path / "here"), **settings)
    free = os.statvfs(disk)
    (disk / "filler").write_bytes(bytes(free.f_bavail * free.f_frsize - MEGABYTE))
    again = partial(propagate, *inputs, **settings, flags=engine.flags)
    if engine.name == "flink":
        with pytest.raises(PipelineFailed, match=r"^a disk of the engine's is full: make room where [^\n]*$"):
            again(str(tmp_path / "full"))
        assert not (tmp_path / "full").exists()
    else:
        # Spark does on the other machine what has failed on this one.
        again(str(tmp_path / "full"))
        check_same(tmp_path / "full", tmp_path / "here")
    (disk / "filler").unlink()
    again(str(tmp_path / "next"))
    check_same(tmp_path / "next", tmp_path / "here")
