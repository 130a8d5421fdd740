"""What becomes of a job on Spark if a part of the cluster dies in the middle; Flink's faults are in test_engines.py."""

import os
import signal
import threading
from functools import partial

import apache_beam as beam
import pytest
from waiting_steps import MISTAKE, Wait
from waits import wait_for

from tf_hqgnn.beam.flags import make_runner, parse_flags
from tf_hqgnn.beam.running import PipelineFailed, run_to_end
from tf_hqgnn.types import InputError

pytestmark = pytest.mark.engines
on_spark = pytest.mark.parametrize("engine", ["spark"], indirect=True)

# Python's workers take seconds to start, and minutes on a machine that has much else to do.
DEADLINE = 300.0
NUMBERS = range(4)


eventually = partial(wait_for, seconds=DEADLINE)


def run(engine, folder, numbers=NUMBERS):
    options = parse_flags(engine.flags)
    pipeline = beam.Pipeline(runner=make_runner(options), options=options)
    _ = pipeline | beam.Create([*numbers]) | beam.Reshuffle() | beam.ParDo(Wait(str(folder)))
    run_to_end(pipeline, str(folder))


class Job(threading.Thread):
    """A job that is in the middle: a step waits on a worker."""

    def __init__(self, engine, folder):
        super().__init__(daemon=True)
        self.arguments = engine, folder
        self.folder = folder
        self.error = None

    def run(self):
        try:
            run(*self.arguments)
        except Exception as error:
            self.error = error

    def __enter__(self):
        self.start()
        eventually(lambda: not self.is_alive() or list(self.folder.glob("asked-*")))
        assert self.error is None
        return self

    def __exit__(self, *_):
        # Steps that wait still would keep their worker.
        (self.folder / "gate").touch()
        self.join(DEADLINE)

    def end(self):
        """The error with which it ended; None if all went well."""
        self.join(DEADLINE)
        assert not self.is_alive()
        return self.error


def check_complete(folder):
    outputs = {path.name: path.read_bytes() for path in folder.glob("out-*")}
    assert outputs == {f"out-{number}": b"complete" for number in NUMBERS}


@on_spark
def test_a_mistake_in_the_input_is_told_without_trying_again(engine, tmp_path):
    with pytest.raises(InputError, match=r"^numbers.csv: -1 is no number$"):
        run(engine, tmp_path, [MISTAKE])
    eventually(engine.was_cancelled)


@on_spark
def test_a_killed_python_worker_costs_nothing_but_time(engine, tmp_path):
    before = engine.num_faults()
    with Job(engine, tmp_path) as job:
        engine.kill_python_worker()
        (tmp_path / "gate").touch()
        assert job.end() is None
    assert engine.num_faults() > before
    check_complete(tmp_path)


@on_spark
def test_a_killed_machine_costs_nothing_but_time(engine, tmp_path):
    """What it has left on its disk goes when it is replaced."""
    before = engine.num_faults()
    with Job(engine, tmp_path) as job:
        for machine in engine.machines:
            (engine.scratch(machine) / "spilled").touch()
        engine.kill_machine()
        try:
            (tmp_path / "gate").touch()
            assert job.end() is None
        finally:
            engine.replace_machine()
    assert [(engine.scratch(machine) / "spilled").exists() for machine in engine.machines].count(False) == 1
    assert engine.num_faults() > before
    check_complete(tmp_path)


@on_spark
def test_ctrl_c_cancels_the_job_and_the_next_run_goes_on(engine, tmp_path):
    def interrupt():
        eventually(lambda: list(tmp_path.glob("asked-*")))
        os.kill(os.getpid(), signal.SIGINT)

    # The workers of xdist ignore the signal.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        threading.Thread(target=interrupt, daemon=True).start()
        with pytest.raises(KeyboardInterrupt):
            run(engine, tmp_path)
    finally:
        signal.signal(signal.SIGINT, before)
    eventually(engine.was_cancelled)
    assert not list(tmp_path.glob("out-*"))
    (tmp_path / "gate").touch()
    run(engine, tmp_path)
    check_complete(tmp_path)


# A thread of Beam's ends with the error that the job then raises.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@on_spark
def test_a_killed_job_server_is_named_and_the_next_run_goes_on(engine, tmp_path):
    with Job(engine, tmp_path) as job:
        engine.processes.kill("jobserver")
        error = job.end()
        assert isinstance(error, PipelineFailed)
        assert str(error).startswith(f"the job server at 127.0.0.1:{engine.port('job')} was lost while the job ran (")
        eventually(engine.was_cancelled)
        assert not list(tmp_path.glob("out-*"))
    engine.start_job_server()
    run(engine, tmp_path)
    check_complete(tmp_path)


@on_spark
def test_a_killed_master_is_not_needed_until_the_next_run(engine, tmp_path):
    with Job(engine, tmp_path) as job:
        engine.processes.kill("master")
        (tmp_path / "gate").touch()
        assert job.end() is None
    check_complete(tmp_path)
    engine.start_master()
    engine.wait_for_machines()
    (tmp_path / "next").mkdir()
    (tmp_path / "next" / "gate").touch()
    run(engine, tmp_path / "next")
    check_complete(tmp_path / "next")
