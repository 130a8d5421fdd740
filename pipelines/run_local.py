"""Runs the pipeline on this machine: `tf-hqgnn pipeline run --data FILE --out DIR`, or this module by `python -m`.

Exit codes: 0 the model was pushed, 1 it was not, or something failed, 2 wrong usage or bad input (one line says what),
130 interrupted.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tf_hqgnn.beam.quiet import beam_imported_quietly
from tf_hqgnn.cli import pipeline as commands
from tf_hqgnn.cli.terminal import printable
from tf_hqgnn.config import Config
from tf_hqgnn.data.input_file import paths_of
from tf_hqgnn.data.named_inputs import fingerprint as fingerprint_inputs
from tf_hqgnn.data.named_inputs import refuse_stores_of
from tf_hqgnn.export.layout import MODEL_NAMES
from tf_hqgnn.export.versions import versions
from tf_hqgnn.files.lock import locked
from tf_hqgnn.files.scratch import scratch_folder
from tf_hqgnn.logs import progress_on_stderr, start_xla
from tf_hqgnn.tfx.model_store import pointer_path, read_pointer
from tf_hqgnn.tfx.thresholds import METRIC, advice, lift
from tf_hqgnn.types import InputError

from .options import read_config, read_thresholds
from .progress import ProgressHandler, quieten_tfx, show_progress

PIPELINE_NAME = "tf_hqgnn"


@dataclass(frozen=True)
class Layout:
    """Where a run puts things under its `--out`.

    Args:
      out: the folder.
    """

    out: Path

    @property
    def serving(self) -> Path:
        """One folder per model, nothing else: what `tf-hqgnn serve` is given."""
        return self.out / "serving"

    @property
    def model_store(self) -> Path:
        """The pointer to the last blessed model."""
        return self.out / "model_store"

    @property
    def artifacts(self) -> Path:
        """TFX's pipeline root."""
        return self.out / "pipeline"

    @property
    def metadata(self) -> Path:
        """ML Metadata's SQLite file."""
        return self.out / "metadata.sqlite"


def main(arguments: Sequence[str] | None = None) -> int:
    """Parses as `tf-hqgnn pipeline run` does, runs, reports; returns the exit code."""
    return commands.main("run", Path(__file__).parent, arguments)


def execute(options: argparse.Namespace) -> int:
    """Runs the pipeline with the options of `tf-hqgnn pipeline run`; returns the exit code.

    Raises:
      InputError: A file or a setting is wrong.
    """
    terminate = signal.signal(signal.SIGTERM, _interrupt)
    try:
        with progress_on_stderr():
            return run(options)
    except KeyboardInterrupt:
        print("\nstopped; nothing was pushed by this run; the same command goes on where it can", file=sys.stderr)
        sys.stdout.flush()
        # Not sys.exit: it would wait for the threads of a Beam pipeline that nobody waits for any more.
        os._exit(130)
    finally:
        signal.signal(signal.SIGTERM, terminate)


def run(options: argparse.Namespace) -> int:
    """Runs the pipeline; returns 0 if the model was pushed, 1 if not.

    Raises:
      InputError: A file or a setting is wrong.
    """
    config = _configure(options)
    thresholds = read_thresholds(options)
    beam_args = _beam_arguments(options.beam_flags)
    layout = Layout(Path(options.out).absolute())
    started = time.monotonic()
    with _locked(layout.out), scratch_folder():
        fingerprint = fingerprint_inputs(config.data)
        state = store_state(layout, f"{fingerprint}\n{config.to_yaml()}\n{thresholds.model_dump_json()}")
        # Imported this late because it takes seconds, which a mistyped path shouldn't.
        quieten_tfx()
        start_xla()
        from tfx.orchestration.local.local_dag_runner import LocalDagRunner

        from .pipeline import create_pipeline
        from .run_record import RunRecord, sqlite_config

        pipeline = create_pipeline(
            pipeline_name=PIPELINE_NAME,
            pipeline_root=str(layout.artifacts),
            config=config,
            thresholds=thresholds,
            serving_dir=str(layout.serving),
            model_store=str(layout.model_store),
            input_fingerprint=fingerprint,
            store_state=state,
            schema_path=_keep_schema(options.schema, layout) if options.schema else "",
            metadata_connection_config=sqlite_config(layout.metadata),
            beam_pipeline_args=beam_args,
            enable_cache=not options.no_cache,
            keep=options.keep,
            model_config_file=str(Path(options.model_config_file).absolute()) if options.model_config_file else "",
        )
        with show_progress(ProgressHandler(len(pipeline.components))), _no_arguments(), _cancelled_by_ctrl_c(beam_args):
            LocalDagRunner().run(pipeline)
        return _summarize(RunRecord.latest(layout.metadata), layout, time.monotonic() - started)


