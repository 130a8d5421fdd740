"""What is asked of an engine's job server, and told to its workers; tests/engines runs real engines."""

import json
import threading
from concurrent import futures
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import apache_beam as beam
import grpc
import pytest
import typer
from apache_beam.options.pipeline_options import PortableOptions
from apache_beam.portability.api import beam_job_api_pb2, beam_job_api_pb2_grpc
from apache_beam.runners.runner import PipelineRunner
from typer.testing import CliRunner

from tf_hqgnn.beam.cancelling import cancel, is_lost, master_and_name
from tf_hqgnn.beam.flags import parse_flags
from tf_hqgnn.beam.mistakes import Notes, noted
from tf_hqgnn.beam.places import for_workers
from tf_hqgnn.beam.running import PipelineFailed, run_to_end
from tf_hqgnn.cli.beam_options import BeamCommand, WithBeamOptions
from tf_hqgnn.types import InputError

KINDS = beam_job_api_pb2.PipelineOptionType
FLINK = {
    "object_reuse": (KINDS.BOOLEAN, "false"),
    "operator_chaining": (KINDS.BOOLEAN, "true"),
    "number_of_execution_retries": (KINDS.INTEGER, "-1"),
    "execution_mode_for_batch": (KINDS.STRING, "PIPELINED"),
    "hosts": (KINDS.ARRAY, ""),
    "parallelism": (KINDS.INTEGER, "-1"),
}


@pytest.fixture
def job_server():
    """Starts job servers with given options."""
    servers = []

    def start(described):
        class Service(beam_job_api_pb2_grpc.JobServiceServicer):
            def DescribePipelineOptions(self, request, context):
                options = [
                    beam_job_api_pb2.PipelineOptionDescriptor(name=name, type=kind, default_value=default)
                    for name, (kind, default) in described.items()
                ]
                return beam_job_api_pb2.DescribePipelineOptionsResponse(options=options)

        server = grpc.server(futures.ThreadPoolExecutor(1))
        beam_job_api_pb2_grpc.add_JobServiceServicer_to_server(Service(), server)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        servers.append(server)
        return ["--runner=PortableRunner", f"--job_endpoint=127.0.0.1:{port}"]

    yield start
    for server in servers:
        server.stop(None).wait()


def test_options_that_only_the_engine_has_are_passed_on(job_server):
    flags = job_server(FLINK)
    given = ["--object_reuse", "--operator_chaining", "--hosts", "a", "--hosts=b"]
    options = parse_flags([*flags, *given, "--number_of_execution_retries=2", "--parallelism=3"])

    def add(parser):
        parser.add_argument("--object_reuse", action="store_true")
        parser.add_argument("--operator_chaining", action="store_false")
        parser.add_argument("--hosts", action="append")
        parser.add_argument("--number_of_execution_retries", type=int)

    found = options.get_all_options(add_extra_args_fn=add)
    assert (found["object_reuse"], found["operator_chaining"]) == (True, False)
    assert found["hosts"] == ["a", "b"]
    assert (found["number_of_execution_retries"], found["parallelism"]) == (2, 3)


def test_an_option_that_neither_has_is_refused_with_the_nearest_of_either(job_server):
    flags = job_server(FLINK)
    with pytest.raises(
        InputError,
        match=r"^--object_reus: not an option of this command nor of Apache Beam, nor of the engine behind "
        r"127.0.0.1:\d+; do you mean --object_reuse\?$",
    ):
        parse_flags([*flags, "--object_reus"])
    with pytest.raises(InputError, match=r"^--object_reuse: not an option of this command nor of Apache Beam; do you"):
        parse_flags(["--runner=PortableRunner", "--object_reuse"])
    with pytest.raises(InputError, match=r"^Beam: argument --number_of_execution_retries: invalid int value: 'few'$"):
        parse_flags([*flags, "--number_of_execution_retries=few"])


def test_what_follows_two_dashes_is_passed_on_without_a_question():
    """Beam starts the job server of --runner=FlinkRunner later: nobody can be asked before."""
    with pytest.raises(InputError, match=r"; options of the engine come last, after --, as in `-- --object_reuse`$"):
        parse_flags(["--runner=FlinkRunner", "--object_reuse"])
    flags = ["--runner=FlinkRunner", "--parallelism=3", "--", "--hosts=a", "--object_reuse"]

    def add(parser):
        parser.add_argument("--hosts", action="append")
        parser.add_argument("--object_reuse", action="store_true")

    found = parse_flags(flags).get_all_options(add_extra_args_fn=add)
    assert (found["parallelism"], found["hosts"], found["object_reuse"]) == (3, ["a"], True)
    assert mode_of([*flags, "--execution_mode_for_batch=PIPELINED"]) == "PIPELINED"
    assert mode_of(flags) == "BATCH_FORCED"
    with pytest.raises(InputError, match=r"^-- --object_reuse: the direct runner has no engine to pass this on to$"):
        parse_flags(["--", "--object_reuse"])
    with pytest.raises(InputError, match=r"and no job server at 127\.0\.0\.1:1 says which options its engine has"):
        parse_flags(["--runner=PortableRunner", "--job_endpoint=127.0.0.1:1", "--object_reuse"])


