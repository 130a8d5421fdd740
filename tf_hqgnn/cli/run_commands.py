"""The commands that make runs and look at them: `train`, `tune`, `evaluate` and `compare`."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tf_hqgnn.cli.beam_options import print_plan, train_by_runner
from tf_hqgnn.cli.run_output import print_comparison, print_evaluation, print_read, print_trained, print_tuned
from tf_hqgnn.cli.source_options import JsonOption, RunArgument
from tf_hqgnn.logs import start_xla
from tf_hqgnn.types import InputError

if TYPE_CHECKING:
    from tf_hqgnn.training.train import TrainResult

ConfigArgument = Annotated[
    str, typer.Argument(metavar="[PRESET|CONFIG.yaml]", help="Name of a preset, such as auto, or a file of settings.")
]


def train(
    context: typer.Context,
    out: Annotated[Path, typer.Option(metavar="RUN_DIR", help="Run directory to make; it must not exist.")],
    config: ConfigArgument = "auto",
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Override a setting; repeatable.")
    ] = None,
    seconds: Annotated[
        float | None,
        typer.Option(
            min=1, help="Seconds that choosing settings and training may take together (the setting auto.seconds)."
        ),
    ] = None,
    resume: Annotated[bool, typer.Option(help="Continue an interrupted run.")] = False,
    runner: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Runner of Apache Beam, such as FlinkRunner, for logs beyond one machine's memory. Other options are "
            "then passed to Beam.",
        ),
    ] = None,
    recommendations: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER",
            help="With --runner: folder to write the best items of all users to, as Parquet.",
        ),
    ] = None,
    plan: Annotated[
        bool,
        typer.Option(
            "--plan",
            help="Print how many machines, hours and bytes a training by --runner will take, and train nothing.",
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Train a model on a log and write it to a run directory.

    Prints validation metrics as a table on a terminal, and as one JSON object otherwise. To train on several machines
    (training.strategy=multi_worker), start the same command on each of them, with --resume from the first start on, so
    that a worker that is started again continues. Only worker 0, the chief, writes RUN_DIR.
    """
    from tf_hqgnn.config import Config
    from tf_hqgnn.config.presets import find_config

    budget = () if seconds is None else (f"auto.seconds={seconds}",)
    settings = Config.load(find_config(config), (*(overrides or ()), *budget))
    if budget and not settings.auto.race:
        raise InputError(
            f"--seconds limits the race that chooses settings, and {config} has none; leave it out, or train auto"
        )
    if plan:
        print_plan(settings)
        return
    if runner is not None:
        _print_result(
            train_by_runner(settings, out, [f"--runner={runner}", *context.args], resume, recommendations), as_json
        )
        return
    if recommendations is not None:
        raise InputError("--recommendations goes with --runner; without it, export the run and give it to batch")
    from tf_hqgnn.data.loading import load_dataset
    from tf_hqgnn.report.page import report_hook
    from tf_hqgnn.training.distribution import from_chief, is_chief, make_strategy, watch_workers
    from tf_hqgnn.training.run_folder import check_out
    from tf_hqgnn.training.train import train

    strategy = make_strategy(settings.training.strategy)
    with watch_workers(strategy):
        from_chief(strategy, lambda: check_out(out, resume))
    dataset = load_dataset(settings.data, settings.seed)
    print_read(dataset.report)
    sizes = [len(part) for part in (dataset.train, dataset.valid, dataset.test)]
    print(
        f"{dataset.num_users} users, {dataset.num_items} items; interactions: "
        f"{sizes[0]} train, {sizes[1]} valid, {sizes[2]} test",
        file=sys.stderr,
    )
    start_xla()
    result = train(dataset, settings, out, resume, (report_hook,), strategy=strategy)
    if is_chief(strategy):
        _print_result(result, as_json)


def tune(
    out: Annotated[Path, typer.Option(metavar="DIR", help="Directory of the study; gets best.yaml and report.html.")],
    config: ConfigArgument = "default",
    trials: Annotated[int, typer.Option(min=1, help="Number of trainings, failed and earlier ones included.")] = 20,
    jobs: Annotated[int, typer.Option(min=1, help="Trainings that run at once, each in a process of its own.")] = 1,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Override a setting; repeatable.")
    ] = None,
    resume: Annotated[bool, typer.Option(help="Continue an interrupted study, or one that gets more trials.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Search for better settings by training many times; the best ones are written to best.yaml.

    Trials are compared by evaluation.monitor (NDCG@20) on the validation split, with float32 embeddings. The first
    trial has the settings as they are given. The propagation needs no trials, since every training ends with a search
    over it.
    """
    from tf_hqgnn.config import Config
    from tf_hqgnn.config.presets import find_config

    settings = Config.load(find_config(config), tuple(overrides or ()))
    from tf_hqgnn.tuning.search import check_tune, tune

    check_tune(settings, out, resume)
    from tf_hqgnn.data.loading import load_dataset

    dataset = load_dataset(settings.data, settings.seed)
    print_read(dataset.report)
    start_xla()
    result = tune(dataset, settings, out, trials, jobs, resume, shlex.join(["tf-hqgnn", *sys.argv[1:]]))
    from tf_hqgnn.report.study import study_hook

    study_hook(result, settings)
    print_tuned(settings, result, as_json)


def evaluate(
    run_dir: RunArgument,
    split: Annotated[str, typer.Option(metavar="valid|test", help="Split to evaluate on.")] = "test",
    k: Annotated[
        str, typer.Option(metavar="K,K,...", help="Cut-offs of the metrics, such as the 20 of NDCG@20.")
    ] = "10,20,50",
    as_json: JsonOption = False,
) -> None:
    """Measure a run on held-out data: rank all items for every user, and compare with recommending popular items."""
    if split not in ("valid", "test"):
        raise InputError(f"--split {split}: expected valid or test")
    from tf_hqgnn.runs.run_directory import RunDirectory

    ks = _cut_offs(k)
    run = RunDirectory.load(run_dir)
    found = run.evaluate(split, ks)
    print_evaluation(split, found, run.coded, as_json)
    if run.metrics.get("refit"):
        print(run.metrics["refit"]["note"], file=sys.stderr)


def compare(
    first: Annotated[Path, typer.Argument(metavar="RUN_DIR", help="A finished run of `tf-hqgnn train`.")],
    second: Annotated[Path, typer.Argument(metavar="RUN_DIR", help="Another finished run.")],
    as_json: JsonOption = False,
) -> None:
    """Show two runs side by side: settings that differ, validation metrics, seconds and bytes."""
    from tf_hqgnn.report.comparison import compare_runs
    from tf_hqgnn.runs.run_directory import RunDirectory

    print_comparison(compare_runs(RunDirectory.load(first), RunDirectory.load(second)), as_json)


def _print_result(result: TrainResult, as_json: bool) -> None:
    print_trained(result, as_json)
    if result.warning is not None:
        print(f"tf-hqgnn: {result.warning}", file=sys.stderr)


def _cut_offs(text: str) -> tuple[int, ...]:
    try:
        ks = tuple(sorted({int(part) for part in text.split(",")}))
    except ValueError as error:
        raise InputError(f"--k {text}: expected whole numbers separated by commas, such as 10,20,50") from error
    if ks[0] < 1:
        raise InputError(f"--k {text}: every cut-off must be at least 1")
    return ks
