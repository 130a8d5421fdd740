"""The whole path through a job server, as to any engine, which is killed in the middle; against one machine's."""

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress

import pytest
from path_runs import check_embeddings, config_of, write_small_log

from tf_hqgnn.beam.path.prepare import Sizes
from tf_hqgnn.beam.path.train import train_on_beam
from tf_hqgnn.beam.running import PipelineFailed
from tf_hqgnn.data.loading import load_dataset
from tf_hqgnn.runs.run_directory import RunDirectory
from tf_hqgnn.training.train import train

pytestmark = pytest.mark.engines

DEADLINE = 900.0
# Two shards of pairs, and two blocks of users and of items.
SMALL = Sizes(shard_bytes=60_000, block_rows=90, block_edges=2000)


@contextmanager
def job_server(folder):
    """A job server of Beam's own, its process, and the options of jobs that run there, in threads of this process."""
    folder.mkdir()
    module = "apache_beam.runners.portability.local_job_service_main"
    places = ["--port_file", folder / "port", "--staging_dir", folder / "staged"]
    command = [sys.executable, "-m", module, *map(str, places)]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "start_new_session": True}
    process = subprocess.Popen(command, **quiet)
    try:
        deadline = time.monotonic() + DEADLINE
        while not (folder / "port").exists():
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.05)
        endpoint = f"--job_endpoint=localhost:{(folder / 'port').read_text()}"
        # Beam would wait five minutes for a server that is gone.
        yield process, ["--runner=PortableRunner", endpoint, "--environment_type=LOOPBACK", "--job_server_timeout=20"]
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_a_path_outlives_its_job_server(tmp_path):
    write_small_log(tmp_path / "log.csv")
    config = config_of(tmp_path / "log.csv")
    lines = []
    with job_server(tmp_path / "first") as (process, flags):

        def say(line):
            lines.append(line)
            if line == "beam: blocks is done":
                process.kill()
                process.wait()

        with pytest.raises(PipelineFailed, match=r"^the job server at localhost:\d+ doesn't answer"):
            train_on_beam(config, tmp_path / "run", flags, say=say, sizes=SMALL)
    assert lines == [f"beam: {step} is done" for step in ("read", "number", "blocks")]
    with job_server(tmp_path / "second") as (_, flags):
        train_on_beam(config, tmp_path / "run", flags, resume=True, say=lines.append, sizes=SMALL)
    assert lines[3] == "beam: start is done"
    assert not list(tmp_path.glob("*.partial*"))
    train(load_dataset(config.data, config.seed), config, tmp_path / "one")
    train_on_beam(config, tmp_path / "direct", (), say=[].append, sizes=SMALL)
    run, one, direct = (RunDirectory.load(tmp_path / name) for name in ("run", "one", "direct"))
    for other in (one, direct):
        assert run.dataset.fingerprint() == other.dataset.fingerprint()
        check_embeddings(run, other, atol=1e-5)
    assert run.metrics["valid"] == pytest.approx(direct.metrics["valid"], abs=1e-6)
    assert run.metrics["full_precision"] == pytest.approx(one.metrics["full_precision"], abs=1e-6)