def test_commands_hand_two_dashes_on_to_beam():
    def parsed(command, words):
        app, seen = typer.Typer(), []

        @app.command(cls=command)
        def one(context: typer.Context, model: str = "") -> None:
            seen.append((model, context.args))

        status = CliRunner().invoke(app, words).exit_code
        return seen[0] if status == 0 else status

    assert parsed(BeamCommand, ["--x=2", "--model", "m", "--", "--a", "b"]) == ("m", ["--x=2", "--", "--a", "b"])
    assert parsed(WithBeamOptions, ["--model=m", "--runner=R", "--", "--a"]) == ("m", ["--runner=R", "--", "--a"])
    assert parsed(WithBeamOptions, ["--model=m", "--", "--a"]) == 2


def mode_of(flags):
    options = parse_flags(flags)
    return options.get_all_options(add_extra_args_fn=lambda parser: parser.add_argument("--execution_mode_for_batch"))[
        "execution_mode_for_batch"
    ]


def test_batches_are_forced_on_flink_unless_another_mode_is_given(job_server):
    flink, other = job_server(FLINK), job_server({"bundle_size": (KINDS.INTEGER, "0")})
    assert mode_of(flink) == "BATCH_FORCED"
    assert mode_of(["--runner=FlinkRunner"]) == "BATCH_FORCED"
    assert mode_of([*flink, "--execution_mode_for_batch=PIPELINED"]) == "PIPELINED"
    assert mode_of(other) is None
    assert mode_of([]) is None


@pytest.mark.parametrize(
    ("flags", "milliseconds"),
    [
        (["--runner=FlinkRunner"], 500),
        (["--runner=SparkRunner", "--environment_cache_millis=8000"], 8000),
        ([], 0),
    ],
)
def test_workers_are_kept_from_step_to_step(flags, milliseconds):
    assert int(parse_flags(flags).view_as(PortableOptions).environment_cache_millis) == milliseconds


@pytest.mark.parametrize("flags", [["--environment_type=PROCESS"], ["--environment_type=EXTERNAL"]])
def test_workers_are_told_absolute_paths(flags, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = parse_flags(["--runner=FlinkRunner", *flags])
    assert for_workers(options, "--users", "users/*.csv") == f"{tmp_path}/users/*.csv"
    assert for_workers(options, "--users", "gs://bucket/users.csv") == "gs://bucket/users.csv"
    assert for_workers(parse_flags([]), "--users", "users.csv") == "users.csv"


@pytest.mark.parametrize(
    "flags",
    [
        ["--runner=PortableRunner"],
        ["--runner=PortableRunner", "--environment_type=DOCKER"],
        ["--runner=FlinkRunner", "--environment_type=docker"],
        ["--runner=DataflowRunner"],
    ],
)
def test_what_workers_cannot_see_is_refused(flags):
    with pytest.raises(
        InputError, match=r"^--out out.parquet: .* don't see this machine's files; name a place of a store"
    ):
        for_workers(parse_flags(flags), "--out", "out.parquet")
    assert for_workers(parse_flags(flags), "--out", "s3://bucket/out.parquet") == "s3://bucket/out.parquet"


class Refusing(beam.DoFn):
    @noted
    def process(self, element):
        yield element
        raise InputError(f"{element}: é isn't right")


def test_what_a_worker_finds_wrong_is_noted_where_the_driver_looks(tmp_path):
    notes = Notes(str(tmp_path))
    (tmp_path / "mistake.txt").write_text("of an earlier run")
    pipeline = beam.Pipeline()
    step = Refusing()
    _ = pipeline | beam.Create(["one"]) | beam.ParDo(step)
    notes.take_from(pipeline)
    assert notes.read() is None
    with pytest.raises(InputError, match="one: é isn't right"):
        list(step.process("one"))
    assert notes.read() == "one: é isn't right"
    notes.forget()
    assert notes.read() is None


class JobManager(BaseHTTPRequestHandler):
    """Flink's REST interface, as far as a job is cancelled by it, and its faults are told."""

    def do_GET(self):
        if self.path.startswith("/jobs/") and self.path.endswith("/exceptions"):
            faults = self.server.faults if self.path == "/jobs/4/exceptions" else ["of another"]
            # The newest comes first.
            entries = [{"stacktrace": text} for text in reversed(faults)]
            self._answer(200, {"exceptionHistory": {"entries": entries}})
            return
        jobs = [
            ("1", "mine", "RUNNING", 1),
            ("4", "mine", "RESTARTING", 9),
            ("2", "mine", "FINISHED", 2),
            ("3", "other", "RUNNING", 10),
        ]
        names = ("jid", "name", "state", "start-time")
        self._answer(200, {"jobs": [dict(zip(names, job)) for job in jobs]})

    def do_PATCH(self):
        self.server.cancelled.append(self.path)
        self._answer(202, {})

    def _answer(self, status, value):
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps(value).encode())

    def log_message(self, *_):
        pass


