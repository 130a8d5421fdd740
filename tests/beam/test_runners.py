"""Workers that are processes of their own: on the direct runner and behind a job service, also when they are killed."""

import json
import logging
import os
import queue
import re
import signal
import socket
import subprocess
import sys
import threading
from concurrent import futures
from functools import partial
from pathlib import Path

import apache_beam as beam
import grpc
import numpy as np
import pyarrow.parquet as pq
import pytest
from apache_beam.options.pipeline_options import WorkerOptions
from apache_beam.portability.api import beam_job_api_pb2, beam_job_api_pb2_grpc
from waits import wait_for

from tf_hqgnn.beam.batch import batch
from tf_hqgnn.beam.flags import has_worker_processes, make_runner, parse_flags
from tf_hqgnn.beam.graph_files import write_edges, write_rows
from tf_hqgnn.beam.job_server import JAVA_LEVELS, LEVELS, describe, kept_log
from tf_hqgnn.beam.propagation import propagate
from tf_hqgnn.beam.running import PipelineFailed, run_to_end
from tf_hqgnn.beam.sinks import read_json
from tf_hqgnn.types import InputError

pytestmark = pytest.mark.engines

DEADLINE = 100.0
MULTI = ("--direct_running_mode=multi_processing", "--direct_num_workers=2")


def rows_of(folder):
    """All rows of an output `folder/out-*`, by user; fails if a user is there twice."""
    rows = [row for path in sorted(folder.glob("out-*.parquet")) for row in pq.read_table(path).to_pylist()]
    assert len({row["user_id"] for row in rows}) == len(rows)
    return {row["user_id"]: row for row in rows}


class Command:
    """`tf-hqgnn batch` in a process of its own, whose standard error is read line by line."""

    def __init__(self, *arguments):
        command = [sys.executable, "-m", "tf_hqgnn.cli", "batch", *map(str, arguments)]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
        )
        self.lines, self.said = queue.Queue(), []
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def _read(self):
        for line in self.process.stderr:
            self.lines.put(line)

    def wait_for_line(self, text):
        while not (self.said and text in self.said[-1]):
            self.said.append(self.lines.get(timeout=DEADLINE))

    def end(self):
        """Exit code and standard output."""
        out = self.process.stdout.read()
        return self.process.wait(DEADLINE), out

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.process.stdout.close()
        self.thread.join()
        self.process.stderr.close()


eventually = partial(wait_for, seconds=DEADLINE)


def manifests(folder):
    return list((folder / "out.parquet.partial").glob("shard-*.json"))


