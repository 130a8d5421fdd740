"""A task manager of Flink's that runs out of memory: its job goes on elsewhere instead of waiting."""

import threading
from functools import partial

import apache_beam as beam
import pytest
from large_element import MEGABYTES, Large, write_size
from waits import wait_for

from engines.flink import TaskManagerMemory
from tf_hqgnn.beam.flags import make_runner, parse_flags
from tf_hqgnn.beam.running import run_to_end

pytestmark = pytest.mark.engines
DEADLINE = 120.0

eventually = partial(wait_for, seconds=DEADLINE)


@pytest.mark.parametrize("engine", ["flink"], indirect=True)
def test_a_task_manager_with_a_full_heap_ends_and_its_job_goes_on(engine, tmp_path):
    options = parse_flags(engine.flags)
    pipeline = beam.Pipeline(runner=make_runner(options), options=options)
    made = pipeline | beam.Create([0]) | beam.Reshuffle() | beam.ParDo(Large())
    _ = made | "Send" >> beam.Reshuffle() | beam.Map(write_size, tmp_path / "size")
    errors = []

    def run():
        try:
            run_to_end(pipeline, str(tmp_path))
        except Exception as error:
            errors.append(error)

    small = engine.machines[0]
    for name in engine.machines:
        engine.processes.kill(name)
    engine.wait_for_machines(0)
    job = threading.Thread(target=run, daemon=True)
    try:
        engine.start_task_manager(small, TaskManagerMemory(heap=16, direct=512))
        engine.wait_for_machines(1)
        job.start()
        eventually(lambda: engine.processes.pid(small) is None)
        assert "OutOfMemoryError: Java heap space" in (engine.folder / f"{small}.log").read_text()
        for name in engine.machines:
            engine.start_task_manager(name, TaskManagerMemory(heap=1024, direct=512))
        job.join(DEADLINE)
    finally:
        for name in engine.machines:
            engine.processes.kill(name)
            engine.start_task_manager(name)
        engine.wait_for_machines()
    assert not job.is_alive()
    assert not errors
    assert (tmp_path / "size").read_text() == str(MEGABYTES << 20)