class Lost:
    """A running pipeline whose job server is gone."""

    def cancel(self):
        raise grpc.RpcError


@contextmanager
def job_manager(faults=()):
    """A job manager whose job has had these faults, and where it listens."""
    with ThreadingHTTPServer(("127.0.0.1", 0), JobManager) as server:
        server.cancelled, server.faults = [], faults
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server, f"127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def test_a_job_is_cancelled_on_flink_by_its_name():
    with job_manager() as (server, master):
        options = parse_flags(["--runner=FlinkRunner", f"--flink_master={master}", "--job_name=mine"])
        assert master_and_name(options) == (master, "mine")
        cancel(Lost(), *master_and_name(options))
        assert not is_lost(master)
    assert server.cancelled == ["/jobs/1?mode=cancel", "/jobs/4?mode=cancel"]
    # Nothing listens there any more.
    cancel(Lost(), master, "mine")
    assert is_lost(master)
    assert not is_lost(None)


def fail(master, said):
    """Runs a pipeline named mine on a runner that fails with these words."""

    class Fails(PipelineRunner):
        def run_pipeline(self, pipeline, options):
            raise RuntimeError(said)

    flags = ["--runner=FlinkRunner", f"--flink_master={master}", "--job_name=mine"]
    pipeline = beam.Pipeline(runner=Fails(), options=parse_flags(flags))
    _ = pipeline | beam.Create([1])
    run_to_end(pipeline)


def test_a_lost_job_manager_is_named():
    """The job server itself says how often it has asked."""
    with pytest.raises(
        PipelineFailed, match=r"^Flink's job manager at 127\.0\.0\.1:1 doesn't answer, and a job that it ran"
    ):
        fail("127.0.0.1:1", "a page of retries")


@pytest.mark.parametrize(
    ("first", "told"),
    [
        (
            "java.lang.OutOfMemoryError: Direct buffer memory. This can mean two things\n\tat java.nio",
            "a task manager of Flink's has too little direct memory for what it sends to Python: give it more "
            "(taskmanager.memory.task.off-heap.size) (Direct buffer memory)",
        ),
        (
            "java.io.IOException: No space left on device\n\tat java.io",
            "a disk of the engine's is full: make room where its machines write shuffles and jars (Flink's "
            "io.tmp.dirs, Spark's spark.local.dir), or for the output (No space left on device)",
        ),
        (
            "org.apache.flink.runtime.jobmaster.JobMasterException: TaskManager with id one is no longer reachable.",
            "a task manager of Flink's is gone, and its log says why: its machine was lost, or its memory was full "
            "(taskmanager.memory.task.heap.size) (is no longer reachable)",
        ),
        (
            "java.lang.LinkageError: loader",
            "java.lang.IllegalStateException: call is closed; the first fault was java.lang.LinkageError: loader",
        ),
        ("java.lang.IllegalStateException: call is closed", "java.lang.IllegalStateException: call is closed"),
    ],
)
def test_what_went_wrong_first_is_told(first, told):
    """Beam's job server tells the fault of the last attempt, which is often the consequence of another."""
    last = "java.lang.IllegalStateException: call is closed"
    with job_manager([first, last]) as (_, master), pytest.raises(PipelineFailed) as failed:
        fail(master, f"Pipeline failed in state FAILED:\n{last}")
    assert str(failed.value) == told


def test_jobs_have_names_of_their_own():
    found = {master_and_name(parse_flags(["--runner=FlinkRunner"])) for _ in range(2)}
    assert len(found) == 2
    assert {master for master, _ in found} == {None}