def processes(text):
    """Ids of the processes with `text` in their command."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                found += [(int(entry.name), int((entry / "stat").read_text().rpartition(")")[2].split()[1]))] * (
                    text in command
                )
            except OSError:  # it ended
                continue
    return found


def workers_of(job):
    """Ids of the processes of a run, its job and its workers; `job` is its kind and its output, as "batch FOLDER"."""
    jobs = [process for process, _ in processes(f"tf_hqgnn.beam.job {job}")]
    return jobs, [process for process, parent in processes("sdk_worker_main") if parent in jobs]


@pytest.fixture
def users(tmp_path):
    """200 ids, among them the one that the waiting model waits for."""
    ids = [f"user {number}" for number in range(199)] + ["wait"]
    (tmp_path / "users.txt").write_text("\n".join(ids))
    return tmp_path / "users.txt"


def expected_rows(ids, k=3):
    return {
        user: {
            "user_id": user,
            "known_user": user != "wait",
            "item_ids": [f"{user}-{rank}" for rank in range(k)],
            "scores": [-float(rank) for rank in range(k)],
        }
        for user in ids
    }


def test_a_killed_worker_costs_nothing_but_time(waiting_model, users, tmp_path):
    model, gate = waiting_model
    out = tmp_path / "out.parquet"
    arguments = ["--model", model, "--users", users, "--out", out, "--shards", 8, "-k", 3, "--json", *MULTI]
    with Command(*arguments) as command:
        eventually(lambda: manifests(tmp_path))
        done = {path: path.stat().st_mtime_ns for path in manifests(tmp_path)}
        jobs, workers = eventually(lambda: (found := workers_of(f"batch {tmp_path}")) and len(found[1]) == 2 and found)
        os.kill(workers[0], signal.SIGKILL)
        command.wait_for_line("a worker process died; going on with ")
        for path, changed in done.items():
            assert path.stat().st_mtime_ns == changed
        gate.touch()
        status, stdout = command.end()
        assert status == 0, command.said
    assert json.loads(stdout)["users_in"] == json.loads(stdout)["rows"] == 200
    assert rows_of(tmp_path) == expected_rows(users.read_text().split("\n"))
    assert not any(Path(f"/proc/{process}").exists() for process in (*jobs, *workers))


def test_a_propagation_outlives_a_killed_worker(tmp_path):
    """Beam alone would wait for ever; what the first attempt has written is deleted."""
    write_edges(str(tmp_path / "edges.parquet"), np.arange(40) % 7, np.arange(40) % 9)
    for name, size in (("users", 7), ("items", 9)):
        write_rows(str(tmp_path / f"{name}.parquet"), np.arange(size), np.eye(size, 3))
    files = [str(tmp_path / f"{name}.parquet") for name in ("edges", "users", "items")]
    said = queue.Queue()

    def kill_one():
        _, workers = eventually(
            lambda: (found := workers_of(f"propagation {tmp_path}")) and len(found[1]) == 2 and found
        )
        os.kill(workers[0], signal.SIGKILL)

    killer = threading.Thread(target=kill_one)
    killer.start()
    done = propagate(*files, str(tmp_path / "out"), np.ones(2), flags=MULTI, say=said.put)
    killer.join()
    assert said.get_nowait() == "propagation: a worker process died; going on with all of it, attempt 2"
    assert done.num_edges == 40
    here = tmp_path / "here"
    propagate(*files, str(here), np.ones(2))
    for path in here.glob("*.parquet"):
        assert pq.read_table(path).equals(pq.read_table(tmp_path / "out" / path.name))
    assert not list(tmp_path.glob("*.partial"))


def test_a_killed_run_is_finished_by_the_next_one(waiting_model, users, tmp_path):
    model, gate = waiting_model
    out = tmp_path / "out.parquet"
    with Command("--model", model, "--users", users, "--out", out, "--shards", 8, "-k", 3) as command:
        eventually(lambda: manifests(tmp_path))
        command.process.kill()
        assert command.end()[0] == -signal.SIGKILL
    assert not list(tmp_path.glob("out-*"))
    left = manifests(tmp_path)
    done = {path.stem: read_json(str(path)) for path in left}
    gate.touch()
    said = []
    report = batch(str(model), str(users), str(out), num_shards=8, k=3, say=said.append)
    assert said[0] == f"batch: {len(done)} of 8 shards are done already"
    assert report.rows == 200
    assert rows_of(tmp_path) == expected_rows(users.read_text().split("\n"))


def test_ctrl_c_ends_it_with_one_line_and_leaves_no_process(waiting_model, users, tmp_path):
    model, _ = waiting_model
    arguments = ["--model", model, "--users", users, "--out", tmp_path / "out.parquet", "--shards", 8, *MULTI]
    with Command(*arguments) as command:
        jobs, workers = eventually(lambda: (found := workers_of(f"batch {tmp_path}")) and len(found[1]) == 2 and found)
        command.process.send_signal(signal.SIGINT)
        command.wait_for_line("interrupted")
        assert command.end() == (130, "")
    assert command.said == ["tf-hqgnn: interrupted; the same command goes on\n"]
    eventually(lambda: not any(Path(f"/proc/{process}").exists() for process in (*jobs, *workers)))


@pytest.mark.parametrize(
    "flags",
    [
        "--runner=FlinkRunner --flink_master=HOST:8081 --flink_version=1.19 --environment_type=EXTERNAL",
        "--runner=SparkRunner --spark_master_url=spark://HOST:7077 --spark_version=3 --environment_config=localhost:1",
        "--runner=DataflowRunner --project=P --region=R --temp_location=gs://B/tmp --experiments=use_runner_v2 "
        "--sdk_container_image=IMAGE --sdk_location=container --max_num_workers=32",
    ],
)
def test_flags_of_runners_that_need_a_cluster_are_understood(flags):
    """As in tf_hqgnn/beam/README.md; the runner is made, and not started."""
    options = parse_flags(flags.split())
    assert type(make_runner(options)).__name__ == flags.split()[0].partition("=")[2]
    assert not has_worker_processes(options)


FLINK, SPARK, PRISM = "--runner=FlinkRunner", "--runner=SparkRunner", "--runner=PrismRunner"
PORTABLE, DATAFLOW = "--runner=PortableRunner", "--runner=DataflowRunner"


@pytest.mark.parametrize("runner", [FLINK, SPARK, PRISM, PORTABLE, DATAFLOW])
def test_the_log_level_of_workers_is_one_that_java_knows_too(runner):
    level = parse_flags([runner]).view_as(WorkerOptions).default_sdk_harness_log_level
    assert level in JAVA_LEVELS
    assert isinstance(getattr(logging, level), int)
    assert set(LEVELS) <= set(JAVA_LEVELS)


@pytest.mark.parametrize("flags", [[], ["--runner=DirectRunner"], list(MULTI)])
def test_workers_on_this_machine_are_silent(flags):
    assert parse_flags(flags).view_as(WorkerOptions).default_sdk_harness_log_level == "CRITICAL"


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--default_sdk_harness_log_level=WARNING"], "--default_sdk_harness_log_level: WARNING"),
        (["--default_sdk_harness_log_level=30"], "--default_sdk_harness_log_level: 30"),
        (["--default_sdk_harness_log_level=TRACE"], "--default_sdk_harness_log_level: TRACE"),
        (['--sdk_harness_log_level_overrides={"a.b": "CRITICAL"}'], "--sdk_harness_log_level_overrides, a.b: CRITICAL"),
    ],
)
def test_levels_over_which_a_job_would_be_refused_are_named_beforehand(flags, named):
    for runner in (FLINK, SPARK, PORTABLE):
        with pytest.raises(InputError, match=f"^{re.escape(named)}: .*; expected one of ERROR, WARN, INFO, DEBUG$"):
            parse_flags([runner, *flags])
    # Elsewhere Python's own levels are right.
    for runner in ("--runner=DirectRunner", DATAFLOW):
        parse_flags([runner, *flags])


class JavaJobService(beam_job_api_pb2_grpc.JobServiceServicer):
    """Takes no job: as Java's, it says nothing but INTERNAL about options that it can't parse; others it names."""

    def DescribePipelineOptions(self, request, context):
        return beam_job_api_pb2.DescribePipelineOptionsResponse()

    def Prepare(self, request, context):
        if request.pipeline_options["beam:option:default_sdk_harness_log_level:v1"] not in JAVA_LEVELS:
            context.abort(grpc.StatusCode.INTERNAL, "")
        context.abort(grpc.StatusCode.FAILED_PRECONDITION, "no task manager")


@pytest.fixture
def java_job_service():
    server = grpc.server(futures.ThreadPoolExecutor(2))
    beam_job_api_pb2_grpc.add_JobServiceServicer_to_server(JavaJobService(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None).wait()


@pytest.mark.parametrize(
    ("level", "status"), [(None, "FAILED_PRECONDITION: no task manager"), ("CRITICAL", "INTERNAL, without a reason")]
)
def test_a_job_that_is_refused_says_so_and_where_the_log_is(java_job_service, level, status):
    options = parse_flags([PORTABLE, f"--job_endpoint={java_job_service}", "--environment_type=LOOPBACK"])
    if level is not None:
        options.view_as(WorkerOptions).default_sdk_harness_log_level = level
    pipeline = beam.Pipeline(runner=make_runner(options), options=options)
    _ = pipeline | beam.Create([1])
    with pytest.raises(PipelineFailed) as failed:
        run_to_end(pipeline)
    assert str(failed.value) == (
        f"the job server at {java_job_service} refused the job ({status}); its log, which the process prints that you "
        "started, says why"
    )


def test_a_job_server_that_does_not_answer_is_named(models, tmp_path):
    endpoint = f"127.0.0.1:{free_port()}"
    arguments = ["--model", models / "hqgnn" / "1", "--users", "all", "--out", tmp_path / "out.parquet"]
    flags = [PORTABLE, f"--job_endpoint={endpoint}", "--job_server_timeout=1", "--environment_type=LOOPBACK"]
    with Command(*arguments, *flags) as command:
        assert command.end() == (1, "")
        command.wait_for_line("doesn't answer")
    assert command.said[-1].startswith(
        f"tf-hqgnn: the job server at {endpoint} doesn't answer (UNAVAILABLE, without a "
    )
    assert "start it, or mend --job_endpoint" in command.said[-1]


def test_what_a_job_server_prints_that_beam_starts_is_kept_if_the_job_fails():
    printed = logging.getLogger("apache_beam.utils.subprocess_server")

    def fail():
        with kept_log() as log:
            printed.info("IllegalArgumentException: no enum constant é")
            raise PipelineFailed(describe(grpc.FutureTimeoutError(), None, log, is_submitted=False))

    with pytest.raises(
        PipelineFailed, match=r"the job server that Beam started doesn't answer .*; its log is "
    ) as failed:
        fail()
    log = Path(str(failed.value).rpartition(" ")[2])
    assert "no enum constant é" in log.read_text(encoding="utf-8")
    log.unlink()
    with kept_log() as log:
        printed.info("all is well")
    assert not log.exists()
    assert not printed.handlers


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@pytest.fixture
def job_service(tmp_path):
    """Flags of a portable runner: a job service and a pool of worker processes, each a process of its own."""
    # The pool starts plain `python`: it must be this one.
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    port_file, pool_port = tmp_path / "job.port", free_port()
    module = "apache_beam.runners"
    commands = [
        [f"{module}.portability.local_job_service_main", "--port_file", port_file, "--staging_dir", tmp_path / "job"],
        [f"{module}.worker.worker_pool_main", f"--service_port={pool_port}"],
    ]
    running = [
        subprocess.Popen(
            [sys.executable, "-m", *map(str, command)],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        for command in commands
    ]
    try:
        eventually(port_file.exists)
        yield [
            "--runner=PortableRunner",
            f"--job_endpoint=localhost:{port_file.read_text()}",
            "--environment_type=EXTERNAL",
            f"--environment_config=localhost:{pool_port}",
        ]
    finally:
        for process in running:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def test_a_job_service_and_its_workers_give_the_same(models, job_service, tmp_path):
    model = str(models / "hqgnn" / "1")
    (tmp_path / "users.csv").write_text("user_id\nu1\nnobody\nu1\n" + "".join(f"u{n}\n" for n in range(2, 250)))
    settings = {"num_shards": 5, "say": print}
    (tmp_path / "a").mkdir()
    here = batch(model, str(tmp_path / "users.csv"), str(tmp_path / "a" / "out.parquet"), **settings)
    (tmp_path / "b").mkdir()
    there = batch(model, str(tmp_path / "users.csv"), str(tmp_path / "b" / "out.parquet"), job_service, **settings)
    assert (there.users_in, there.rows, there.rejected) == (here.users_in, here.rows, {"duplicate": 1})
    for one, other in zip(here.files, there.files):
        assert pq.read_table(one).equals(pq.read_table(other))