def latest_run(out: Path) -> Path:
    """The run directory of the training that the last pipeline run in `out` used."""
    from tf_hqgnn.tfx.trainer import run_path

    from .run_record import RunRecord

    return run_path(str(RunRecord.latest(Layout(Path(out).absolute()).metadata).uri("Trainer", "model_run")))


def store_state(layout: Layout, inputs: str) -> str:
    """A word that changes when a cached verdict or push would no longer hold.

    A run that would repeat the one behind the pointer, its versions still in place, gets that run's word, and with it
    TFX's cache. Any other gets one that depends on the pointer and on the versions that are there: its candidate must
    be compared with the model that is blessed now, and pushed, whatever happened in an earlier run of the same inputs.

    Args:
      layout: of the run.
      inputs: everything else that the run depends on.
    """
    key = hashlib.sha256(inputs.encode()).hexdigest()[:16]
    pointer = read_pointer(layout.model_store)
    if pointer:
        state: str = pointer["store_state"]
        if state.startswith(f"{key}-") and all(Path(folder).is_dir() for folder in pointer["models"].values()):
            return state
    path = pointer_path(layout.model_store)
    digest = hashlib.sha256(path.read_bytes() if path.is_file() else b"")
    digest.update(json.dumps([versions(layout.serving / name) for name in MODEL_NAMES]).encode())
    return f"{key}-{digest.hexdigest()[:16]}"


def _configure(options: argparse.Namespace) -> Config:
    config = read_config(options)
    data = config.data
    if options.data and data.train_path:
        raise InputError("--data and data.train_path both name a log; give one of them")
    given: dict[str, Any] = {"path": options.data or data.path}
    given |= {name: getattr(data, name) for name in ("train_path", "valid_path", "test_path", "quarantine_path")}
    if not (given["path"] or given["train_path"]):
        raise InputError("no log to read; give --data FILE, or data.path in the config")
    # Before they become absolute; those of the options were looked at already.
    refuse_stores_of(data)
    # TFX's cache compares these: without "..", and with links as they were named, as pathlib can't give them.
    absolute = {name: os.path.abspath(path) if path else None for name, path in given.items()}  # noqa: PTH100
    for name, about in (("items_path", options.items), ("users_path", options.users)):
        if path := about or getattr(data, name):
            absolute[name] = ",".join(os.path.abspath(one) for one in paths_of(path))  # noqa: PTH100
    return config.model_copy(update={"data": data.model_copy(update=absolute)})


def _keep_schema(path: str, layout: Layout) -> str:
    """Copies the schema to a name that changes with its content: TFX's cache looks at nothing but the name."""
    from tf_hqgnn.tfx.schema_gate import check_schema

    check_schema(Path(path))
    content = Path(path).read_bytes()
    kept = layout.out / "schemas" / f"{hashlib.sha256(content).hexdigest()[:16]}.pbtxt"
    kept.parent.mkdir(exist_ok=True)
    kept.write_bytes(content)
    return str(kept)


@contextmanager
def _locked(out: Path) -> Iterator[None]:
    """Keeps a second run out of the folder; the lock goes with the process, however it ends."""
    with ExitStack() as held:
        try:
            held.enter_context(
                locked(out / ".lock", f"--out {out}: another run is using it; wait for it, or choose another folder")
            )
        except OSError as error:
            reason = error.strerror or error
            raise InputError(f"--out {out}: {reason}; expected a folder that can be written") from error
        yield


def _beam_arguments(flags: Sequence[str]) -> list[str]:
    """Beam's options for the components; without any, Beam runs in this process, which needs none."""
    if not flags:
        return []
    with beam_imported_quietly():
        from tf_hqgnn.tfx.beam_args import beam_arguments
    return beam_arguments(flags)


