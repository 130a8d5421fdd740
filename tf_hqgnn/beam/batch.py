"""Top-k for all users at once: from a SavedModel and a list of users to sharded files, by a Beam pipeline."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems
from apache_beam.ml.inference.base import RunInference
from apache_beam.options.pipeline_options import PipelineOptions

from tf_hqgnn.beam.flags import hangs_without_workers, make_runner, parse_flags
from tf_hqgnn.beam.model_handler import RecommendHandler
from tf_hqgnn.beam.places import alone, for_tensorflow, for_workers, reach
from tf_hqgnn.beam.plan import Plan, make_plan
from tf_hqgnn.beam.running import PipelineFailed, run_to_end
from tf_hqgnn.beam.shards import GatherShard, ToShards
from tf_hqgnn.beam.sinks import WriteShard, delete_folder, read_json, shard_path, sync_local, write_bytes
from tf_hqgnn.beam.supervisor import run_supervised
from tf_hqgnn.beam.users import ALL, ReadUsers, find_sources
from tf_hqgnn.data.input_file import paths_of

_READ = "read.json"
_POLL_SECONDS = 2.0


@dataclass(frozen=True)
class BatchReport:
    """What became of the users. `users_in` is `rows` plus all that `rejected` counts.

    Args:
      users_in: rows of the input.
      rows: users with an answer.
      known_users: those of them whom the model knows; the others got popular items.
      rejected: how many rows have no answer, for each reason.
      files: of the output.
      seconds: of the last run; what an interrupted one did before isn't in it.
    """

    users_in: int
    rows: int
    known_users: int
    rejected: dict[str, int]
    files: list[str]
    seconds: float


def batch(
    model: str, users: str, out: str, flags: Sequence[str] = (), say: Callable[[str], None] = print, **settings: Any
) -> BatchReport:
    """Recommends to every user and writes `OUT-00000-of-0000N.parquet` (or .tfrecord), then `OUT.report.json`.

    Readers that wait for the report never see a part of the output: shards are written into `OUT.partial`, renamed
    when all of them are done, and the report comes last. After a crash the same call does the shards that are missing.

    Args:
      model: folder of an exported SavedModel, of either kind.
      users: file (or pattern) with an id a line, or .csv or .parquet with a column `user_id`; "all" for the model's.
      out: name that ends in .parquet or .tfrecord.
      flags: of Apache Beam: the runner and its options.
      say: shows a line of progress.
      settings: `k`, `exclude`, `num_shards`, `reject_unknown`, `batch_size`, `tf_threads`,
        `user_features`, `candidates`, `allow_seen`, `category`, `exclude_category`, `diversity`, `popularity`,
        `histories`, `score`, `explain`, `similar_users`, as of `make_plan`.

    Raises:
      InputError: See `make_plan` and `parse_flags`.
      PipelineFailed: The runner gave up, or the counts don't add up.
    """
    start = time.monotonic()
    options = parse_flags(flags)
    model = for_tensorflow("--model", for_workers(options, "--model", model))
    out = reach("--out", for_workers(options, "--out", out), is_output=True)
    users = users if users == ALL else reach("--users", for_workers(options, "--users", users))
    for name in ("user_features", "histories", "score"):
        if settings.get(name) is not None:
            option = f"--{name.replace('_', '-')}"
            settings[name] = ",".join(for_workers(options, option, str(path)) for path in paths_of(settings[name]))
    with alone(out):
        plan = make_plan(model, users, out, **settings)
        plan.save()
        done = plan.done()
        if done:
            say(f"batch: {len(done)} of {plan.num_shards} shards are done already")
        with _Progress(plan, say):
            if len(done) < plan.num_shards or not FileSystems.exists(FileSystems.join(plan.folder, _READ)):
                if hangs_without_workers(options):
                    left = lambda: f"{len(plan.missing())} shards"  # noqa: E731
                    run_supervised("batch", plan.folder, flags, left, say)
                else:
                    run_pipeline(plan, options)
        return commit(plan, time.monotonic() - start)


def run_pipeline(plan: Plan, options: PipelineOptions) -> None:
    """Writes the shards of `plan` that are missing; raises what `run_to_end` does."""
    pipeline = beam.Pipeline(runner=make_runner(options), options=options)
    build(pipeline, plan)
    run_to_end(pipeline, plan.folder)


def run_folder(folder: str, options: PipelineOptions) -> None:
    """Does the same for the plan that was saved in a folder."""
    run_pipeline(Plan.load(folder), options)


def build(pipeline: beam.Pipeline, plan: Plan) -> None:
    """Adds the whole run to `pipeline`."""
    todo = plan.missing()
    sources, _ = find_sources(plan.users, plan.input_paths, plan.model)
    logs = plan.user_features, plan.histories, plan.score, plan.explain
    handler = RecommendHandler(plan.model, plan.question, plan.batch_size, plan.tf_threads, *logs, plan.similar_users)
    read = (
        pipeline
        | "Sources" >> beam.Create(sources)
        | "EachOnItsWorker" >> beam.Reshuffle()
        | "ReadUsers" >> beam.ParDo(ReadUsers())
        | "ToShards" >> beam.ParDo(ToShards(plan.num_shards, todo)).with_outputs(ToShards.COUNT, main="rows")
    )
    _ = (
        read[ToShards.COUNT]
        | "CountRows" >> beam.CombineGlobally(sum)
        | "WriteCount" >> beam.Map(_write_count, FileSystems.join(plan.folder, _READ))
    )
    # A shard of which no user is must be written, too.
    every_shard = pipeline | "EveryShard" >> beam.Create([(shard, b"") for shard in sorted(todo)])
    _ = (
        (read.rows, every_shard)
        | beam.Flatten()
        | "ByShard" >> beam.GroupByKey()
        | "Gather" >> beam.ParDo(GatherShard())
        | "Recommend" >> RunInference(handler)
        | "Write" >> beam.ParDo(WriteShard(plan.folder, plan.suffix, plan.reject_unknown, plan.input_paths))
    )


def commit(plan: Plan, seconds: float) -> BatchReport:
    """Gives finished shards their names, and writes the report; may be called again where it was interrupted.

    Raises:
      PipelineFailed: A shard is missing, or users are.
    """
    missing = plan.missing()
    if missing:
        raise PipelineFailed(
            f"{len(missing)} of {plan.num_shards} shards are missing in {plan.folder}: all workers must see this folder"
        )
    manifests = [read_json(shard_path(plan.folder, shard) + ".json") for shard in range(plan.num_shards)]
    rejected: Counter[str] = sum((Counter(manifest["rejected"]) for manifest in manifests), Counter())
    report = BatchReport(
        users_in=read_json(FileSystems.join(plan.folder, _READ)),
        rows=sum(manifest["rows"] for manifest in manifests),
        known_users=sum(manifest["known_users"] for manifest in manifests),
        rejected=dict(sorted(rejected.items())),
        files=[plan.shard(shard) for shard in range(plan.num_shards)],
        seconds=round(seconds, 3),
    )
    if report.users_in != report.rows + rejected.total():
        raise PipelineFailed(
            f"{report.users_in:,} users were read, but {report.rows:,} answered and {rejected.total():,} rejected: "
            f"delete {plan.folder} and run the command again"
        )
    with_rejected = [shard for shard, manifest in enumerate(manifests) if manifest["rejected"]]
    if with_rejected:
        _join([shard_path(plan.folder, shard) + ".rejected" for shard in with_rejected], plan)
    for shard, path in enumerate(report.files):
        waiting = shard_path(plan.folder, shard) + plan.suffix
        # It isn't, if an interrupted commit came that far.
        if FileSystems.exists(waiting):
            FileSystems.rename([waiting], [path])
    settings = {"model": plan.model, "users": plan.users, "k": plan.k, "model_sha256": plan.model_hash}
    sync_local([*report.files, *([plan.rejected_path] if with_rejected else [])])
    write_bytes(plan.report_path, json.dumps({**settings, **vars(report)}, indent=1).encode())
    delete_folder(plan.folder)
    return report


def _join(parts: list[str], plan: Plan) -> None:
    """All rejected rows in one file."""
    temporary = FileSystems.join(plan.folder, "rejected.tmp")
    with FileSystems.create(temporary, compression_type=CompressionTypes.UNCOMPRESSED) as out:
        for part in parts:
            with FileSystems.open(part, compression_type=CompressionTypes.UNCOMPRESSED) as file:
                while block := file.read(1 << 22):
                    out.write(block)
    FileSystems.rename([temporary], [plan.rejected_path])


def _write_count(count: int, path: str) -> None:
    write_bytes(path, json.dumps(count).encode())


class _Progress:
    """Says every few seconds how far a run is, from the manifests: they are there whatever the runner."""

    def __init__(self, plan: Plan, say: Callable[[str], None]) -> None:
        self._plan = plan
        self._say = say
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        before = known = self._plan.done()
        start, num_users = time.monotonic(), 0
        while not self._stop.wait(_POLL_SECONDS):
            done = self._plan.done()
            if done == known:
                continue
            num_users += sum(
                read_json(shard_path(self._plan.folder, shard) + ".json")["rows"] for shard in done - known
            )
            known = done
            rate = num_users / (time.monotonic() - start)
            self._say(
                f"batch: {len(done)} of {self._plan.num_shards} shards, {num_users:,} users"
                f"{' since the restart' if before else ''}, {rate:,.0f} a second"
            )
