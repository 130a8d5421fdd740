"""A task manager of Flink's whose Java heap is full: it ends, and its job goes on elsewhere instead of waiting."""

import threading
from functools import partial

import apache_beam as beam
import pytest
from waits import wait_for

from engines.flink import TaskManagerMemory
from tf_hqgnn.beam.flags import make_runner, parse_flags
from tf_hqgnn.beam.running import run_to_end

pytestmark = pytest.mark.engines
MEGABYTES = 100
SMALL = TaskManagerMemory(heap=16)

eventually = partial(wait_for, seconds=300.0)


def large(_):
    return "all", bytes(MEGABYTES << 20)


def write_size(element, path):
    _, values = element
    path.write_text(str(sum(map(len, values))))


@pytest.mark.parametrize("engine", ["flink"], indirect=True)
def test_a_task_manager_with_a_full_heap_ends_and_its_job_goes_on(engine, tmp_path):
    options = parse_flags(engine.flags)
    pipeline = beam.Pipeline(runner=make_runner(options), options=options)
    made = pipeline | beam.Create([0]) | beam.Reshuffle() | beam.Map(large)
    _ = made | beam.GroupByKey() | beam.Map(write_size, tmp_path / "size")
    errors = []

    def run():
        try:
            run_to_end(pipeline, str(tmp_path))
        except Exception as error:
            errors.append(error)

    for name in engine.machines:
        engine.processes.kill(name)
    engine.wait_for_machines(0)
    job = threading.Thread(target=run, daemon=True)
    try:
        engine.start_task_manager(engine.machines[0], SMALL)
        engine.wait_for_machines(1)
        job.start()
        eventually(lambda: engine.processes.pid(engine.machines[0]) is None)
        assert "OutOfMemoryError: Java heap space" in (engine.folder / f"{engine.machines[0]}.log").read_text()
    finally:
        for name in engine.machines:
            engine.processes.kill(name)
            engine.start_task_manager(name)
        engine.wait_for_machines()
    job.join(300.0)
    assert not job.is_alive()
    assert not errors
    assert (tmp_path / "size").read_text() == str(MEGABYTES << 20)