@contextmanager
def _cancelled_by_ctrl_c(beam_args: Sequence[str]) -> Iterator[None]:
    """A job on a cluster would go on when its component here is gone."""
    try:
        yield
    except KeyboardInterrupt:
        if beam_args:
            from tf_hqgnn.tfx.beam_args import cancel_jobs

            cancel_jobs(beam_args)
        raise


@contextmanager
def _no_arguments() -> Iterator[None]:
    """TFX hands sys.argv to absl's flags, some of which have names that a caller's options may have, too."""
    arguments = sys.argv
    sys.argv = arguments[:1]
    try:
        yield
    finally:
        sys.argv = arguments


def _interrupt(_number: int, _frame: Any) -> None:
    raise KeyboardInterrupt


def _summarize(record: Any, layout: Layout, seconds: float) -> int:
    from tf_hqgnn.tfx.catalogue import read_report
    from tf_hqgnn.tfx.ranking_evaluator import METRICS_FILE
    from tf_hqgnn.tfx.trainer import run_path
    from tf_hqgnn.training.advice import below_popularity

    report = read_report(record.uri("InteractionGen", "report"))
    figures = json.loads((record.uri("RankingEvaluator", "evaluation") / METRICS_FILE).read_text(encoding="utf-8"))
    print(f"\n{report['text']}")
    print(
        f"{report['num_users']:,} users, {report['num_items']:,} items; "
        f"train {report['train']:,}, valid {report['valid']:,}, test {report['test']:,} interactions"
    )
    metrics_path = run_path(str(record.uri("Trainer", "model_run"))) / "metrics.json"
    training = json.loads(metrics_path.read_text(encoding="utf-8"))
    kept = training["warm_start"]
    start = f"warm, {kept['kept_users']:,} users and {kept['kept_items']:,} items kept their rows" if kept else "cold"
    print(f"trained {training['epochs']} epochs in {training['seconds']:.0f} s; start: {start}")
    if figures["num_users"]:
        print(f"\n{'test, ' + format(figures['num_users'], ',') + ' users':<20}      model  with ScaNN  popularity")
        for name in (name for name in figures["metrics"] if name.endswith("@20")):
            values = (figures[ranking][name] for ranking in ("metrics", "ann_metrics", "popularity"))
            print(f"  {name:<18}" + "".join(f"{value:11.4f}" for value in values))
        print(
            f"  {lift(figures['metrics'], figures['popularity']):.2f} times the NDCG@20 of popularity; ScaNN finds "
            f"{figures['ann_recall@20']:.1%} of the exact first 20; {figures['baseline']}"
        )
        compared = figures.get("comparison", {}).get("slices", [])
        if compared:
            print(f"\n{'ndcg@20 by slice':<58} users      model  last blessed")
            for part in compared:
                ndcgs = f"{part['ndcg']:11.4f}{part['baseline_ndcg'] or 0:14.4f}"
                print(f"  {printable(part['name']):<55}{part['num_users']:6,}{ndcgs}")
    refit = figures.get("refit")
    if refit is not None:
        print(f"\n{refit['note']}")
    worse = below_popularity(figures["metrics"], figures.get("popularity", {}), METRIC, "test")
    if not record.property("Pusher", "pushed_model", "pushed"):
        reason = record.property("Pusher", "pushed_model", "reason")
        print(f"\nnot pushed after {seconds:.0f} s: {reason}\n{_what_stays(layout)}{advice(reason)}")
        if worse is not None:
            print(worse)
        return 1
    print(f"\npushed after {seconds:.0f} s:")
    for output in ("pushed_model", "pushed_index"):
        print(f"  {record.property('Pusher', output, 'pushed_destination')}")
    print(f"  training run: {record.uri('Trainer', 'model_run') / 'run'}\nserve them: tf-hqgnn serve {layout.serving}")
    if worse is not None:
        print(worse)
    return 0


def _what_stays(layout: Layout) -> str:
    """What is served where nothing was pushed."""
    pointer = read_pointer(layout.model_store)
    if pointer is None:
        return "Nothing is served yet."
    return f"Version {Path(next(iter(pointer['models'].values()))).name} stays served."


if __name__ == "__main__":
    sys.exit(main())
